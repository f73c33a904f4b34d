"""Photos that were cropped off the middle get cameras of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image

from jobs.options import PrepareOptions
from jobs.prepare import prepare
from jobs.sfm import refinement
from jobs.sfm.crops import find_crops, gains
from tests.true_poses import compare_poses

FOCAL, SIZE = 900.0, (1024, 768)
CUT = {2: (150, -60), 5: (-120, 90), 9: (0, 140)}
"""By the number of a picture: how far its principal point is from the middle, px."""


def model(cut: dict[int, tuple[int, int]], lens: tuple[int, int] = (0, 0)) -> Any:
    """Return a reconstruction of 14 pictures as COLMAP's mappers leave it: with all principal points in the middle.

    Args:
        cut: see `CUT`.
        lens: how far the principal point of the lens is from the middle.
    """
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=14, num_points3D=400)
    options.camera_model_id = pycolmap.CameraModelId.SIMPLE_RADIAL
    options.camera_params = [FOCAL, SIZE[0] / 2 + lens[0], SIZE[1] / 2 + lens[1], 0.02]
    made = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(0)
    for image in made.images.values():
        for point in image.points2D:
            point.xy = point.xy + np.array(cut.get(image.image_id, (0, 0))) + rng.normal(0, 0.4, 2)
    made.cameras[1].params = [FOCAL, SIZE[0] / 2, SIZE[1] / 2, 0.02]
    refinement.adjust(made, threads=1)
    return made


def test_cropped_pictures_are_found_with_their_principal_points() -> None:
    bent = model(CUT)
    found = find_crops(bent, threads=1)
    names = {number: str(bent.images[number].name) for number in CUT}
    assert set(found) == set(names.values())
    for number, offset in CUT.items():
        centre = np.array(found[names[number]].centre) * SIZE - np.array(SIZE) / 2
        assert centre == pytest.approx(offset, abs=12)
        assert found[names[number]].focal * np.hypot(*SIZE) == pytest.approx(FOCAL, rel=0.03)


@pytest.mark.parametrize("lens", [(0, 0), (15, -12)], ids=["in the middle", "a lens that is off the middle"])
def test_whole_pictures_are_not_taken_for_cropped(lens: tuple[int, int]) -> None:
    assert find_crops(model({}, lens), threads=1) == {}


def test_whole_pictures_gain_little_by_other_principal_points() -> None:
    assert max(gains(model({})).values()) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "shares", "enlarged"),
    [
        pytest.param(range(1, 14, 2), (0.6, 0.8), False, id="seven"),
        pytest.param(range(1, 14, 2), (0.6, 0.8), True, id="seven, enlarged"),
        pytest.param([6], (0.6, 0.8), False, id="one"),
        pytest.param([3, 7, 11], (0.88, 0.95), False, id="three, slightly"),
    ],
)
def test_crops_off_the_middle_are_registered_and_said(
    street: Path, tmp_path: Path, which: Sequence[int], shares: tuple[float, float], enlarged: bool
) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(3 if len(which) == 7 else 4 if len(which) == 3 else 1)
    for number, photo in enumerate(sorted((street / "photos").iterdir())):
        with Image.open(photo) as image:
            exif, written = image.getexif(), image.convert("RGB")
        if number in which:
            share = rng.uniform(*shares)
            width, height = round(480 * share), round(270 * share)
            left, top = rng.integers(0, 480 - width + 1), rng.integers(0, 270 - height + 1)
            written = written.crop((left, top, left + width, top + height))
            written = written.resize((480, 270), Image.Resampling.LANCZOS) if enlarged else written
        written.save(tmp_path / "photos" / photo.name, quality=92, exif=exif)
    prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions(max_features=2000))
    about = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    words = (
        f"{len(which)} photo{'s were' if len(which) > 1 else ' was'} cropped off the middle: facade_{which[0] + 1:03}"
    )
    assert words in about["selection"] and about["registered"] == 14
    sources = {Path(image["file"]).name: image["source"] for image in about["images"]}
    found = compare_poses(street / "truth.json", tmp_path / "dataset" / "transforms.json", sources)
    assert found.positions.max() < 0.015 and found.rotations.max() < 2, "with one shared lens, 0.027 to 0.18"
