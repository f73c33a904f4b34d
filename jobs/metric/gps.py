"""Treat the positions in the photos' EXIF as one measurement, with a realistic accuracy.

GPS positions of photos taken within minutes share most of their error, so averaging them improves little. A few
independent fixes stand in for all of them, unless they are as exact as RTK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.geometry import Floats
from jobs.metric.adjust import Measured, Position, solve
from jobs.metric.cameras import Cameras
from jobs.metric.earth import Local
from jobs.metric.scene import Entry

__all__ = ["NAME", "TOO_INEXACT", "Fixes", "find_fixes", "measured_by"]

NAME = "positions in EXIF"
TOO_INEXACT = "too inexact for the scale of so small a place"

_LEAST_FIXES = 4
_DEFAULT = 5.0  # metres, of a fix whose accuracy is not known
_RTK = 0.1  # metres: fixes this exact have hardly any common error
_INDEPENDENT = 6  # All the fixes of one walk count as this many independent ones.
_VERTICAL = 2.0  # times the horizontal accuracy
_RADIUS = 1.5  # standard deviations per axis in EXIF's accuracy, the radius that holds two thirds of the fixes


@dataclass(frozen=True)
class Fixes:
    """Where photos were taken.

    Args:
        units: (n, 3) the cameras' centres, in the scene frame.
        degrees: (n, 3) latitude, longitude and height in metres.
        accuracy: (n,) standard deviation per horizontal axis, metres.
        heights: whether the heights are known; if not, they are 0.
    """

    units: Floats
    degrees: Floats
    accuracy: Floats
    heights: bool

    @property
    def centre(self) -> Local:
        """Return the coordinate frame with its origin at the mean of the fixes."""
        return Local(*np.median(self.degrees, axis=0).tolist())


def find_fixes(cameras: Cameras) -> Fixes | None:
    """Return the positions in EXIF; None if too few photos have one."""
    found = []
    for camera in cameras.all:
        tags: Mapping[str, Any] = cameras.tags.get(camera.file, {})
        latitude, longitude = tags.get("latitude"), tags.get("longitude")
        if latitude is None or longitude is None:
            continue
        accuracy = tags.get("accuracy") or _DEFAULT
        found.append((*camera.position, latitude, longitude, tags.get("altitude", np.nan), accuracy / _RADIUS))
    if len(found) < _LEAST_FIXES:
        return None
    table = np.array(found, float)
    heights = bool(np.isfinite(table[:, 5]).all())
    degrees = table[:, 3:6] if heights else np.column_stack([table[:, 3:5], np.zeros(len(table))])
    return Fixes(table[:, :3], degrees, np.maximum(table[:, 6], 0.005), heights)


def measured_by(fixes: Fixes, local: Local, tilt: float) -> tuple[Measured | None, Entry, float]:
    """Return the fixes as a measurement, their entry, and the accuracy of their middle per axis, in metres.

    There is no measurement if the cameras are too close together for the accuracy of the fixes.

    Args:
        fixes: from `find_fixes`.
        local: the coordinate frame to use.
        tilt: the standard deviation of the scene's +Z from up, radians.
    """
    metres = local.from_degrees(fixes.degrees)
    spread = float(np.sqrt(((metres[:, :2] - metres[:, :2].mean(axis=0)) ** 2).sum(axis=1).mean()))
    independent = np.where(fixes.accuracy <= _RTK, len(metres), np.minimum(len(metres), _INDEPENDENT))
    times = np.sqrt(len(metres) / independent)
    typical = float(np.median(fixes.accuracy * times)) / np.sqrt(len(metres))
    # Fixes that differ from the cameras by more than they claim are less exact than they claim.
    off = _residuals(fixes, metres, tilt)
    worse = max(1.0, float(np.median(off) / np.median(1.18 * fixes.accuracy)))
    accuracy = fixes.accuracy * times * worse
    middle = max(typical * worse, float(np.median(fixes.accuracy)) * worse)
    words = f"accuracy {1.5 * float(np.median(fixes.accuracy)) * worse:.2g} m, photos spread over {spread:.2g} m"
    if spread < 2 * typical * worse:
        why = f"{TOO_INEXACT}: {words}"
        return None, Entry(kind="GPS", name=NAME, used=False, why=why), middle
    measured = _measured(fixes, metres, accuracy)
    return measured, Entry(kind="GPS", name=NAME, used=True, why=words), middle


def _measured(fixes: Fixes, metres: Floats, accuracy: Floats) -> Measured:
    """Return the fixes as a measurement, with a standard deviation (n,) per horizontal axis, in metres."""
    axes = np.array([1.0, 1.0, _VERTICAL if fixes.heights else 1e4])
    positions = tuple(
        Position(unit, np.zeros((3, 3)), place, sigma * axes)
        for unit, place, sigma in zip(fixes.units, metres, accuracy, strict=True)
    )
    return Measured("GPS", NAME, positions=positions)


def _residuals(fixes: Fixes, metres: Floats, tilt: float) -> Floats:
    """Return the horizontal distances (n,) of fixes from the cameras, after the fixes' own best similarity."""
    alone = _measured(fixes, metres, fixes.accuracy)
    off: Floats = np.linalg.norm((solve([alone], tilt).points(fixes.units) - metres)[:, :2], axis=1)
    return off
