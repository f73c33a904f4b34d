"""A scene frame in metres: the content of `scene.json`. Nothing but pydantic is imported here.

Standard errors are one standard deviation; a 95 % interval is 1.96 of them to either side.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.metric.accuracy import TIMES

__all__ = ["Area", "Check", "Entry", "Kind", "Place", "Scale", "SceneInMetres", "Up", "in_metres", "percent"]

Kind = Literal["length", "marker", "control point", "GPS", "capture", "earlier visit", "area"]

_NAMES: dict[Kind, str] = {"GPS": "GPS", "capture": "the poses of the capture", "earlier visit": "an earlier visit"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Entry(_Record):
    """A measurement, and whether it is used.

    Args:
        kind, name: what was measured.
        used: whether it decides the result.
        why: why it is not used, or what was left out of it; "" if all of it was used.
    """

    kind: Kind
    name: str
    used: bool
    why: str = ""


class Check(_Record):
    """A measurement, as all others predict it.

    Args:
        kind, name: of the measurement.
        given: what was measured, in metres; 0 for a position.
        found: what the others predict, in metres; for a position, its distance from the measured one.
        error: the standard error of the difference, in metres.
    """

    kind: Kind
    name: str
    given: float
    found: float
    error: float

    @property
    def words(self) -> str:
        """Describe the check in one sentence."""
        off = self.found - self.given
        if self.kind == "control point":
            return f"{self.name}: the others put it {in_metres(off)} away (standard error {in_metres(self.error)})"
        return (
            f"{self.name}: measured {in_metres(self.given)}, the others say {in_metres(self.found)} "
            f"({percent(off / self.given, sign=True)}, standard error {percent(self.error / self.given)})"
        )


class Scale(_Record):
    """How long one unit of the scene frame is.

    Args:
        metres: per scene unit.
        error: its standard error, relative: 0.001 is 0.1 %.
    """

    metres: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the metres per scene unit."""
        return self.metres * math.exp(-TIMES * self.error), self.metres * math.exp(TIMES * self.error)

    @property
    def words(self) -> str:
        """Return how long a unit is, with its 95 % interval, for people."""
        return f"1 unit = {self.metres:.4g} m ± {percent(TIMES * self.error)}"


class Up(_Record):
    """Which way is up.

    Args:
        direction: in the scene frame, of length 1.
        error: the standard error of the tilt about each horizontal axis, degrees.
    """

    direction: tuple[float, float, float]
    error: float


class Place(_Record):
    """Where the scene is on the earth, or in local coordinates.

    Args:
        crs: "WGS 84" if latitude, longitude and height are those of the scene frame's origin; "local" if the control
            points are in local coordinates, to which `to_metres` then leads.
        latitude, longitude: degrees; None for local coordinates.
        height: metres, at the level that the measurements have; None for local coordinates.
        error: standard errors of the origin's position: east, north, up; metres.
        bearing: direction of the scene frame's +X, degrees clockwise from north; None if it is not known.
        bearing_error: its standard error, degrees.
        to_metres: (4, 4) from the scene frame to metres: east, north and up from the origin, or local coordinates.
            None if the bearing is not known.
    """

    crs: Literal["WGS 84", "local"]
    latitude: float | None = None
    longitude: float | None = None
    height: float | None = None
    error: tuple[float, float, float]
    bearing: float | None = None
    bearing_error: float | None = None
    to_metres: tuple[tuple[float, float, float, float], ...] | None = None


class Area(_Record):
    """A part of the scene that has a name.

    Args:
        name: for people.
        corners: of a flat polygon in order, (3,) each in the scene frame.
    """

    name: str
    corners: tuple[tuple[float, float, float], ...]


class SceneInMetres(_Record):
    """The content of `scene.json`.

    Args:
        scale: None if no measurement decides it.
        up, place: of the scene; `place` is None without positions.
        registration_error: the relative standard error of the length of this visit's unit in the scene frame; 0 for
            the visit that began it.
        entries: all measurements.
        checks: each measurement as the others predict it.
        warnings: what people should know.
        areas: those that people named on this visit or an earlier one.
        pick_error: of the triangulated points that measurements rest on, the median standard error in metres.
    """

    scale: Scale | None
    up: Up
    place: Place | None = None
    registration_error: float = 0.0
    entries: tuple[Entry, ...] = ()
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    areas: tuple[Area, ...] = ()
    pick_error: float | None = None

    @property
    def words(self) -> str:
        """Return what is known of the scale, in one line for people."""
        if self.scale is None:
            return "the scale is not known"
        kinds = dict.fromkeys(entry.kind for entry in self.entries if entry.used)
        return f"{self.scale.words} (95 %), by {' and '.join(_listed(self, kind) for kind in kinds)}"

    @property
    def worst_check(self) -> Check | None:
        """Return the check with the largest difference in standard errors; None if there is none."""
        return max(self.checks, key=lambda check: abs(check.found - check.given) / check.error, default=None)


def _listed(scene: SceneInMetres, kind: Kind) -> str:
    number = sum(entry.used for entry in scene.entries if entry.kind == kind)
    if kind in _NAMES:
        return _NAMES[kind]
    return f"{number} {kind}{'s' * (number != 1)}"


def in_metres(length: float) -> str:
    """Return a length for people: "3.204 m", "12 mm"."""
    return f"{1000 * length:.0f} mm" if abs(length) < 0.1 else f"{length:.3f} m"


def percent(share: float, *, sign: bool = False) -> str:
    """Return a share in percent, with two digits that matter: "0.11 %", "8 %"."""
    value = 100 * share
    text = f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"
    return f"{'+' if sign and value > 0 else ''}{text} %"
