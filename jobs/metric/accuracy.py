"""How exact picks, poses and directions are: figures that the adjustment shares with the page for measuring."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

__all__ = ["LEAST_ANGLE", "PICK_ACCURACY", "TILT", "TIMES", "WRONG", "pose_error", "tilt_error"]

PICK_ACCURACY = 0.5
"""Standard deviation of a pick in pixels of the photo, per axis, unless people say otherwise."""

LEAST_ANGLE = 0.5
"""Degrees between rays: below, the depth of a point is noise."""

WRONG = 5.0
"""Standard deviations by which one of three picks or more may be off its point."""

TIMES = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""

TILT = {"gravity": 1.5, "gps": 3.0, "ground": 3.0, "cameras": 5.0}
"""Standard deviation of the scene's +Z in degrees, by the source that `dataset.json` names (`up`)."""

_POSES = 0.7  # standard deviation of a pose, as a multiple of the reprojection error (as an angle)


def pose_error(reprojection_error: float, focals: Iterable[float]) -> float:
    """Return the standard error that inexact poses add to the distance of two points, relative to their distance.

    Args:
        reprojection_error: mean, px.
        focals: the focal length of each picture, px.
    """
    return _POSES * reprojection_error / statistics.median(focals)


def tilt_error(up: str) -> float:
    """Return the standard deviation of a scene's +Z in degrees, by the source that `dataset.json` names."""
    return TILT.get(up, TILT["cameras"])
