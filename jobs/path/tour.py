"""A camera path along the cameras of a capture."""

from __future__ import annotations

import numpy as np

from jobs.errors import InvalidInput
from jobs.path.capture import OFF, STRICTER, Array, Capture, goes_back, longest_run, together, unit, upright
from jobs.path.sight import covered

__all__ = ["tour"]

_LOOK_WEIGHT = 0.4  # of a difference in look against one in place, both as they shift the picture
_TURN_COST = 0.06  # what a radian of turning costs a tour, in the distance that cameras are off it, by the depth
_MOST_STOPS = 30  # of a tour
_TURN_PACE = 1.5  # a tour goes slower where more radians than this come on a way as long as the depth


def tour(capture: Capture, at: Array) -> Array:
    """(F, 4, 4) poses at the moments `at` (F,), 0 to 1, of a way along the capture.

    It is the simplest smooth line that passes near most of the cameras.

    Cameras are gathered to as few stops as will do, the stops are put in the order of the shortest way through
    them, whatever the order of the photos was, and the way is smoothed. The camera goes at a constant speed, by the
    length of its way; where it turns by more than 1.5 radians on a way as long as the typical depth, as at the corners
    of a corridor, it goes slower, so that the turn is at a constant speed instead. The way is gone in the direction
    that the order of the photos has on the whole. Photos apart from most are left out, and where the way would leave
    what the photos cover (`sight.covered`), it is cut to its longest part that does not.

    Raises:
        InvalidInput: there is no such way: the photos are too far from each other.
    """
    capture = together(capture)
    places = np.hstack([capture.centres / capture.depth, _LOOK_WEIGHT * capture.looks])
    places = places[:: 1 + len(places) // 500]
    way = _simplest_way(places, capture)
    nearest = np.linalg.norm(places[:, None] - way, axis=2).argmin(axis=1)
    if goes_back(nearest):
        way = way[::-1]
    centres, looks = way[:, :3] * capture.depth, unit(way[:, 3:])
    shift, turn = (np.linalg.norm(np.diff(a, axis=0), axis=1) for a in (way[:, :3], looks))
    pace = np.maximum(shift, turn / _TURN_PACE)
    gone = np.concatenate([[0], np.cumsum(pace)])
    wanted = gone[-1] * at
    centres, looks = (np.stack([np.interp(wanted, gone, c) for c in a.T], axis=1) for a in (centres, looks))
    return upright(centres, looks)


def _simplest_way(places: Array, capture: Capture) -> Array:
    """(M, D) the smooth line that is the best bargain between passing near the places and going straight.

    Of each line, it is the longest part that the photos cover.
    """
    best, lowest = np.empty((0, places.shape[1])), np.inf
    for number in range(min(2, len(places)), min(_MOST_STOPS, len(places)) + 1):
        stops = _in_order(_gather(places, number))
        way = _fit(places, stops)
        way = way[longest_run(covered(capture, way[:, :3] * capture.depth, unit(way[:, 3:]), STRICTER * OFF))]
        if len(way) < 2:
            continue
        off = np.quantile(np.linalg.norm(places[:, None] - way, axis=2).min(axis=1), 0.9)
        steps = unit(np.diff(stops, axis=0))
        turning = np.arccos(np.clip(np.einsum("ij,ij->i", steps[1:], steps[:-1]), -1, 1)).sum()
        if off + _TURN_COST * turning < lowest:
            best, lowest = way, off + _TURN_COST * turning
    if not len(best):
        raise InvalidInput("The photos are too far from each other for a way along them; take the spiral instead.")
    return best


def _gather(places: Array, number: int) -> Array:
    """(number, D) means of clusters of places: Lloyd's k-means from the places farthest from each other."""
    means = places[[int(np.linalg.norm(places - places.mean(axis=0), axis=1).argmax())]]
    while len(means) < number:
        apart = np.linalg.norm(places[:, None] - means, axis=2).min(axis=1)
        means = np.vstack([means, places[apart.argmax()]])
    for _ in range(20):
        nearest = np.linalg.norm(places[:, None] - means, axis=2).argmin(axis=1)
        means = np.stack([places[nearest == k].mean(axis=0) if k in nearest else means[k] for k in range(number)])
    return means


def _in_order(stops: Array) -> Array:
    """The stops in the order of a short open way through all: nearest neighbour from each, then 2-opt (Croes 1958)."""
    apart = np.linalg.norm(stops[:, None] - stops, axis=2)
    best, shortest = list(range(len(stops))), np.inf
    for start in range(len(stops)):
        order, left = [start], set(range(len(stops))) - {start}
        while left:
            order.append(min(left, key=lambda k: apart[order[-1], k]))
            left.remove(order[-1])
        while _untangle(order, apart):
            pass
        length = float(apart[order[:-1], order[1:]].sum())
        if length < shortest - 1e-9:
            best, shortest = order, length
    return stops[best]


def _untangle(order: list[int], apart: Array) -> bool:
    """Turn round every stretch of `order` that makes the way shorter when turned; whether there was any."""
    better = False
    for i in range(len(order) - 1):
        for j in range(i + 1, len(order)):
            first, last, gain = order[i], order[j], 0.0
            if i > 0:
                gain += apart[order[i - 1], first] - apart[order[i - 1], last]
            if j + 1 < len(order):
                gain += apart[last, order[j + 1]] - apart[first, order[j + 1]]
            if gain > 1e-9:
                order[i : j + 1] = order[i : j + 1][::-1]
                better = True
    return better


def _fit(places: Array, stops: Array, samples: int = 300) -> Array:
    """(samples, D) a smooth line through the middle of the places along the way of the stops.

    The places are projected to the way and locally fitted by lines over its length, with a bandwidth of half the
    distance of two stops: a step of a principal curve (Hastie & Stuetzle 1989), taken twice.
    """
    share = np.linspace(0, len(stops) - 1, samples)
    way = np.stack([np.interp(share, np.arange(len(stops)), axis) for axis in stops.T], axis=1)
    width = samples / len(stops) / 2
    for _ in range(2):
        at = np.linalg.norm(places[:, None] - way, axis=2).argmin(axis=1)
        along = np.linspace(at.min(), at.max(), samples)
        near = np.exp(-0.5 * ((along[:, None] - at) / width) ** 2) + 1e-12
        near /= near.sum(axis=1, keepdims=True)
        middle = near @ at
        offsets = at - middle[:, None]
        slopes = (near * offsets) @ places / (near * offsets**2).sum(axis=1, keepdims=True).clip(1e-9)
        way = near @ places + (along - middle)[:, None] * slopes
    return way
