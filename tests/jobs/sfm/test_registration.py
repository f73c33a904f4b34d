"""The scene frame over visits: real structure from motion on photos of several days, checked against the truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image

from jobs import prepare
from jobs.demo.street import Visit
from jobs.errors import GateRefused
from jobs.options import PrepareOptions
from jobs.sfm import registration as frame
from tests import made_once
from tests.true_poses import PoseErrors, compare_poses, compare_poses_in_frame_of

OPTIONS = PrepareOptions(max_features=1000)


def manifest(dataset: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((dataset / "dataset.json").read_text())
    return content


def photos_of(dataset: Path) -> dict[str, str]:
    """Return the photo that each picture of a dataset was made of."""
    return {Path(image["file"]).name: image["source"] for image in manifest(dataset)["images"]}


def in_the_first_frame(first: Path, street: Path, dataset: Path, truth: Path) -> PoseErrors:
    """Measure how far the cameras of `dataset` are from the truth, aligned by the similarity of the FIRST dataset."""
    known = compare_poses(street / "truth.json", first / "transforms.json", photos_of(first))
    return compare_poses_in_frame_of(known, truth, dataset / "transforms.json", photos_of(dataset))


def shots(folder: Path, visit: Visit, photos: int) -> Path:
    return Path(shutil.copytree(made_once.street(visit, photos), folder, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def first(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the dataset of visit 1, which begins the frame."""
    folder = tmp_path_factory.mktemp("first") / "dataset"
    prepare.prepare(street / "photos", folder, OPTIONS)
    return folder


def test_another_day_is_brought_into_the_first_days_frame(street: Path, first: Path, tmp_path: Path) -> None:
    visit = shots(tmp_path, "2", photos=10)
    dataset = tmp_path / "dataset"
    prepare.prepare(visit / "photos", dataset, OPTIONS, {"gone": [tmp_path], "facade:1-a": [tmp_path, first]})
    fitted = manifest(dataset)["frame"]
    assert fitted["reference"] == "facade:1-a"
    assert fitted["inliers"] > 200 and fitted["photos_matched"] == 10 and fitted["residual"] < 0.005
    assert 0.1 < fitted["spread"] < 1
    # The same camera as on the first day, with the intrinsics that were estimated then.
    assert fitted["cameras"] == 1
    intrinsics = [json.loads((folder / "transforms.json").read_text()) for folder in (first, dataset)]
    assert intrinsics[0]["fl_x"] == pytest.approx(intrinsics[1]["fl_x"], rel=1e-6)
    errors = in_the_first_frame(first, street, dataset, visit / "truth.json")
    assert len(errors.names) == 10 and errors.positions.max() < 0.01 and errors.rotations.max() < 0.5
    # COLMAP's files are in the same frame, and training does not move the poses.
    transforms = json.loads((dataset / "transforms.json").read_text())
    assert transforms["applied_scale"] == 1 and transforms["applied_transform"] == np.eye(4)[:3].tolist()
    centers = np.array([frame["transform_matrix"] for frame in transforms["frames"]])[:, :3, 3]
    assert abs(np.abs(centers).max() - 1) > 0.001  # not scaled again


@pytest.mark.slow
def test_a_stretch_further_along_is_brought_into_the_frame(street: Path, first: Path, tmp_path: Path) -> None:
    visit = shots(tmp_path, "3", photos=14)
    prepare.prepare(visit / "photos", tmp_path / "dataset", OPTIONS, {"first": [first]})
    assert manifest(tmp_path / "dataset")["frame"]["reference"] == "first"
    errors = in_the_first_frame(first, street, tmp_path / "dataset", visit / "truth.json")
    assert len(errors.names) == 14 and errors.positions.max() < 0.01 and errors.rotations.max() < 1


def test_a_camera_that_explains_the_photos_less_well_is_not_taken(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, known = (pycolmap.Reconstruction(first / "colmap/sparse/0") for _ in range(2))
    adjusted, cameras = frame._with_cameras_of(known, model, threads=1)
    assert cameras == 1 and adjusted is not model
    monkeypatch.setattr(frame, "_SAME_FOCAL", 0.2)
    for camera in known.cameras.values():
        camera.rescale(2 * camera.width, 2 * camera.height)  # as of photos of another size, and zoomed
        camera.params *= [1.12, 1.12, *[1] * 6]
    assert frame._with_cameras_of(known, model, threads=1) == (model, 0)
    monkeypatch.setattr(frame, "_SAME_FOCAL", 0.1)
    assert frame._with_cameras_of(known, model, threads=1) == (model, 0)


@pytest.mark.slow
def test_another_zoom_is_another_camera(street: Path, first: Path, tmp_path: Path) -> None:
    visit = shots(tmp_path, "2", photos=14)
    for photo in (visit / "photos").iterdir():
        with Image.open(photo) as image:
            exif, whole = image.getexif(), image.size
            width, height = (round(side * 0.9 / 2) * 2 for side in whole)
            left, top = (whole[0] - width) // 2, (whole[1] - height) // 2
            near = image.crop((left, top, left + width, top + height)).resize(whole, Image.Resampling.LANCZOS)
        near.save(photo, quality=95, exif=exif)
    prepare.prepare(visit / "photos", tmp_path / "dataset", OPTIONS, {"first": [first]})
    fitted = manifest(tmp_path / "dataset")["frame"]
    assert (fitted["reference"], fitted["cameras"]) == ("first", 0)
    errors = in_the_first_frame(first, street, tmp_path / "dataset", visit / "truth.json")
    assert errors.positions.max() < 0.01


@pytest.mark.slow
def test_the_likeliest_pairs_are_enough(
    street: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.sfm import search as sfm

    visit = shots(tmp_path, "2", photos=14)
    monkeypatch.setattr(sfm, "_EXHAUSTIVE_IMAGES", 13)
    monkeypatch.setattr(sfm, "_ADDED_NEIGHBOURS", 4)
    elsewhere = shots(tmp_path / "elsewhere", "elsewhere", photos=10)
    prepare.prepare(elsewhere / "photos", tmp_path / "other", OPTIONS)
    prepare.prepare(visit / "photos", tmp_path / "dataset", OPTIONS, {"other": [tmp_path / "other"], "first": [first]})
    assert manifest(tmp_path / "dataset")["frame"]["reference"] == "first"
    errors = in_the_first_frame(first, street, tmp_path / "dataset", visit / "truth.json")
    assert errors.positions.max() < 0.01 and errors.rotations.max() < 1


@pytest.mark.slow
def test_photos_of_another_place_are_refused_if_the_frame_must_be_kept(first: Path, tmp_path: Path) -> None:
    visit = shots(tmp_path, "elsewhere", photos=10)
    keep = OPTIONS.model_copy(update={"frame": "keep"})
    with pytest.raises(GateRefused, match="frame.* first"):
        prepare.prepare(visit / "photos", tmp_path / "dataset", keep, {"first": [first]})
    assert manifest(tmp_path / "dataset")["frame"] == {"reference": "new"}
    assert not (tmp_path / "dataset" / "transforms.json").exists()
    prepare.prepare(visit / "photos", tmp_path / "dataset", OPTIONS, {"first": [first]})
    assert manifest(tmp_path / "dataset")["frame"] == {"reference": "new"}
    prepare.prepare(visit / "photos", tmp_path / "dataset", keep)  # nothing to keep: it begins the frame
    assert (tmp_path / "dataset" / "transforms.json").exists()
