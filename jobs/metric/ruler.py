"""Distances, heights, angles and areas between triangulated points, each with its standard error.

The page for measuring computes the same in `ruler.js`; a test holds both to each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jobs.geometry import Floats
from jobs.metric.cameras import Untriangulated
from jobs.metric.observations import distance_between
from jobs.metric.scene import Scale, Up
from jobs.metric.triangulation import Point

__all__ = ["Figure", "Quantity", "figure"]

Quantity = Literal["distance", "height", "angle", "area"]


@dataclass(frozen=True)
class Figure:
    """A measured quantity.

    Args:
        value: in scene units or metres to a power; degrees for an angle.
        error: the standard error of the value.
        power: of the unit of length: 1 for distances and heights, 2 for areas, 0 for angles.
    """

    value: float
    error: float
    power: int

    def scaled(self, scale: Scale) -> Figure:
        """Return the figure in metres; the error of the scale is added."""
        times = scale.metres**self.power
        error = math.hypot(self.error * times, self.power * scale.error * self.value * times)
        return Figure(self.value * times, error, self.power)


def figure(quantity: Quantity, points: Sequence[Point], pose_error: float, up: Up) -> Figure:
    """Return what points measure, in scene units or degrees.

    Args:
        quantity: a distance between two points; the height of the second above the first; the angle at the second of
            three; or the area of a flat polygon, by its corners in order.
        points: the two, three or more points of the quantity.
        pose_error: see `Cameras.pose_error`.
        up: of the scene. Its error is part of a height's.

    Raises:
        Untriangulated: two points are in the same place, or the sides of a polygon cross each other.
    """
    if quantity == "distance":
        return Figure(*distance_between(points[0], points[1], pose_error), 1)
    if quantity == "height":
        return _height(points[0], points[1], pose_error, up)
    if quantity == "angle":
        return _angle(points, pose_error)
    return _area(points, pose_error)


def _height(first: Point, second: Point, pose_error: float, up: Up) -> Figure:
    direction = np.array(up.direction)
    apart = second.position - first.position
    value, length = float(direction @ apart), float(np.linalg.norm(apart))
    level = math.sqrt(max(length**2 - value**2, 0.0))
    poses = pose_error * min(length, first.distance, second.distance)
    picks = float(direction @ (first.covariance + second.covariance) @ direction)
    return Figure(value, math.hypot(math.sqrt(picks), poses, math.radians(up.error) * level), 1)


def _angle(points: Sequence[Point], pose_error: float) -> Figure:
    first, corner, last = points
    arms = [end.position - corner.position for end in (first, last)]
    lengths = [float(np.linalg.norm(arm)) for arm in arms]
    if min(lengths) == 0:
        raise Untriangulated("has two points in the same place")
    u, v = (arm / length for arm, length in zip(arms, lengths, strict=True))
    normal = np.cross(u, v)
    sine, cosine = float(np.linalg.norm(normal)), float(u @ v)
    if sine < 1e-9:  # the arms are on one line, so any plane through them will do
        normal = np.cross(u, np.eye(3)[np.abs(u).argmin()])
    normal = normal / np.linalg.norm(normal)
    # Turning an arm within the plane changes the angle by the same amount.
    across = [np.cross(u, normal) / lengths[0], np.cross(normal, v) / lengths[1]]
    gradients = (across[0], -across[0] - across[1], across[1])
    variance = sum(float(g @ point.covariance @ g) for g, point in zip(gradients, points, strict=True))
    for end, length in ((first, lengths[0]), (last, lengths[1])):
        variance += (pose_error * min(length, end.distance, corner.distance) / length) ** 2
    return Figure(math.degrees(math.atan2(sine, cosine)), math.degrees(math.sqrt(variance)), 0)


def _area(points: Sequence[Point], pose_error: float) -> Figure:
    positions = np.array([point.position for point in points])
    positions = positions - positions[0]
    before, after = np.roll(positions, 1, axis=0), np.roll(positions, -1, axis=0)
    vector = np.cross(positions, after).sum(axis=0) / 2
    value = float(np.linalg.norm(vector))
    if value == 0:
        raise Untriangulated("has no area: its corners are on one line")
    normal = vector / value
    if _crossed(positions, normal):
        raise Untriangulated("has sides that cross each other: pick its corners in order")
    total = np.zeros((3, 3))  # the covariance of the vector
    for side, point in zip(after - before, points, strict=True):
        turn = np.cross(np.eye(3), side) / 2
        total += turn.T @ point.covariance @ turn
    variance = float(normal @ total @ normal)
    larger = (float(np.trace(total)) - variance) / (2 * value)  # as for distances: noise tilts the vector
    size = max(float(np.linalg.norm(a - b)) for a in positions for b in positions)
    poses = 2 * value * pose_error * min(1.0, min(point.distance for point in points) / size)
    return Figure(max(value - larger, 0.0), math.hypot(math.sqrt(variance), poses), 2)


def _crossed(positions: Floats, normal: Floats) -> bool:
    """Return whether two sides of a polygon cross, as seen along its normal."""

    def turn(a: Floats, b: Floats, c: Floats) -> float:
        return float(np.cross(b - a, c - a) @ normal)

    sides = list(zip(positions, np.roll(positions, -1, axis=0), strict=True))
    for i, (a, b) in enumerate(sides):
        for c, d in sides[i + 2 :]:
            if turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0:
                return True
    return False
