"""Fuse what single photos show of a change onto the surfaces of the scene, and find what is significant.

The unit is a voxel of the scene that at least a few photos see. A voxel's evidence is the median over these photos, so
that what a single photo shows (a passer-by, a reflection) does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.visits.views import Array, Bools

__all__ = ["Cells", "fuse", "voxels"]

_BITS = 21  # for each axis of a voxel's number


def voxels(points: Array, size: float) -> NDArray[np.int64]:
    """Return the numbers (N,) of the voxels of points (N, 3), the same for equal voxels of equal size."""
    index = np.floor(np.asarray(points, np.float64) / size).astype(np.int64) + (1 << _BITS - 1)
    index = np.clip(index, 0, (1 << _BITS) - 1)
    numbers: NDArray[np.int64] = (index[:, 0] << 2 * _BITS) | (index[:, 1] << _BITS) | index[:, 2]
    return numbers


@dataclass(frozen=True)
class Cells:
    """What photos show of voxels.

    Args:
        numbers: (N,) of the voxels, ascending.
        values: (N, C) medians over the photos.
        photos: (N,) how many photos show each.
        points: (N, 3) means of the points in each.
    """

    numbers: NDArray[np.int64]
    values: Array
    photos: NDArray[np.int64]
    points: Array

    def chosen(self, which: Bools) -> Cells:
        """Return some of the voxels."""
        return Cells(self.numbers[which], self.values[which], self.photos[which], self.points[which])

    def at(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], Bools]:
        """Return the indices of voxels by their numbers, and whether they exist."""
        index = np.searchsorted(self.numbers, numbers).clip(0, max(0, len(self.numbers) - 1))
        found: Bools = self.numbers[index] == numbers if len(self.numbers) else np.zeros(len(numbers), bool)
        return index, found


def fuse(points: Sequence[Array], values: Sequence[Array], size: float, least: int) -> Cells:
    """Take the median of values over the photos, by voxel.

    Args:
        points: (n, 3) of each photo.
        values: (n, C) of each photo's points, without NaN.
        size: of a voxel.
        least: the least number of photos that show a voxel.
    """
    rows = []
    for at, value in zip(points, values, strict=True):
        number, place, count = np.unique(voxels(at, size), return_inverse=True, return_counts=True)
        columns = np.column_stack([value, at])
        sums = np.stack([np.bincount(place, column, len(number)) for column in columns.T], axis=1)
        rows.append((number, sums / count[:, None]))
    number = np.concatenate([row[0] for row in rows])
    value = np.concatenate([row[1] for row in rows])
    width = value.shape[1]
    order = np.argsort(number, kind="stable")
    number, value = number[order], value[order]
    first = np.flatnonzero(np.diff(number, prepend=-1))
    count = np.diff(np.append(first, len(number)))
    kept = count >= least
    medians = np.empty((len(first), width), np.float32)
    for column in range(width):
        ranked = value[np.lexsort((value[:, column], number)), column]
        low, high = first + (count - 1) // 2, first + count // 2
        medians[:, column] = (ranked[low] + ranked[high]) / 2
    return Cells(number[first][kept], medians[kept, :-3], count[kept], medians[kept, -3:])
