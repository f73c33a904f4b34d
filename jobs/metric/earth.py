"""Positions on the earth: degrees on the WGS 84 ellipsoid, and local coordinates in metres (east, north, up)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from jobs.geometry import Floats
from jobs.metric.utm import EQUATOR, FLATTENING

__all__ = ["Local"]

_E2 = FLATTENING * (2 - FLATTENING)


@dataclass(frozen=True)
class Local:
    """A coordinate frame in metres: +X east, +Y north, +Z up, tangent to the ellipsoid at its origin.

    Args:
        latitude, longitude: of the origin, degrees.
        height: of the origin above the ellipsoid, metres.
    """

    latitude: float
    longitude: float
    height: float

    def from_degrees(self, places: ArrayLike) -> Floats:
        """Return positions (n, 3) in metres of places (n, 3): latitude and longitude in degrees, height in metres."""
        offset = _earth_centred(np.asarray(places, float)) - _earth_centred(self._origin)
        moved: Floats = offset @ self._axes.T
        return moved

    def to_degrees(self, position: ArrayLike) -> tuple[float, float, float]:
        """Return the latitude and longitude in degrees and the height in metres of a position (3,) in metres."""
        place = self._origin[0].copy()
        for _ in range(6):  # Newton's method, with the step of a sphere: each round gains two digits or more
            off = np.asarray(position, float) - self.from_degrees(place[None])[0]
            east = math.degrees(off[0] / EQUATOR) / math.cos(math.radians(place[0]))
            place += [math.degrees(off[1] / EQUATOR), east, off[2]]
        return float(place[0]), float(place[1]), float(place[2])

    @property
    def to_earth(self) -> Floats:
        """Return the transformation (4, 4) of positions to earth-centred, earth-fixed ones in metres (EPSG:4978)."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self._axes.T, _earth_centred(self._origin)[0]
        return matrix

    @property
    def _origin(self) -> Floats:
        return np.array([[self.latitude, self.longitude, self.height]])

    @property
    def _axes(self) -> Floats:
        """Return east, north and up, as rows (3, 3) in earth-centred axes."""
        lat, lon = math.radians(self.latitude), math.radians(self.longitude)
        return np.array(
            [
                [-math.sin(lon), math.cos(lon), 0.0],
                [-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)],
                [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)],
            ]
        )


def _earth_centred(places: Floats) -> Floats:
    """Return earth-centred, earth-fixed positions (n, 3), in metres."""
    lat, lon, height = np.radians(places[:, 0]), np.radians(places[:, 1]), places[:, 2]
    normal = EQUATOR / np.sqrt(1 - _E2 * np.sin(lat) ** 2)
    flat = (normal + height) * np.cos(lat)
    return np.stack([flat * np.cos(lon), flat * np.sin(lon), (normal * (1 - _E2) + height) * np.sin(lat)], axis=1)
