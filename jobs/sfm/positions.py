"""Find pairs of pictures that were taken near each other, by GPS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["near_pairs"]

_NEIGHBOURS = 20  # pictures that were taken nearest to each picture
_ERROR = 2e-4  # degrees of latitude, 22 m: the error of GPS between houses


def near_pairs(positions: Sequence[tuple[float, float] | None]) -> set[tuple[int, int]]:
    """Return the pairs of a picture and those taken nearest to it, by their indices in the sequence.

    The result is empty if less than half of the positions are known, or if all are within the error of GPS.

    Args:
        positions: latitude and longitude of each picture in degrees, None if unknown.
    """
    known = [number for number, position in enumerate(positions) if position]
    if len(known) < max(2, len(positions) / 2):
        return set()
    degrees = np.array([positions[number] for number in known], float)
    degrees[:, 1] *= np.cos(np.radians(degrees[:, 0].mean()))
    if np.ptp(degrees, axis=0).max() < _ERROR:
        return set()
    _, nearest = cKDTree(degrees).query(degrees, k=min(_NEIGHBOURS + 1, len(known)))
    pairs = ((known[i], known[int(j)]) for i, row in enumerate(nearest) for j in row)
    return {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
