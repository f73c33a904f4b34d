"""Printed markers: drawn into pictures of known cameras, and found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.metric.given import Given, Markers
from jobs.metric.measure import measure
from tests.jobs.metric.street import HEIGHT, UNIT, WIDTH, Street

cv2 = pytest.importorskip("cv2")

FAMILY = "DICT_APRILTAG_36h11"
_FINE = 4
SIDE = 1.2  # metres: a poster, as the built-in street's photos are small


@pytest.fixture
def street(tmp_path: Path) -> Street:
    """Return the street's cameras before a grey wall with two markers."""
    street = Street(tmp_path / "dataset")
    (street.folder / "images").mkdir()
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, FAMILY))
    printed = 200
    for number, camera in enumerate(street.cameras):
        picture = np.full((HEIGHT, WIDTH), 150, np.uint8)
        for marker, left in ((7, -1.5), (23, 1.0)):
            margin = 40  # px of white paper around the black square
            paper = np.full((printed + 2 * margin,) * 2, 255, np.uint8)
            paper[margin:-margin, margin:-margin] = cv2.aruco.generateImageMarker(dictionary, marker, printed)
            corners = np.array([[left + x * SIDE, -0.3, 3.2 - y * SIDE] for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))])
            x, y, depth = camera.project(corners)
            if depth.min() <= 0 or x.min() < 9 or x.max() > WIDTH - 9 or y.min() < 9 or y.max() > HEIGHT - 9:
                continue
            edges = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * printed + margin
            # Drawn four times as large, because a lens averages over a pixel. OpenCV's first pixel is centred at 0.
            there = _FINE * np.stack([x, y], axis=1) - 0.5
            turn = cv2.getPerspectiveTransform((edges - 0.5).astype(np.float32), there.astype(np.float32))
            size = (_FINE * WIDTH, _FINE * HEIGHT)
            shown, solid = (cv2.warpPerspective(layer, turn, size) for layer in (paper, np.full_like(paper, 255)))
            fine = np.where(solid > 127, shown, 150).astype(np.float32)
            small = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            picture = np.where(cv2.resize(solid, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) > 0, small, picture)
            picture = picture.round().astype(np.uint8)
        Image.fromarray(picture).save(street.folder / "images" / f"frame_{number:05d}.jpg", quality=92)
    return street


def test_markers_give_the_scale(street: Street) -> None:
    found = measure(street.folder, Given(markers=Markers(metres=SIDE)))
    assert [(entry.name, entry.used) for entry in found.entries] == [(f"{FAMILY} 7", True), (f"{FAMILY} 23", True)]
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=0.004)
    assert abs(np.log(found.scale.metres / UNIT)) < 3 * found.scale.error
    assert {check.name for check in found.checks} == {f"{FAMILY} 7", f"{FAMILY} 23"}


def test_markers_that_no_photo_shows_are_named(street: Street) -> None:
    found = measure(street.folder, Given(markers=Markers(metres=SIDE, family="DICT_5X5_50")))
    assert found.scale is None
    assert found.entries[0].why.startswith("no picture shows one")
