"""Camera paths of simple shapes: around what the cameras of a capture look at, past it, and about one of them."""

from __future__ import annotations

import numpy as np

from jobs.errors import InvalidInput
from jobs.path.capture import OFF, STRICTER, Array, Capture, goes_back, longest_run, together, unit, upright
from jobs.path.sight import covered

__all__ = ["orbit", "spiral", "sweep"]

_CLOSED_GAP = np.radians(75)  # cameras with a wider gap between them do not go all round
_ARC_MARGIN = 0.05  # of an open arc, left out at each end, where few photos saw the scene
_ORBIT_BLUR = np.radians(15)
_ONE_FRONT = 0.8  # length of the mean look of photos of one front: they differ by 37 degrees from it on the whole
_AROUND = 720  # samples of an orbit
_SPIRAL = np.array([0.12, 0.06, 0.06])  # how far a spiral goes to the right, up and back, by the depth
_SPIRAL_TURNS = 2


def orbit(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a way around the focus.

    It is at the distance and height that the cameras have on that side.

    Goes once all round where the cameras do; else swings to and fro over the longest arc that they cover
    (`sight.covered`). Both end where they begin, so that the video can be looped.

    Raises:
        InvalidInput: the photos do not look at one place, or cover nothing of a way around it.
    """
    capture = together(capture)
    focus = capture.focus
    offsets = capture.centres - focus
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    towards = float(np.median(np.einsum("ij,ij->i", unit(-offsets), capture.looks)))
    if abs(towards) < 0.5:
        raise InvalidInput("The photos do not look at one place that an orbit could go around; take the tour instead.")
    look = np.sign(towards)
    around, radius, height = _ring(offsets, angles, _CLOSED_GAP)
    seen = covered(capture, *_on_ring(focus, look, around, radius, height), STRICTER * OFF)
    closed = around[-1] - around[0] >= 2 * np.pi and bool(seen.all())
    if not closed:
        around, radius, height = _ring(offsets, angles, 0.0)
        seen = covered(capture, *_on_ring(focus, look, around, radius, height), STRICTER * OFF)
        run = longest_run(seen)
        if run.stop - run.start < 2:
            raise InvalidInput("The photos cover nothing of a way around what they look at; take the tour instead.")
        around, radius, height = around[run], radius[run], height[run]
    share = at if closed else 0.5 - 0.5 * np.cos(2 * np.pi * at)
    to = around[0] + (around[-1] - around[0]) * share
    way = _on_ring(focus, look, to, *(np.interp(to, around, each) for each in (radius, height)))
    return upright(*way)


def _ring(offsets: Array, angles: Array, closed_gap: float) -> tuple[Array, Array, Array]:
    """(S,) angles over the arc of the cameras, and the radius and height that these have there on the whole.

    Args:
        offsets: (N, 3) of the cameras from the focus.
        angles: (N,) of them about +Z, radians.
        closed_gap: see `_arc`.
    """
    around = np.linspace(*_arc(angles, closed_gap), _AROUND + 1)
    apart = np.angle(np.exp(1j * (around[:, None] - angles)))
    near = np.exp(-0.5 * (apart / _ORBIT_BLUR) ** 2) + 1e-12
    near /= near.sum(axis=1, keepdims=True)
    return around, near @ np.linalg.norm(offsets[:, :2], axis=1), near @ offsets[:, 2]


def _on_ring(focus: Array, look: float, around: Array, radius: Array, height: Array) -> tuple[Array, Array]:
    """(S, 3) places about the focus, and (S, 3) looks towards it, or from it where `look` is -1."""
    offsets = np.stack([radius * np.cos(around), radius * np.sin(around), height], axis=1)
    return focus + offsets, unit(-look * offsets)


def sweep(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a straight way past a front, all looking the same way.

    Raises:
        InvalidInput: the photos do not look at one front, or were not taken along a line before it.
    """
    capture = together(capture)
    mean = capture.looks.mean(axis=0)
    look = unit(mean)
    middle = capture.centres.mean(axis=0)
    sideways = capture.centres - middle
    sideways = sideways - np.outer(sideways @ look, look)
    across = np.linalg.svd(sideways, full_matrices=False)[2][0]
    along = sideways @ across
    if goes_back(along):
        across, along = -across, -along
    # At the ends the photos often look inwards: what is right before the last camera, no photo may have seen.
    aims = along + capture.depth * (capture.looks @ across)
    ends = np.quantile([along, aims], [_ARC_MARGIN, 1 - _ARC_MARGIN], axis=1)
    first, last = ends[0].max(), ends[1].min()
    slope = along @ (capture.centres - middle) / max(float(along @ along), 1e-12)
    centres = middle + (first + (last - first) * at)[:, None] * slope
    looks = np.tile(look, (len(at), 1))
    one_front = np.linalg.norm(mean) >= _ONE_FRONT and last - first >= 0.1 * capture.depth
    if not one_front or not covered(capture, centres, looks).all():
        raise InvalidInput("The photos were not taken along one front that a sweep could pass; take the tour instead.")
    return upright(centres, looks)


def spiral(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a small spiral about the middlemost camera.

    It looks at what is in the middle of that camera's photo.

    It shows the depth of the scene from where it was seen best, and ends where it begins. After LLFF (Mildenhall et
    al. 2019), whose spiral is about the mean of the cameras, where none need be.
    """
    capture = capture.largest_part()
    places = np.hstack([capture.centres / capture.depth, capture.looks])
    some = places[:: 1 + len(places) // 500]
    middle = int(np.argmin([np.linalg.norm(place - some, axis=1).sum() for place in places]))
    centre, look = capture.centres[middle], capture.looks[middle]
    axes = upright(centre[None], look[None])[0, :3, :3]
    turn = 2 * np.pi * _SPIRAL_TURNS * at
    offsets = np.stack([np.cos(turn), np.sin(turn), np.sin(turn / _SPIRAL_TURNS)], axis=1) * _SPIRAL * capture.depth
    centres = centre + offsets @ axes.T
    return upright(centres, centre + capture.depth * look - centres)


def _arc(angles: Array, closed_gap: float) -> tuple[float, float]:
    """The first and last of `angles` (radians) on the arc that they cover; 2 pi apart where they go all round.

    They do where no two of them are farther apart than `closed_gap`.
    """
    ordered = np.sort(angles)
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    widest = int(gaps.argmax())
    first = float(ordered[(widest + 1) % len(ordered)])
    if gaps[widest] < closed_gap and len(ordered) > 2:
        return first, first + 2 * np.pi
    covered = 2 * np.pi - float(gaps[widest])
    return first + _ARC_MARGIN * covered, first + (1 - _ARC_MARGIN) * covered
