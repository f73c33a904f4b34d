"""Generate a camera path along the photos' cameras."""

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

__all__ = ["tour"]

_DIRECTION_WEIGHT = 0.4  # of a difference in direction relative to one in position, by their shift of the picture
_TURN_COST = 0.06  # the cost of a radian of turning, as a distance of the cameras from the path in typical depths
_HAIRPIN_COST = 0.6  # of turning back to another height, as such a distance
_BACK = -0.5  # the cosine between headings where the camera turns back
_PER_DEPTH, _WITHIN = 10, 15  # samples of the path, by typical depth, and those within which the camera turns back
_LEVELS_APART = 0.1  # heights of photos that are at different levels, in typical depths
_MOST_STOPS = 30
_TURN_PACE = 1.5  # radians per typical depth; where the path turns faster, the camera moves more slowly


def tour(photos: PosedPhotos, at: Array) -> Array:
    """Return the poses (F, 4, 4) of a tour at the positions `at` (F,), from 0 to 1.

    A tour is the simplest smooth path that passes near most cameras. The cameras are clustered to a few stops, the
    stops are ordered by the shortest path through them, whatever the order of the photos, and the path is smoothed. It
    runs in the direction in which most photos were taken. If they were taken at several heights, it keeps to one of
    them or between them, instead of going back at the next.

    The speed is constant along the path. Where the path turns by more than 1.5 radians per typical depth, as at the
    corners of a corridor, the speed of turning is constant instead.

    Photos far from the others are ignored. If the path leaves the area that the photos cover (`sight.covered`), it is
    cut to its longest covered part.

    Raises:
        InvalidInput: the photos are too far apart.
    """
    photos = together(photos)
    places = np.hstack([photos.centres / photos.depth, _DIRECTION_WEIGHT * photos.directions])
    places = places[:: 1 + len(places) // 500]
    way = _simplest_way(places, photos)
    nearest = np.linalg.norm(places[:, None] - way, axis=2).argmin(axis=1)
    if goes_back(nearest):
        way = way[::-1]
    centres, directions = way[:, :3] * photos.depth, unit(way[:, 3:])
    shift, turn = (np.linalg.norm(np.diff(a, axis=0), axis=1) for a in (way[:, :3], directions))
    pace = np.maximum(shift, turn / _TURN_PACE)
    gone = np.concatenate([[0], np.cumsum(pace)])
    wanted = gone[-1] * at
    centres, directions = (np.stack([np.interp(wanted, gone, c) for c in a.T], axis=1) for a in (centres, directions))
    return upright(centres, directions)


def _simplest_way(places: Array, photos: PosedPhotos) -> Array:
    """Return the smooth path (M, D) with the best compromise between nearness to the places and straightness.

    Candidates follow all places, or those at one level. Each is cut to its longest part that the photos cover.
    """
    best, lowest = np.empty((0, places.shape[1])), np.inf
    for some in (places, *_levels(places)):
        for number in range(min(2, len(some)), min(_MOST_STOPS, len(some)) + 1):
            stops = _in_order(_gather(some, number))
            way = _fit(some, stops)
            way = way[longest_run(covered(photos, way[:, :3] * photos.depth, unit(way[:, 3:]), STRICTER * OFF))]
            if len(way) < 2:
                continue
            off = np.quantile(np.linalg.norm(places[:, None] - way, axis=2).min(axis=1), 0.9)
            cost = off + _TURN_COST * _turning(stops) + _HAIRPIN_COST * _hairpins(way)
            if cost < lowest:
                best, lowest = way, cost
    if not len(best):
        raise InvalidInput("The photos are too far apart for a path along them. Choose the spiral instead.")
    return best


def _levels(places: Array) -> list[Array]:
    """Return the places at each height, if there are gaps between the heights at which photos were taken."""
    order = np.argsort(places[:, 2], kind="stable")
    ends = np.flatnonzero(np.diff(places[order, 2]) > _LEVELS_APART) + 1
    parts = [np.sort(part) for part in np.split(order, ends)]
    return [places[part] for part in parts if 3 <= len(part) < len(places)]


def _turning(stops: Array) -> float:
    """Return how much the path turns at its stops, in radians."""
    steps = unit(np.diff(stops, axis=0))
    return float(np.arccos(np.clip(np.einsum("ij,ij->i", steps[1:], steps[:-1]), -1, 1)).sum())


def _hairpins(way: Array) -> int:
    """Return how often the camera turns back to another height within one and a half typical depths."""
    gone = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(way[:, :3], axis=0), axis=1))])
    every = np.arange(0, gone[-1], 1 / _PER_DEPTH)
    centres = np.stack([np.interp(every, gone, axis) for axis in way[:, :3].T], axis=1)
    headings, heights = unit(np.diff(centres, axis=0)), centres[:-1, 2]
    back = np.einsum("ij,ij->i", headings[_WITHIN:], headings[:-_WITHIN]) < _BACK
    back &= np.abs(heights[_WITHIN:] - heights[:-_WITHIN]) > _LEVELS_APART
    return int(np.count_nonzero(np.diff(back.astype(int), prepend=0) > 0))


