"""Find the named area of a scene that something is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.geometry import Floats
from jobs.metric.scene import Area

__all__ = ["name_at"]

_AWAY = 0.25  # distance of something from the plane of its area, as a share of the area's extent


def name_at(point: Floats, areas: Sequence[Area]) -> str:
    """Return the name of the smallest area that a point (3,) is in, in front of or behind; "" if there is none."""
    sizes = {area.name: size for area in areas if (size := _size_around(point, np.array(area.corners)))}
    return min(sizes, key=lambda name: sizes[name], default="")


def _size_around(point: Floats, corners: Floats) -> float:
    """Return the size of a polygon, corners (n, 3), in scene units squared; 0 if the point is not in it."""
    centre = corners.mean(axis=0)
    axes = np.linalg.svd(corners - centre)[2]  # the last one is the normal
    x, y, away = axes @ (point - centre)
    flat = (corners - centre) @ axes[:2].T
    if abs(away) > _AWAY * np.linalg.norm(np.ptp(flat, axis=0)):
        return 0.0
    (x0, y0), (x1, y1) = flat.T, np.roll(flat, -1, axis=0).T
    crossed = (y0 > y) != (y1 > y)
    right = x < x0 + (y - y0) * (x1 - x0) / np.where(crossed, y1 - y0, 1.0)
    inside = np.count_nonzero(crossed & right) % 2 == 1
    return float(abs(np.sum(x0 * y1 - x1 * y0)) / 2) if inside else 0.0
