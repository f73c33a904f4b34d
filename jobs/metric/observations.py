"""Turn picks and measurements into observations for the adjustment, in the scene frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from jobs.geometry import Floats
from jobs.metric.adjust import Distance, Measured, Position
from jobs.metric.cameras import Camera, Cameras, Untriangulated
from jobs.metric.earth import Local
from jobs.metric.given import Control, Given, Length, Pick
from jobs.metric.scene import Area, Entry
from jobs.metric.triangulation import Point, triangulate

__all__ = ["Observations", "distance_between", "observe", "triangulated"]


@dataclass
class Observations:
    """Measurements for the adjustment.

    Args:
        measured: those that can be adjusted.
        unusable: those that cannot, with the reason.
        notes: which picks of a used measurement are not used, by its kind and name.
        point_errors: standard errors of triangulated points, scene units.
        areas: those that people named.
        local: the coordinate frame of positions on the earth; None for local coordinates, or without positions.
    """

    measured: list[Measured] = field(default_factory=list)
    unusable: list[Entry] = field(default_factory=list)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    point_errors: list[float] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    local: Local | None = None


def observe(given: Given, cameras: Cameras) -> Observations:
    """Triangulate the ends of lengths, the corners of areas and the control points.

    What cannot be triangulated is listed as unusable, with the reason.
    """
    found = Observations()
    for length in given.lengths:
        _observe_length(length, given, cameras, found)
    for area in given.areas:
        try:
            corners = [triangulated(picks, cameras, given.pick_accuracy)[0].position for picks in area.corners]
        except Untriangulated as why:
            found.unusable.append(Entry(kind="area", name=area.name, used=False, why=f"a corner {why}"))
        else:
            found.areas.append(Area(name=area.name, corners=tuple((x, y, z) for x, y, z in np.array(corners).tolist())))
    if on_earth := [each for each in given.control if each.position is None]:
        found.local = Local(*_place(on_earth).mean(axis=0).tolist())
    for control in given.control:
        _observe_control(control, given, cameras, found)
    return found


def _observe_length(length: Length, given: Given, cameras: Cameras, found: Observations) -> None:
    ends, notes = [], []
    for words, picks in (("one end", length.start), ("the other end", length.end)):
        try:
            point, note = triangulated(picks, cameras, given.pick_accuracy)
        except Untriangulated as why:
            found.unusable.append(Entry(kind="length", name=length.name, used=False, why=f"{words} {why}"))
            return
        ends.append(point)
        notes += [note] if note else []
    units, error = distance_between(ends[0], ends[1], cameras.pose_error)
    if units < 3 * error:
        short = f"too short for its picks: {units:.3g} ± {error:.2g} scene units. Measure something longer"
        found.unusable.append(Entry(kind="length", name=length.name, used=False, why=short))
        return
    found.point_errors += [end.error for end in ends]
    if notes:
        found.notes["length", length.name] = "; ".join(notes)
    distance = Distance(length.metres, length.accuracy, units, error)
    found.measured.append(Measured("length", length.name, distances=(distance,)))


def _observe_control(control: Control, given: Given, cameras: Cameras, found: Observations) -> None:
    try:
        point, note = triangulated(control.picks, cameras, given.pick_accuracy)
    except Untriangulated as error:
        found.unusable.append(Entry(kind="control point", name=control.name, used=False, why=f"it {error}"))
        return
    if control.position is not None:
        metres = np.array(control.position)
    else:
        assert found.local
        metres = found.local.from_degrees(_place([control]))[0]
    if note:
        found.notes["control point", control.name] = note
    found.point_errors.append(point.error)
    covariance = point.covariance + (cameras.pose_error * point.distance) ** 2 * np.eye(3)
    position = Position(point.position, covariance, metres, np.full(3, given.control_accuracy))
    found.measured.append(Measured("control point", control.name, positions=(position,)))


def _place(control: Sequence[Control]) -> Floats:
    """Return the latitudes and longitudes in degrees and the heights in metres (n, 3) of points on the earth."""
    return np.array([[each.latitude, each.longitude, each.height] for each in control], float)


def triangulated(picks: Sequence[Pick], cameras: Cameras, accuracy: float) -> tuple[Point, str]:
    """Return the point that photos show, and which picks are not used, in words.

    Args:
        picks: in pixels of the photos.
        cameras: of the dataset.
        accuracy: the standard deviation of a pick, in pixels of the photos.

    Raises:
        Untriangulated: the picks do not determine a point.
    """
    seen: list[tuple[Camera, Floats]] = []
    lost = []
    for pick in picks:
        camera = cameras.find(pick.photo)
        if camera is None:
            lost.append(pick.photo)
            continue
        pixel = np.array([pick.x, pick.y]) * camera.scale
        if (pixel > np.array(camera.size) + 1).any():
            width, height = (round(side / camera.scale) for side in camera.size)
            raise Untriangulated(f"is picked at {pick.x:g}, {pick.y:g} in {pick.photo}, which is {width} × {height} px")
        seen.append((camera, pixel))
    if len(seen) < 2:
        why = f" ({', '.join(lost[:3])} could not be registered)" if lost else ""
        raise Untriangulated(f"is picked in {len(seen)} registered photo{'s' * (len(seen) != 1)}, 2 are needed{why}")
    scales = np.array([camera.scale for camera, _ in seen])
    point = triangulate([camera for camera, _ in seen], np.array([pixel for _, pixel in seen]), accuracy * scales)
    notes = [f"{name} is not registered" for name in lost]
    notes += [f"the pick in {name} contradicts the others" for name in point.left_out]
    return point, ", ".join(notes)


def distance_between(first: Point, second: Point, pose_error: float) -> tuple[float, float]:
    """Return the distance between two points and its standard error, in scene units.

    On average, two uncertain points are farther apart than the true ones. The result is corrected for that.

    Args:
        first, second: the points.
        pose_error: see `Cameras.pose_error`.
    """
    apart = second.position - first.position
    length = float(np.linalg.norm(apart))
    if length == 0:
        return 0.0, 0.0
    along, covariance = apart / length, first.covariance + second.covariance
    variance = float(along @ covariance @ along)
    longer = (float(np.trace(covariance)) - variance) / (2 * length)
    poses = pose_error * min(length, first.distance, second.distance)
    return max(length - longer, 0.0), float(np.hypot(np.sqrt(variance), poses))