def _gather(places: Array, number: int) -> Array:
    """Return the means (number, D) of clusters of places: Lloyd's k-means, started at the farthest places."""
    means = places[[int(np.linalg.norm(places - places.mean(axis=0), axis=1).argmax())]]
    while len(means) < number:
        apart = np.linalg.norm(places[:, None] - means, axis=2).min(axis=1)
        means = np.vstack([means, places[apart.argmax()]])
    for _ in range(20):
        nearest = np.linalg.norm(places[:, None] - means, axis=2).argmin(axis=1)
        before = means
        means = np.stack([places[nearest == k].mean(axis=0) if k in nearest else means[k] for k in range(number)])
        if np.array_equal(means, before):
            break
    return means


def _in_order(stops: Array) -> Array:
    """Order the stops along a short open path: nearest neighbours from each stop, then 2-opt (Croes 1958)."""
    distances = np.linalg.norm(stops[:, None] - stops, axis=2)
    apart: list[list[float]] = distances.tolist()  # single elements are read many times, which arrays are slow at
    best, shortest = list(range(len(stops))), np.inf
    for start in range(len(stops)):
        order, left = [start], set(range(len(stops))) - {start}
        while left:
            order.append(min(left, key=lambda k: apart[order[-1]][k]))
            left.remove(order[-1])
        while _untangle(order, apart):
            pass
        length = float(distances[order[:-1], order[1:]].sum())
        if length < shortest - 1e-9:
            best, shortest = order, length
    return stops[best]


def _untangle(order: list[int], apart: list[list[float]]) -> bool:
    """Reverse every stretch of `order` whose reversal shortens the path. Return whether there was one."""
    better = False
    for i in range(len(order) - 1):
        for j in range(i + 1, len(order)):
            first, last, gain = order[i], order[j], 0.0
            if i > 0:
                gain += apart[order[i - 1]][first] - apart[order[i - 1]][last]
            if j + 1 < len(order):
                gain += apart[last][order[j + 1]] - apart[first][order[j + 1]]
            if gain > 1e-9:
                order[i : j + 1] = order[i : j + 1][::-1]
                better = True
    return better


def _fit(places: Array, stops: Array, samples: int = 300) -> Array:
    """Return a smooth path (samples, D) through the middle of the places, along the stops.

    The places are projected to the path, and lines are fitted locally along it. The bandwidth is half the distance
    between two stops. This is a step of a principal curve (Hastie & Stuetzle 1989), which is taken twice.
    """
    share = np.linspace(0, len(stops) - 1, samples)
    way = np.stack([np.interp(share, np.arange(len(stops)), axis) for axis in stops.T], axis=1)
    width = samples / len(stops) / 2
    for _ in range(2):
        at = np.linalg.norm(places[:, None] - way, axis=2).argmin(axis=1)
        along = np.linspace(at.min(), at.max(), samples)
        near = np.exp(-0.5 * ((along[:, None] - at) / width) ** 2) + 1e-12
        near /= near.sum(axis=1, keepdims=True)
        middle = weighted(near, at.astype(np.float64))
        offsets = at - middle[:, None]
        slopes = weighted(near * offsets, places) / (near * offsets**2).sum(axis=1, keepdims=True).clip(1e-9)
        way = weighted(near, places) + (along - middle)[:, None] * slopes
    return way
