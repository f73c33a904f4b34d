from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from jobs import facade, report
from jobs.demo.raster import Geometry
from jobs.demo.street import Visit, surfaces
from tests.true_poses import compare_poses

VISITS: tuple[Visit, ...] = ("1", "2", "3", "elsewhere")
_PHOTOS, _WIDTH, _HEIGHT = 12, 320, 180


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facade")
    command = [sys.executable, "-m", "jobs.facade", "--output", str(folder), "--photos", str(_PHOTOS)]
    done = subprocess.run(
        [*command, "--width", str(_WIDTH), "--height", str(_HEIGHT)], capture_output=True, text=True, check=True
    )
    last = report.parse(done.stdout.splitlines()[-1])
    assert isinstance(last, report.Progress)
    assert last.step == last.total == _PHOTOS
    return folder


def _truth(capture: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((capture / "truth.json").read_text())
    return truth


def test_photos_say_what_they_are(capture: Path) -> None:
    files = sorted((capture / "photos").iterdir())
    assert [f.name for f in files] == [Path(f["file_path"]).name for f in _truth(capture)["frames"]]
    assert len({f.read_bytes() for f in files}) == _PHOTOS
    for file in files:
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (_WIDTH, _HEIGHT))
            exif = image.getexif()
            assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Model]) == ("rebel-nerf", "facade")
            equivalent = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm]
        assert equivalent / 36 * _WIDTH == pytest.approx(_truth(capture)["fl_x"], rel=1e-6)


def test_the_true_poses_are_those_of_upright_cameras_before_the_houses(capture: Path) -> None:
    poses = np.array([f["transform_matrix"] for f in _truth(capture)["frames"]])
    rotations, centers = poses[:, :3, :3], poses[:, :3, 3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (_PHOTOS, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    assert (-rotations[:, 1, 2] > 0.7).all()  # OpenGL: they look along -z, towards the houses at +y
    assert (rotations[:, 2, 1] > 0.9).all()  # and +y is up
    assert (centers[:, 1] < -6).all()
    assert (centers[:, 2] > 1).all()


def test_photos_agree_with_each_other_through_the_true_poses(capture: Path) -> None:
    """What one photo shows at the true depth, its neighbour shows where truth.json says it must."""
    truth = _truth(capture)
    views = facade.cameras(_PHOTOS, _WIDTH, _HEIGHT)
    geometry = Geometry(surfaces(20))
    first, second = 5, 6
    pictures = [
        np.asarray(Image.open(capture / f["file_path"]).convert("L"), float)
        for f in truth["frames"][first : second + 1]
    ]
    depths = [1 / np.maximum(geometry.rasterize(views[i])[0], 1e-9) for i in (first, second)]
    poses = [np.array(truth["frames"][i]["transform_matrix"]) for i in (first, second)]
    y, x = np.mgrid[:_HEIGHT, :_WIDTH] + 0.5
    rays = np.stack([(x - truth["cx"]) / truth["fl_x"], -(y - truth["cy"]) / truth["fl_y"], -np.ones_like(x)], axis=-1)
    points = (rays * depths[0][..., None]) @ poses[0][:3, :3].T + poses[0][:3, 3]
    local = (points - poses[1][:3, 3]) @ poses[1][:3, :3]
    column = np.floor(truth["cx"] - truth["fl_x"] * local[..., 0] / local[..., 2]).astype(int)
    row = np.floor(truth["cy"] + truth["fl_y"] * local[..., 1] / local[..., 2]).astype(int)
    both = (depths[0] < 100) & (row >= 0) & (row < _HEIGHT) & (column >= 0) & (column < _WIDTH)
    row, column, seen = row[both], column[both], pictures[0][both]
    both = abs(depths[1][row, column] + local[..., 2][both]) < 0.02  # not hidden in the other photo
    assert both.mean() > 0.5
    right = abs(pictures[1][row[both], column[both]] - seen[both])
    aside = abs(pictures[1][row[both], np.clip(column[both] + 4, 0, _WIDTH - 1)] - seen[both])
    assert np.median(right) < 6
    assert right.mean() < 0.5 * aside.mean()


@pytest.mark.slow
def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        facade.render_capture(tmp_path / name, photos=3, width=96, height=54, processes=processes)
    one, two = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert len(one) == 4 and one == two


def test_visits_share_what_has_not_changed() -> None:
    first, *others = (surfaces(8, visit=visit) for visit in VISITS)
    known = {patch.color.tobytes() for patch in first}
    kept = [len(known & {patch.color.tobytes() for patch in street}) / len(known) for street in others]
    assert 0.9 < kept[0] < 1  # but for the shop
    assert kept[1] == 1 and len(others[1]) > 1.1 * len(first)  # built on
    assert kept[2] == 0
    centers = [np.array([view.center for view in facade.cameras(12, 96, 54, visit)]) for visit in VISITS]
    assert np.linalg.norm(centers[0] - centers[1], axis=1).min() > 0.3
    assert 0 < np.ptp(centers[0][:, 0]) - (centers[2] - centers[0])[:, 0].mean() < np.ptp(centers[0][:, 0]) / 3


def test_structure_from_motion_finds_every_pose(capture: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    database = tmp_path / "database.db"
    pycolmap.extract_features(database, capture / "photos", camera_mode=pycolmap.CameraMode.SINGLE)
    pycolmap.match_exhaustive(database)
    models = pycolmap.incremental_mapping(database, capture / "photos", tmp_path / "sparse")
    best = max(models.values(), key=lambda model: model.num_reg_images())
    frames = []
    for image in best.images.values():
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        pose[:3, 1:3] *= -1  # OpenCV's axes to OpenGL's
        frames.append({"file_path": image.name, "transform_matrix": pose.tolist()})
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    errors = compare_poses(capture / "truth.json", tmp_path / "transforms.json")
    assert len(errors.names) == _PHOTOS
    assert errors.positions.max() < 0.01
    assert errors.rotations.max() < 1
