from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pycolmap
import pytest

from jobs.geometry import fit_similarity, rotation_angles
from jobs.sfm import refinement

FOCAL, MIDDLE, POINT = 900.0, (512, 384), (527, 372)


def scene(photos: int, wrong: float = 0.03, principal: tuple[int, int] = POINT, noise: float = 0.4) -> Any:
    """Return a true reconstruction: a lens with a principal point, points with noise, and wrong matches."""
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=photos, num_points3D=400)
    options.camera_model_id = pycolmap.CameraModelId.OPENCV
    options.camera_params = [FOCAL, FOCAL, *principal, 0.02, -0.01, 0, 0]
    model = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            far = point.has_point3D() and rng.random() < wrong
            point.xy = point.xy + rng.normal(0, 15 if far else noise, 2)
    return model


def with_the_point_in_the_middle(model: Any) -> Any:
    """Return the reconstruction as COLMAP's mappers leave it."""
    model = copy.deepcopy(model)
    camera = model.cameras[1]
    camera.params = [*camera.params[:2], *MIDDLE, *camera.params[4:]]
    refinement.adjust(model, threads=1)
    return model


def position_error(model: Any, truth: Any) -> float:
    """Return the mean distance of the camera centres to the true ones, after the best similarity."""
    centres, true = (
        np.stack([image.projection_center() for _, image in sorted(m.images.items())]) for m in (model, truth)
    )
    return float(np.linalg.norm(fit_similarity(centres, true).points(centres) - true, axis=1).mean())


def rotation_error(model: Any, truth: Any) -> float:
    """Return the mean angle to the true rotations in degrees, with the camera centres brought to the true ones."""
    poses, true = (
        np.stack([image.cam_from_world().inverse().matrix() for _, image in sorted(m.images.items())])
        for m in (model, truth)
    )
    turn = fit_similarity(poses[:, :, 3], true[:, :, 3]).rotation
    return float(rotation_angles(turn @ poses[:, :, :3], true[:, :, :3]).mean())


def test_a_principal_point_off_the_middle_is_found_in_spite_of_wrong_matches() -> None:
    truth = scene(photos=20)
    model = with_the_point_in_the_middle(truth)
    before = rotation_error(model, truth)
    assert before > 0.3
    assert refinement.refine(model, threads=1) == 1
    found = [model.cameras[1].principal_point_x, model.cameras[1].principal_point_y]
    assert found == pytest.approx(POINT, abs=3)
    assert rotation_error(model, truth) < before / 3


def test_wrong_matches_count_little() -> None:
    truth, clean = scene(photos=20), scene(photos=20, wrong=0)
    for model in (truth, clean):
        refinement.adjust(model, threads=1)
    assert rotation_error(truth, scene(photos=20)) < 2 * rotation_error(clean, scene(photos=20)) + 0.01


def test_exact_features_count_more_than_inexact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = scene(photos=8, wrong=0, noise=0.1)
    rng = np.random.default_rng(1)
    for image in truth.images.values():
        for point in image.points2D:
            point.xy = point.xy + rng.normal(0, 0.8 * (rng.random() < 0.4), 2)
    errors = []
    for of_median in (refinement._OF_MEDIAN, 100.0):
        monkeypatch.setattr(refinement, "_OF_MEDIAN", of_median)
        model = with_the_point_in_the_middle(truth)
        refinement.refine(model, threads=1)
        errors.append(position_error(model, scene(photos=8)))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("photos", [4, 8])
def test_few_photos_find_a_likely_principal_point(photos: int) -> None:
    truth = scene(photos)
    model = with_the_point_in_the_middle(truth)
    before = rotation_error(model, truth)
    assert refinement.refine(model, threads=1) == 1
    assert rotation_error(model, truth) < before / 2


