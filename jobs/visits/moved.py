"""Recognise what was moved: something gone and something new of the same size, shape and colour.

Only what cannot be confused counts. If two things are alike, nothing says which of them went where, so they stay new
and gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.visits.find import Patch, Surfaces
from jobs.visits.record import Kind
from jobs.visits.views import Array

__all__ = ["Move", "find_moves", "kind_of"]

_IN_AIR = 0.5  # share of a change, or of a voxel's photos, that was or is in the air
_LEAST_VOXELS = 20  # of a thing, for its shape to be known
_SIZE = 1.5  # the largest ratio of two heights, widths or areas of one thing
_DARKER = 2.0  # the largest ratio of two brightnesses of one thing, beyond what the light of the whole scene does
_COLOUR = 2.0  # standard deviations of light by which two colours of one thing differ at most
_FIT = 0.7  # the least share of either shape that lies on the other
_TURNS = 24  # directions about the vertical in which the shapes are compared
_NEAR = 1.5  # voxels; points within it are the same place


@dataclass(frozen=True)
class Move:
    """Something that is gone at one place and new at another.

    Args:
        gone, new: indices of the patches.
        fit: the share, 0 to 1, of either shape that lies on the other: the smaller of both.
    """

    gone: int
    new: int
    fit: float


@dataclass(frozen=True)
class _Thing:
    """A thing without the surfaces behind it: points (N, 3), the median of their colours (3,), and the area."""

    points: Array
    colour: Array
    area: float

    @property
    def sizes(self) -> Array:
        """Return the height, the greatest width and the area. Single voxels at the edge do not count."""
        low, high = np.quantile(self.points[:, 2], [0.03, 0.97])
        flat = self.points[:, :2] - self.points[:, :2].mean(axis=0)
        angles = np.arange(_TURNS) * np.pi / _TURNS
        along = flat @ np.stack([np.cos(angles), np.sin(angles)])
        width = np.ptp(np.quantile(along, [0.03, 0.97], axis=0), axis=0).max()
        return np.array([high - low, width, self.area], np.float32)


def kind_of(patch: Patch) -> Kind:
    """Return what happened: new if the other visit saw through it, gone if this one does."""
    if patch.new > _IN_AIR and len(patch.now) > len(patch.then):
        return "new"
    if patch.gone > _IN_AIR and len(patch.then) > len(patch.now):
        return "gone"
    return "changed"


def find_moves(patches: Sequence[Patch], then: Surfaces, now: Surfaces) -> list[Move]:
    """Return which patches are one thing that was moved."""
    size = now.size
    kinds = [kind_of(patch) for patch in patches]
    gone = {i: _thing(then, patches[i].then, size) for i, kind in enumerate(kinds) if kind == "gone"}
    new = {i: _thing(now, patches[i].now, size) for i, kind in enumerate(kinds) if kind == "new"}
    alike = [
        Move(i, j, fit)
        for i, before in gone.items()
        for j, after in new.items()
        if before and after and _may_be_one(before, after, now) and (fit := _fit(before, after, size)) >= _FIT
    ]
    gone_often, new_often = [move.gone for move in alike], [move.new for move in alike]
    return [move for move in alike if gone_often.count(move.gone) == 1 and new_often.count(move.new) == 1]


def _thing(surfaces: Surfaces, inside: NDArray[np.int64], size: float) -> _Thing | None:
    """Return the thing that is where the other visit sees through; None if it is too small to be recognised."""
    mine = inside[surfaces.air[inside] > _IN_AIR]
    if len(mine) < _LEAST_VOXELS:
        return None
    return _Thing(surfaces.cells.points[mine], np.median(surfaces.colours[mine], axis=0), len(mine) * size**2)


def _may_be_one(before: _Thing, after: _Thing, now: Surfaces) -> bool:
    """Return whether the sizes agree, and the colours, whatever the light."""
    if np.abs(np.log(after.sizes / np.maximum(before.sizes, 1e-9))).max() > np.log(_SIZE):
        return False
    ratio = after.colour - before.colour
    brighter = abs(float((ratio - now.light.mean).mean()))
    return brighter <= np.log(_DARKER) and float(now.light.unlikely(ratio)) <= _COLOUR


def _fit(before: _Thing, after: _Thing, size: float) -> float:
    """Return which share of either shape lies on the other, turned about the vertical as it fits best."""
    from scipy.spatial import cKDTree

    centres = [(each.points.min(axis=0) + each.points.max(axis=0)) / 2 for each in (before, after)]
    moved, still = before.points - centres[0], after.points - centres[1]
    tree, best = cKDTree(still), 0.0
    for angle in np.arange(_TURNS) * 2 * np.pi / _TURNS:
        cos, sin = np.cos(angle), np.sin(angle)
        turned = moved @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        turned += (still.min(axis=0) + still.max(axis=0) - turned.min(axis=0) - turned.max(axis=0)) / 2
        there = (tree.query(turned)[0] < _NEAR * size).mean()
        if there > best:
            best = max(best, float(min(there, (cKDTree(turned).query(still)[0] < _NEAR * size).mean())))
    return best
