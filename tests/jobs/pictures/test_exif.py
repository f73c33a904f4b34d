from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ExifTags

from jobs.pictures.exif import focal_length

SENSOR = {"ExifImageWidth": 2220, "ExifImageHeight": 1480, "FocalPlaneResolutionUnit": 3}
RESOLUTION = {"FocalPlaneXResolution": 1000.0, "FocalPlaneYResolution": 1000.0}
"""An APS-C sensor of 22.2 x 14.8 mm."""


def focal(**values: Any) -> float | None:
    return focal_length({ExifTags.Base[name]: value for name, value in values.items()})


def test_focal_length() -> None:
    assert focal() is None
    assert focal(FocalLengthIn35mmFilm=26) == pytest.approx(26 / 43.267, rel=1e-4)
    assert focal(FocalLength=50.0, **SENSOR, **RESOLUTION) == pytest.approx(50 / np.hypot(22.2, 14.8), rel=1e-4)
    assert focal(FocalLength=50.0) is None


@pytest.mark.parametrize("millimetres", [1, 3, 5000, -26, float("nan"), float("inf"), "x"])
def test_focal_lengths_that_no_lens_has_are_ignored(millimetres: Any) -> None:
    assert focal(FocalLengthIn35mmFilm=millimetres) is None


@pytest.mark.parametrize("width", [300, 24_000])
def test_sensors_that_no_camera_has_are_ignored(width: int) -> None:
    """As of photos that an editor made smaller without changing their focal-plane resolution."""
    size = {"ExifImageWidth": width, "ExifImageHeight": width * 2 // 3}
    assert focal(FocalLength=50.0, **{**SENSOR, **size}, **RESOLUTION) is None