def test_a_lens_that_the_photos_do_not_determine_is_a_usual_one() -> None:
    model = with_the_point_in_the_middle(scene(photos=4))
    camera = model.cameras[1]
    fitted = np.array([FOCAL, 1.02 * FOCAL, 600, 300, 0.02, -0.01, 0.01, 0.01])
    unknown = refinement._likely(camera_with(camera, fitted), np.diag(np.full(8, 1e9)), np.array(camera.params))
    assert unknown[0] == pytest.approx(unknown[1], rel=1e-3)
    assert unknown[2:4] == pytest.approx(MIDDLE, abs=0.1)
    assert unknown[6:] == pytest.approx([0, 0], abs=1e-4)
    covariance, before = np.diag(np.full(8, 1e9)), np.array(camera.params)
    from_exif = refinement._likely(camera_with(camera, fitted), covariance, before, focal=0.8)
    assert from_exif[:2].mean() == pytest.approx(0.8 * np.hypot(1024, 768), rel=1e-3)
    known = refinement._likely(camera_with(camera, fitted), np.diag(np.full(8, 1e-12)), np.array(camera.params))
    assert known == pytest.approx(fitted, rel=1e-3)


def camera_with(camera: pycolmap.Camera, params: Any) -> pycolmap.Camera:
    """Return a camera with other parameters."""
    return pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=params)


def test_focal_lengths_in_exif_count_as_far_as_the_photos_do_not_determine_them() -> None:
    changes = []
    for photos in (3, 20):
        truth = scene(photos)
        exif = 1.1 * FOCAL / float(np.hypot(1024, 768))
        lengths = []
        for focals in ({}, {str(image.name): exif for image in truth.images.values()}):
            model = with_the_point_in_the_middle(truth)
            refinement.refine(model, 1, focals)
            lengths.append(model.cameras[1].mean_focal_length())
        changes.append(lengths[1] - lengths[0])
    assert changes[0] > 20
    assert abs(changes[1]) < 2


def test_a_point_in_the_middle_stays_near_it() -> None:
    truth = scene(photos=20, principal=MIDDLE)
    model = with_the_point_in_the_middle(truth)
    assert refinement.refine(model, threads=1) == 1
    assert (model.cameras[1].principal_point_x, model.cameras[1].principal_point_y) == pytest.approx(MIDDLE, abs=2)
    assert rotation_error(model, truth) < 0.1


def test_pictures_without_a_pose_do_not_matter() -> None:
    truth = scene(photos=20)
    model = with_the_point_in_the_middle(truth)
    for image in list(model.images.values())[:3]:
        model.deregister_frame(image.frame_id)
    assert refinement.refine(model, threads=1) == 1
    assert model.num_reg_images() == 17


def test_a_point_that_runs_away_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "_FARTHEST", 0.005)
    model = with_the_point_in_the_middle(scene(photos=20))
    assert refinement.refine(model, threads=1) == 0
    assert (model.cameras[1].principal_point_x, model.cameras[1].principal_point_y) == MIDDLE


def test_points_behind_a_camera_do_not_count_in_the_error() -> None:
    model = scene(photos=8, wrong=0)
    image = model.images[1]
    behind = next(p.point3D_id for p in image.points2D if p.has_point3D())
    ahead = image.cam_from_world().rotation.matrix()[2]
    model.points3D[behind].xyz = image.projection_center() - 0.5 * ahead
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() > 1e100, "COLMAP's error of a point behind a camera"
    refinement.leave_out_impossible(model)
    assert behind not in {p.point3D_id for p in image.points2D if p.has_point3D()}
    assert model.compute_mean_reprojection_error() < 2
    assert all(image.has_pose for image in model.images.values())


def test_a_picture_that_keeps_few_possible_points_loses_its_pose() -> None:
    model = scene(photos=8, wrong=0)
    pose = model.images[3].cam_from_world()
    turned = pycolmap.Rigid3d(pycolmap.Rotation3d(np.diag([-1.0, 1.0, -1.0])), np.zeros(3)) * pose
    model.frames[model.images[3].frame_id].set_cam_from_world(model.images[3].camera_id, turned)
    assert refinement.refine(model, threads=1) == 1
    assert [number for number, image in model.images.items() if not image.has_pose] == []
    assert len(model.images) == 7 and model.compute_mean_reprojection_error() < 2
