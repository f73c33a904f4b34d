"""Generate camera paths of simple shapes: around the focus of the cameras, past it, and near one camera."""

from __future__ import annotations

import numpy as np

from jobs.errors import InvalidInput
from jobs.path.photos import (
    OFF,
    STRICTER,
    Array,
    PosedPhotos,
    goes_back,
    longest_run,
    together,
    unit,
    upright,
    weighted,
)
from jobs.path.sight import covered

__all__ = ["orbit", "spiral", "sweep"]

_CLOSED_GAP = np.radians(75)  # a ring of cameras with a wider gap is open
_ARC_MARGIN = 0.05  # the share of an open arc that is left out at each end, where few photos saw the scene
_ORBIT_BLUR = np.radians(15)  # standard deviation of the smoothing along an orbit
_ONE_FRONT = 0.8  # the least length of the mean view direction of one front; directions then differ by about 37 degrees
_AROUND = 720  # samples of an orbit
_SPIRAL = np.array([0.12, 0.06, 0.06])  # the radii of a spiral to the right, up and back, in typical depths
_SPIRAL_TURNS = 2


def orbit(photos: PosedPhotos, at: Array) -> Array:
    """Return the poses (F, 4, 4) of an orbit around the focus at the positions `at` (F,), from 0 to 1.

    Distance and height are those of the cameras on that side. The orbit is a full circle if the cameras form one.
    Otherwise it swings forth and back along the longest arc that the cameras cover (`sight.covered`). Both end where
    they began, so that the video can be looped.

    Raises:
        InvalidInput: the photos do not look at one place, or cover no part of an orbit.
    """
    photos = together(photos)
    focus = photos.focus
    offsets = photos.centres - focus
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    towards = float(np.median(np.einsum("ij,ij->i", unit(-offsets), photos.directions)))
    if abs(towards) < 0.5:
        raise InvalidInput(
            "The photos do not look at one place, so there is no orbit around it. Choose the tour instead."
        )
    side = np.sign(towards)
    around, radius, height = _ring(offsets, angles, _CLOSED_GAP)
    seen = covered(photos, *_on_ring(focus, side, around, radius, height), STRICTER * OFF)
    closed = around[-1] - around[0] >= 2 * np.pi and bool(seen.all())
    if not closed:
        around, radius, height = _ring(offsets, angles, 0.0)
        seen = covered(photos, *_on_ring(focus, side, around, radius, height), STRICTER * OFF)
        run = longest_run(seen)
        if run.stop - run.start < 2:
            raise InvalidInput(
                "The photos cover no part of an orbit around the place they look at. Choose the tour instead."
            )
        around, radius, height = around[run], radius[run], height[run]
    share = at if closed else 0.5 - 0.5 * np.cos(2 * np.pi * at)
    to = around[0] + (around[-1] - around[0]) * share
    way = _on_ring(focus, side, to, *(np.interp(to, around, each) for each in (radius, height)))
    return upright(*way)


def _ring(offsets: Array, angles: Array, closed_gap: float) -> tuple[Array, Array, Array]:
    """Return angles (S,) along the arc of the cameras, and the smoothed radius and height of the cameras there.

    Args:
        offsets: (N, 3) of the cameras from the focus.
        angles: (N,) of the offsets about +Z, in radians.
        closed_gap: see `_arc`.
    """
    around = np.linspace(*_arc(angles, closed_gap), _AROUND + 1)
    apart = np.angle(np.exp(1j * (around[:, None] - angles)))
    near = np.exp(-0.5 * (apart / _ORBIT_BLUR) ** 2) + 1e-12
    near /= near.sum(axis=1, keepdims=True)
    return around, weighted(near, np.linalg.norm(offsets[:, :2], axis=1)), weighted(near, offsets[:, 2])


def _on_ring(focus: Array, side: float, around: Array, radius: Array, height: Array) -> tuple[Array, Array]:
    """Return positions (S, 3) around the focus, and view directions towards it, or away from it if `side` is -1."""
    offsets = np.stack([radius * np.cos(around), radius * np.sin(around), height], axis=1)
    return focus + offsets, unit(-side * offsets)


def sweep(photos: PosedPhotos, at: Array) -> Array:
    """Return the poses (F, 4, 4) of a sweep at the positions `at` (F,), from 0 to 1.

    A sweep is a straight path past a front, with one view direction.

    Raises:
        InvalidInput: the photos do not show one front, or were not taken along a line in front of it.
    """
    photos = together(photos)
    mean = photos.directions.mean(axis=0)
    direction = unit(mean)
    middle = photos.centres.mean(axis=0)
    sideways = photos.centres - middle
    sideways = sideways - np.outer(sideways @ direction, direction)
    across = np.linalg.svd(sideways, full_matrices=False)[2][0]
    along = sideways @ across
    if goes_back(along):
        across, along = -across, -along
    # At the ends, photos often look inwards, and then no photo shows the front right before the last camera.
    aims = along + photos.depth * (photos.directions @ across)
    ends = np.quantile([along, aims], [_ARC_MARGIN, 1 - _ARC_MARGIN], axis=1)
    first, last = ends[0].max(), ends[1].min()
    slope = along @ (photos.centres - middle) / max(float(along @ along), 1e-12)
    centres = middle + (first + (last - first) * at)[:, None] * slope
    directions = np.tile(direction, (len(at), 1))
    one_front = np.linalg.norm(mean) >= _ONE_FRONT and last - first >= 0.1 * photos.depth
    if not one_front or not covered(photos, centres, directions).all():
        raise InvalidInput(
            "The photos were not taken along one front, so there is no sweep past it. Choose the tour instead."
        )
    return upright(centres, directions)


def spiral(photos: PosedPhotos, at: Array) -> Array:
    """Return the poses (F, 4, 4) of a small spiral at the positions `at` (F,), from 0 to 1.

    It is near the most central camera, and all poses look at the centre of that camera's photo. The spiral shows the
    depth of the scene from where it was seen best, and ends where it began. It follows LLFF (Mildenhall et al. 2019),
    whose spiral is around the mean of the cameras, where there need not be a photo.
    """
    photos = photos.largest_part()
    places = np.hstack([photos.centres / photos.depth, photos.directions])
    some = places[:: 1 + len(places) // 500]
    middle = int(np.argmin([np.linalg.norm(place - some, axis=1).sum() for place in places]))
    centre, direction = photos.centres[middle], photos.directions[middle]
    axes = upright(centre[None], direction[None])[0, :3, :3]
    turn = 2 * np.pi * _SPIRAL_TURNS * at
    offsets = np.stack([np.cos(turn), np.sin(turn), np.sin(turn / _SPIRAL_TURNS)], axis=1) * _SPIRAL * photos.depth
    centres = centre + offsets @ axes.T
    return upright(centres, centre + photos.depth * direction - centres)


def _arc(angles: Array, closed_gap: float) -> tuple[float, float]:
    """Return the first and the last angle, in radians, of the arc that `angles` cover.

    They are 2 pi apart if no gap between neighbouring angles is wider than `closed_gap`.
    """
    ordered = np.sort(angles)
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    first = float(ordered[(widest + 1) % len(ordered)])
    if gaps[widest] < closed_gap and len(ordered) > 2:
        return first, first + 2 * np.pi
    covered = 2 * np.pi - float(gaps[widest])
    return first + _ARC_MARGIN * covered, first + (1 - _ARC_MARGIN) * covered
