from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from jobs.sfm import fisheye
from jobs.sfm.layout import with_cameras

SIZE = (640, 480)


def photographed(lens: str, params: list[float], noise: float = 0.3) -> pycolmap.Reconstruction:
    """Return ten photos of points in front of a lens, with noise in px. Each photo has camera 1."""
    rng = np.random.default_rng(1)
    camera = pycolmap.Camera(camera_id=1, model=lens, width=SIZE[0], height=SIZE[1], params=params)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    points = np.column_stack([rng.uniform(-8, 8, 900), rng.uniform(-6, 6, 900), rng.uniform(1.5, 6, 900)])
    tracks: dict[int, list[tuple[int, int]]] = {}
    for number in range(1, 11):
        turn = pycolmap.Rotation3d(rng.normal(0, 0.1, 3))
        pose = pycolmap.Rigid3d(turn, turn * -np.array([0.4 * (number - 5), rng.normal(0, 0.3), rng.normal(0, 0.3)]))
        local = points @ pose.rotation.matrix().T + pose.translation
        seen = local[:, 2] > 0.3
        at = np.full((len(points), 2), -1.0)
        at[seen] = [camera.img_from_cam(each) for each in local[seen]]
        shown = np.flatnonzero(((at > 0) & (at < SIZE)).all(axis=1) & seen)
        image = pycolmap.Image(name=f"{number}.pgm", camera_id=1, image_id=number)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(at[k] + rng.normal(0, noise, 2)) for k in shown])
        model.add_image_with_trivial_frame(image, pose)
        for place, point in enumerate(shown):
            tracks.setdefault(int(point), []).append((number, place))
    for point, elements in tracks.items():
        if len(elements) > 2:
            model.add_point3D(points[point], pycolmap.Track([pycolmap.TrackElement(*each) for each in elements]))
    assert model.num_points3D() > 200
    return model


def taken_for(model: pycolmap.Reconstruction, lens: str) -> pycolmap.Reconstruction:
    """Return the same photos with a lens of the other kind, of the same focal length."""
    focal = model.cameras[1].mean_focal_length()
    other = pycolmap.Camera.create_from_model_name(1, lens, focal, *SIZE)
    return with_cameras(model, lambda _: (other, 0))


@pytest.mark.parametrize("lens", ["OPENCV", "SIMPLE_RADIAL"])
def test_a_fisheye_is_recognised_with_its_focal_length(lens: str) -> None:
    model = taken_for(photographed("OPENCV_FISHEYE", [280, 280, 320, 240, 0, 0, 0, 0]), lens)
    before = list(model.cameras[1].params)
    found = fisheye.focal_lengths(model, threads=1)
    assert found and found[1] == pytest.approx(280 / 800, rel=0.01)
    assert list(model.cameras[1].params) == before


def test_a_wide_lens_without_the_fisheyes_curve_is_none() -> None:
    assert fisheye.focal_lengths(photographed("OPENCV", [300, 300, 320, 240, -0.05, 0.005, 0, 0]), threads=1) is None


def test_other_lenses_are_not_tried() -> None:
    model = taken_for(photographed("OPENCV_FISHEYE", [480, 480, 320, 240, 0, 0, 0, 0]), "OPENCV")
    assert not fisheye.wide(model) and fisheye.focal_lengths(model, threads=1) is None
    assert not fisheye.wide(None)
