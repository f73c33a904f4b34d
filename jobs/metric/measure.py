"""Compute a scene's scale, up, place and north from measurements in its dataset, with standard errors and checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.metric import gps, markers
from jobs.metric.accuracy import tilt_error
from jobs.metric.adjust import Distance, Measured, Solution, adjust, solve
from jobs.metric.cameras import Cameras
from jobs.metric.earth import Local
from jobs.metric.given import Given
from jobs.metric.observations import Observations, observe
from jobs.metric.scene import Check, Entry, Place, Scale, SceneInMetres, Up

__all__ = ["measure", "registration_error"]

_MOST_SCALE_ERROR = 0.5  # relative: above, the scale is not known
_MOST_BEARING_ERROR = 30.0  # degrees
_MOST_CHECKS = 100
_CAPTURE_ERROR = 0.02  # relative standard error of a phone's own scale (ARKit): a guess, as it does not say
_ALIKE = 10.0  # shared points of two visits have similar errors: this many count as one
_SPREAD = 0.35  # as `spread` of `Fit` in jobs/sfm/registration.py, for datasets that do not say: a guess


def measure(dataset: Path, given: Given, earlier: SceneInMetres | None = None) -> SceneInMetres:
    """Return a scene frame in metres.

    Args:
        dataset: a folder that `jobs.prepare` wrote.
        given: what people measured. GPS comes from the dataset.
        earlier: the result of an earlier visit in the same scene frame.

    Raises:
        InvalidInput: the dataset is damaged.
    """
    cameras = Cameras(dataset)
    up = str(cameras.about.get("up", "cameras"))
    tilt_degrees = earlier.up.error if earlier and up == "reference" else tilt_error(up)
    tilt = math.radians(tilt_degrees)
    found = observe(given, cameras)
    if given.markers:
        markers.observe_markers(given.markers, dataset, cameras, found)
    notes, warnings = list(found.unusable), list[str]()
    middle = _add_gps(given, cameras, tilt, found, notes)
    _add_capture(cameras.about, found)
    registration = registration_error(cameras.about)
    if earlier and earlier.scale:
        error = math.hypot(earlier.scale.error, earlier.registration_error, registration)
        distance = Distance(earlier.scale.metres, error * earlier.scale.metres, 1.0, 0.0)
        found.measured.append(Measured("earlier visit", "scale of the scene's frame", distances=(distance,)))
    areas = {area.name: area for area in (*(earlier.areas if earlier else ()), *found.areas)}
    common: dict[str, Any] = {"registration_error": registration, "areas": tuple(areas.values())}
    if found.point_errors and found.measured:
        common["pick_error"] = float(np.median(found.point_errors))
    if not found.measured:
        place = middle or (earlier.place if earlier else None)
        up_here = earlier.up if earlier else Up(direction=(0.0, 0.0, 1.0), error=tilt_degrees)
        return SceneInMetres(scale=None, up=up_here, place=place, entries=tuple(notes), **common)
    solution = adjust(found.measured, tilt)
    entries = [*_used(solution, found, notes), *[note for note in notes if not note.used], *_wrong(solution)]
    if solution.scale_error > _MOST_SCALE_ERROR:
        warnings.append("what was measured does not decide the scale: measure a length")
        entries = [_too_inexact(entry) if entry.kind == "GPS" and entry.used else entry for entry in entries]
    warnings += [f"{entry.kind} {entry.name} is not used: {entry.why}" for entry in entries if not entry.used]
    warnings += _doubts(solution)
    scale = None
    if solution.scale_error <= _MOST_SCALE_ERROR:
        scale = Scale(metres=solution.scale, error=solution.scale_error)
        if "pick_error" in common:
            common["pick_error"] *= solution.scale
    return SceneInMetres(
        scale=scale,
        up=_up(solution, tilt_degrees, earlier),
        place=_place(solution, found.local) or middle or (earlier.place if earlier else None),
        entries=tuple(entries),
        checks=tuple(_checks(solution)),
        warnings=tuple(warnings),
        **common,
    )


def registration_error(about: dict[str, Any]) -> float:
    """Return the relative standard error of a visit's scale in the scene frame; 0 for the visit that began the frame.

    Args:
        about: the content of `dataset.json`, which records how well the shared points agree.
    """
    frame = about.get("frame", {})
    if frame.get("reference", "new") == "new" or not frame.get("inliers"):
        return 0.0
    independent = max(1.0, float(frame["inliers"]) / _ALIKE)
    return 1.48 * float(frame["residual"]) / (float(frame.get("spread", _SPREAD)) * math.sqrt(independent))


def _add_capture(about: dict[str, Any], found: Observations) -> None:
    """Add the scale of poses that came in metres with the photos."""
    metres = about.get("poses", {}).get("metres_per_unit")
    if metres is not None and math.isfinite(float(metres)) and float(metres) > 0:
        distance = Distance(float(metres), _CAPTURE_ERROR * float(metres), 1.0, 0.0)
        found.measured.append(Measured("capture", "poses of the capture", distances=(distance,)))


def _add_gps(given: Given, cameras: Cameras, tilt: float, found: Observations, notes: list[Entry]) -> Place | None:
    """Add the positions in EXIF to the measurements. Return their middle, for want of a more exact place."""
    fixes = gps.find_fixes(cameras) if given.gps else None
    if fixes is None:
        return None
    if any(each.kind == "control point" for each in found.measured) and found.local is None:
        why = "the control points are in coordinates of their own"
        notes.append(Entry(kind="GPS", name=gps.NAME, used=False, why=why))
        return None
    found.local = found.local or fixes.centre
    measured, entry, accuracy = gps.measured_by(fixes, found.local, tilt)
    notes.append(entry)
    found.measured += [measured] if measured else []
    centre = fixes.centre
    return Place(
        crs="WGS 84",
        latitude=centre.latitude,
        longitude=centre.longitude,
        height=centre.height if fixes.heights else None,
        error=(accuracy, accuracy, 2 * accuracy),
    )


def _used(solution: Solution, found: Observations, notes: Sequence[Entry]) -> list[Entry]:
    """Return an entry for each used measurement, which says what was left out of it."""
    known = {(note.kind, note.name): note.why for note in notes if note.used}
    return [
        Entry(
            kind=each.kind,
            name=each.name,
            used=True,
            why=found.notes.get((each.kind, each.name), known.get((each.kind, each.name), "")),
        )
        for each in solution.used
    ]


def _too_inexact(entry: Entry) -> Entry:
    return entry.model_copy(update={"used": False, "why": f"{gps.TOO_INEXACT}: {entry.why}"})


def _wrong(solution: Solution) -> list[Entry]:
    """Return the entries that contradict the others."""
    entries = []
    for each in solution.contradicting:
        why = "it contradicts the others"
        if check := _check(each, solution, solution.tilt):
            why = f"it contradicts the others. {check.words}"
        entries.append(Entry(kind=each.kind, name=each.name, used=False, why=why))
    return entries


def _doubts(solution: Solution) -> list[str]:
    """Return a warning if the only two measurements contradict each other."""
    if len(solution.used) != 2 or solution.contradicting:
        return []
    check = _check(solution.used[0], solve(solution.used[1:], solution.tilt), solution.tilt)
    if check is None or abs(check.found - check.given) < 3 * check.error:
        return []
    return [f"{solution.used[0].name} and {solution.used[1].name} contradict each other, so measure a third one"]


def _checks(solution: Solution) -> list[Check]:
    """Return how well the others predict each measurement."""
    if len(solution.used) < 2:
        return []
    checks = []
    for left in solution.used[:: 1 + len(solution.used) // _MOST_CHECKS]:
        others = solve([each for each in solution.used if each is not left], solution.tilt)
        checks.append(_check(left, others, solution.tilt))
    return [check for check in checks if check]


def _check(left: Measured, others: Solution, tilt: float) -> Check | None:
    """Return how well others predict a measurement; None if they do not determine it."""
    if others.scale_error > _MOST_SCALE_ERROR:
        return None
    if left.distances:
        given = float(np.mean([each.metres for each in left.distances]))
        found = float(np.mean([each.units for each in left.distances])) * others.scale
        own = float(np.mean([each.log_error for each in left.distances])) / math.sqrt(len(left.distances))
        error = given * math.hypot(own, others.scale_error)
        return Check(kind=left.kind, name=left.name, given=given, found=found, error=error)
    if left.kind == "GPS":
        alone = solve([left], tilt)
        units = np.array([each.units for each in left.positions])
        extent = float(np.linalg.norm(np.ptp(units, axis=0)))
        error = alone.scale * extent * math.hypot(alone.scale_error, others.scale_error)
        given, found = alone.scale * extent, others.scale * extent
        return Check(kind="GPS", name="extent of the photos by GPS", given=given, found=found, error=error)
    if math.degrees(math.sqrt(others.covariance[3, 3])) > _MOST_BEARING_ERROR:
        return None
    (position,) = left.positions
    turned = others.rotation @ position.units * others.scale
    # How the prediction moves with log s, the rotations and t: the columns of the Jacobian, to first order.
    turns = [np.cross(axis, turned) for axis in (*(others.rotation @ np.eye(3)[:, :2]).T, np.eye(3)[2])]
    jacobian = np.column_stack([turned, *turns, np.eye(3)])
    spread = others.scale**2 * others.rotation @ position.covariance @ others.rotation.T + np.diag(position.accuracy**2)
    error = math.sqrt(float(np.trace(jacobian @ others.covariance @ jacobian.T + spread)))
    off = float(np.linalg.norm(others.points(position.units[None])[0] - position.metres))
    return Check(kind=left.kind, name=left.name, given=0.0, found=off, error=error)


def _up(solution: Solution, tilt: float, earlier: SceneInMetres | None) -> Up:
    if not any(each.positions for each in solution.used):
        return earlier.up if earlier else Up(direction=(0.0, 0.0, 1.0), error=tilt)
    x, y, z = (solution.rotation.T @ [0.0, 0.0, 1.0]).tolist()
    error = math.degrees(math.sqrt(float(np.diag(solution.covariance)[1:3].max())))
    return Up(direction=(x, y, z), error=error)


def _place(solution: Solution, local: Local | None) -> Place | None:
    """Return where the scene is; None if that was not measured, or only roughly."""
    if not any(each.positions for each in solution.used) or solution.scale_error > _MOST_SCALE_ERROR:
        return None
    errors = np.sqrt(np.diag(solution.covariance))
    east, north, up = errors[4:].tolist()
    fields: dict[str, Any] = {"crs": "local", "error": (east, north, up)}
    turned = math.degrees(float(errors[3])) <= _MOST_BEARING_ERROR
    shift = solution.unknowns[4:]
    if local:
        latitude, longitude, height = local.to_degrees(shift)
        fields |= {"crs": "WGS 84", "latitude": latitude, "longitude": longitude, "height": height}
        shift = np.zeros(3)
    if turned:
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = solution.scale * solution.rotation, shift
        bearing = (90.0 - math.degrees(float(solution.unknowns[3]))) % 360.0
        fields |= {"bearing": bearing, "bearing_error": math.degrees(float(errors[3]))}
        fields["to_metres"] = tuple(tuple(row) for row in matrix.tolist())
    return Place(**fields)
