from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from jobs import report
from jobs.sfm import overlap
from tests.jobs.preparing import read, run
from tests.jobs.sfm.test_lookalikes import FRONT, Seen, add_photo, add_points, reconstruction, wall

DISTANCE = 9.0
"""From the cameras to the wall, in metres; a picture is 12.5 m wide there."""


def walk(*centers: float) -> Any:
    """Return photos of a wall, taken straight from places along it, in metres; two photos show most points."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-30, 30, 20_000)
    points = np.column_stack([x, rng.uniform(-3, 3, len(x)), np.zeros(len(x))])
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=360, params=[460, 320, 180], camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    seen: Seen = {}
    for number, center in enumerate(centers, 1):
        local = points - [center, 0, -DISTANCE]
        at = 460 * local[:, :2] / local[:, 2:] + [320, 180]
        inside = np.flatnonzero((at > 0).all(axis=1) & (at < [640, 360]).all(axis=1))
        image = pycolmap.Image(name=f"{number}.jpg", camera_id=1, image_id=number)
        add_photo(model, image, [center, 0, -DISTANCE], at[inside], points[inside], seen)
    add_points(model, seen)
    return model


def measured(model: Any) -> overlap.Overlap:
    found = overlap.measure(model, {image.name: f"walk/{image.name}" for image in model.images.values()})
    assert found
    return found


def test_the_overlap_and_the_angle_are_those_of_the_geometry() -> None:
    found = measured(walk(*range(8)))
    width = 640 / 460 * DISTANCE
    assert found.median == pytest.approx(1 - 1 / width, abs=0.05)
    assert found.degrees == pytest.approx(np.degrees(np.arctan(1 / DISTANCE)), abs=1)
    assert not found.gaps and not str(found)
    assert found.figures()["gaps"] == []


def test_a_gap_in_a_walk_is_named() -> None:
    found = measured(walk(0, 1, 2, 3, 8, 9, 10))
    assert [(gap.first, gap.second) for gap in found.gaps] == [("walk/4.jpg", "walk/5.jpg")]
    assert found.gaps[0].share == pytest.approx(1 - 5 / (640 / 460 * DISTANCE), abs=0.05)
    assert found.gaps[0].degrees == pytest.approx(2 * np.degrees(np.arctan(2.5 / DISTANCE)), abs=2)
    assert "Too few photos between walk/4.jpg and walk/5.jpg (" in str(found)
    assert found.figures()["gaps"][0]["photos"] == ["walk/4.jpg", "walk/5.jpg"]


def test_photos_that_are_few_everywhere_are_said_to_be() -> None:
    found = measured(walk(*range(0, 25, 4)))
    assert len(found.gaps) == 6 and found.degrees > 20
    assert str(found).count("walk/") == 6 and "and 3 more such gaps" in str(found)


def test_the_second_walk_past_a_place_fills_the_gap_of_the_first() -> None:
    assert not measured(walk(0, 1, 2, 3, 8, 9, 10, 7, 6.3, 5, 4)).gaps


def test_two_photos_or_none_say_nothing() -> None:
    rng = np.random.default_rng(1)
    assert overlap.measure(reconstruction([(2, [wall(rng, 500, FRONT)])]), {}) is None
    assert overlap.measure(pycolmap.Reconstruction(), {}) is None


def test_a_gap_in_a_capture_is_said_in_the_manifest_and_in_the_summary(street: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(sorted((street / "photos").iterdir())):
        if number not in (5, 6, 7):
            shutil.copy(photo, tmp_path / "photos")
    status, reported = run(tmp_path / "photos", tmp_path / "dataset", "--max-features", "1000")
    assert status == 0, reported
    about = read(tmp_path / "dataset" / "dataset.json")
    assert [gap["photos"] for gap in about["overlap"]["gaps"]] == [["facade_005.jpg", "facade_009.jpg"]]
    words = "Too few photos between facade_005.jpg and facade_009.jpg"
    assert about["registered"] == 11 and words in about["selection"]
    summary = next(each.result for each in reported if isinstance(each, report.Figures))
    assert str(summary["notice"]).startswith(words)
