"""Positions on the earth: degrees on the WGS 84 ellipsoid, UTM, and a local frame of metres (east, north, up)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from jobs.geometry import Floats

__all__ = ["Local", "from_utm"]

_A = 6_378_137.0  # metres, the equator's radius
_F = 1 / 298.257223563
_E2 = _F * (2 - _F)
_N = _F / (2 - _F)


def from_utm(easting: float, northing: float, zone: int, south: bool) -> tuple[float, float]:
    """Return the latitude and longitude, in degrees, of UTM coordinates in metres.

    Krüger's series to the third order, which is exact to a millimetre in a zone and its neighbours (Karney 2011,
    "Transverse Mercator with an accuracy of a few nanometers").

    Raises:
        ValueError: the coordinates are far outside any zone.
    """
    if not (-1e6 <= easting - 500_000 <= 1e6 and -1e7 <= northing <= 1e7):
        raise ValueError(f"{easting:g} {northing:g} are not within UTM zone {zone}")
    n = _N
    radius = _A / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    beta = (n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96, n**2 / 48 + n**3 / 15, 17 * n**3 / 480)
    delta = (2 * n - 2 * n**2 / 3 - 2 * n**3, 7 * n**2 / 3 - 8 * n**3 / 5, 56 * n**3 / 15)
    xi = (northing - (1e7 if south else 0.0)) / (0.9996 * radius)
    eta = (easting - 500_000) / (0.9996 * radius)
    terms = [(2 * k, value) for k, value in enumerate(beta, 1)]
    xi, eta = (
        xi - sum(value * math.sin(k * xi) * math.cosh(k * eta) for k, value in terms),
        eta - sum(value * math.cos(k * xi) * math.sinh(k * eta) for k, value in terms),
    )
    chi = math.asin(math.sin(xi) / math.cosh(eta))
    latitude = chi + sum(value * math.sin(2 * k * chi) for k, value in enumerate(delta, 1))
    longitude = 6 * zone - 183 + math.degrees(math.atan2(math.sinh(eta), math.cos(xi)))
    return math.degrees(latitude), longitude


@dataclass(frozen=True)
class Local:
    """A frame of metres on the earth: +X east, +Y north, +Z up, tangent to the ellipsoid at its origin.

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
            place += [math.degrees(off[1] / _A), math.degrees(off[0] / _A) / math.cos(math.radians(place[0])), off[2]]
        return float(place[0]), float(place[1]), float(place[2])

    @property
    def _origin(self) -> Floats:
        return np.array([[self.latitude, self.longitude, self.height]])

    @property
    def _axes(self) -> Floats:
        """East, north and up, as rows in earth-centred axes."""
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
    normal = _A / np.sqrt(1 - _E2 * np.sin(lat) ** 2)
    flat = (normal + height) * np.cos(lat)
    return np.stack([flat * np.cos(lon), flat * np.sin(lon), (normal * (1 - _E2) + height) * np.sin(lat)], axis=1)
