"""Photos of one lens in several sizes and orientations: poses and focal lengths are compared with the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import ExifTags, Image

from jobs.facade import cameras, photograph
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from tests.made_once import drawn, scene
from tests.true_poses import compare_poses


@pytest.fixture(scope="module")
def mixed() -> Path:
    """Return fourteen photos of one phone: every third is held upright, and every third is of half the size."""
    return drawn("turned", draw, Path(__file__))


def draw(folder: Path) -> None:
    views = cameras(14, 480, 270)
    turned = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a quarter, about the view direction
    views = [replace(v, rotation=v.rotation @ turned) if n % 3 == 1 else v for n, v in enumerate(views)]
    photograph(scene(), views, folder)
    truth = json.loads((folder / "truth.json").read_text())
    for number, frame in enumerate(truth["frames"]):
        if number % 3 == 1:  # the photo is shown upright
            pose = np.array(frame["transform_matrix"])
            pose[:3, :3] = pose[:3, :3] @ turned
            frame["transform_matrix"] = pose.tolist()
    (folder / "truth.json").write_text(json.dumps(truth))


def capture(mixed: Path, folder: Path, *, named: bool) -> None:
    """Write the photos as a phone does, or without EXIF, as a messenger does."""
    folder.mkdir()
    for number, photo in enumerate(sorted((mixed / "photos").iterdir())):
        with Image.open(photo) as opened:
            exif, image = opened.getexif(), opened.convert("RGB")
            if number % 3 == 1:
                exif[ExifTags.Base.Orientation] = 6
                image = image if named else image.transpose(Image.Transpose.ROTATE_270)
            if number % 3 == 2:
                image = image.resize((240, 135), Image.Resampling.LANCZOS)
            image.save(folder / photo.name, quality=95, exif=exif if named else b"")


@pytest.mark.parametrize("named", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["EXIF", "no EXIF"])
def test_sizes_and_orientations_of_a_lens_share_its_intrinsics(mixed: Path, tmp_path: Path, named: bool) -> None:
    capture(mixed, tmp_path / "photos", named=named)
    prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions(max_features=2000))
    about: dict[str, Any] = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    transforms = json.loads((tmp_path / "dataset" / "transforms.json").read_text())
    photos = {Path(image["file"]).name: image["source"] for image in about["images"]}
    found = compare_poses(mixed / "truth.json", tmp_path / "dataset" / "transforms.json", photos)
    focals = {frame["fl_x"] / max(frame["w"], frame["h"]) for frame in transforms["frames"]}
    assert about["registered"] == 14 and about["cameras"] == 1
    assert max(focals) < 1.0002 * min(focals), "with a camera for each, they differ by 0.2 %"
    assert min(focals) == pytest.approx(26 / 36, rel=0.015)
    assert {(frame["w"], frame["h"]) for frame in transforms["frames"]} == {(480, 270), (270, 480), (240, 135)}
    # With a camera for each size and orientation, 0.0015 and 0.0008 of the scene's size.
    assert found.positions.max() < 0.0014 and np.median(found.positions) < 0.0007
    assert found.rotations.max() < 0.5, "photos that were held upright are upright"
    model = pycolmap.Reconstruction(tmp_path / "dataset" / "colmap" / "sparse" / "0")
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() == pytest.approx(about["reprojection_error_px"], abs=1e-3)
