"""What a photo's EXIF says about its camera."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["focal_length"]

_FILM = math.hypot(36, 24)  # mm
_FOCALS = (8 / _FILM, 1200 / _FILM)  # in diagonals: from a fisheye's to the longest telephoto lenses that are sold
_SENSORS = (5.0, 75.0)  # mm diagonal: of the smallest cameras that write a focal-plane resolution, of medium format


def focal_length(exif: Mapping[int, Any]) -> float | None:
    """Return the focal length as a multiple of the picture's diagonal; None if EXIF has none that a lens can have.

    Editors that make a photo smaller often keep the focal-plane resolution of the original, which then implies a sensor
    that is too small.

    Args:
        exif: the Exif IFD (EXIF 2.32, CIPA DC-008, section 4.6.5).
    """
    from PIL.ExifTags import Base

    try:
        if equivalent := float(exif.get(Base.FocalLengthIn35mmFilm, 0)):
            return _possible(equivalent / _FILM)
        unit = {2: 25.4, 3: 10.0}[exif[Base.FocalPlaneResolutionUnit]]  # mm in an inch, in a centimetre
        width = exif[Base.ExifImageWidth] / float(exif[Base.FocalPlaneXResolution]) * unit
        height = exif[Base.ExifImageHeight] / float(exif[Base.FocalPlaneYResolution]) * unit
        sensor = math.hypot(width, height)
        return _possible(float(exif[Base.FocalLength]) / sensor) if _SENSORS[0] <= sensor <= _SENSORS[1] else None
    except (KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None


def _possible(focal: float) -> float | None:
    return round(focal, 4) if _FOCALS[0] <= focal <= _FOCALS[1] else None
