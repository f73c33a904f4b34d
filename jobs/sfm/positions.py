"""Find pairs of pictures that were taken near each other, and whether the camera moved, by GPS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from jobs.geometry import Floats

__all__ = ["moved", "near_pairs"]

_NEIGHBOURS = 20  # pictures that were taken nearest to each picture
_ERROR = 2e-4  # degrees of latitude, 22 m: the error of GPS between houses
_NEXT = 0.6  # distance of a position from the next one, in terms of that of any two: scattered ones have about 1


def near_pairs(positions: Sequence[tuple[float, float] | None]) -> set[tuple[int, int]]:
    """Return the pairs of a picture and those taken nearest to it, by their indices in the sequence.

    The result is empty if less than half of the positions are known, or if all are within the error of GPS.

    Args:
        positions: latitude and longitude of each picture in degrees, None if unknown.
    """
    known, degrees = _apart(positions)
    if not known:
        return set()
    _, nearest = cKDTree(degrees).query(degrees, k=min(_NEIGHBOURS + 1, len(known)))
    pairs = ((known[i], known[int(j)]) for i, row in enumerate(nearest) for j in row)
    return {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}


def moved(positions: Sequence[tuple[float, float] | None]) -> bool:
    """Return whether GPS shows that the camera moved, by positions in the order in which the pictures were taken.

    Indoors, positions scatter by more than the error of GPS under the open sky. Then each is as far from the next as
    from any other.
    """
    known, degrees = _apart(positions)
    if not known:
        return False
    following = np.linalg.norm(np.diff(degrees, axis=0), axis=1)
    return bool(np.median(following) < _NEXT * np.median(pdist(degrees)))


def _apart(positions: Sequence[tuple[float, float] | None]) -> tuple[list[int], Floats]:
    """Return the indices of the known positions, and these as (n, 2) degrees of latitude.

    There are none if less than half of the positions are known, or if all are within the error of GPS.
    """
    known = [number for number, position in enumerate(positions) if position]
    if len(known) < max(2, len(positions) / 2):
        return [], np.empty((0, 2))
    degrees: Floats = np.array([positions[number] for number in known], float)
    degrees[:, 1] *= np.cos(np.radians(degrees[:, 0].mean()))
    if np.ptp(degrees, axis=0).max() < _ERROR:
        return [], np.empty((0, 2))
    return known, degrees
