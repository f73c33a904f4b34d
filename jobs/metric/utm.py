"""The WGS 84 ellipsoid, and UTM coordinates on it. The scheduler imports this, so it needs no numpy."""

from __future__ import annotations

import math

__all__ = ["EQUATOR", "FLATTENING", "from_utm"]

EQUATOR = 6_378_137.0
"""Radius, in metres."""
FLATTENING = 1 / 298.257223563

_N = FLATTENING / (2 - FLATTENING)


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
    radius = EQUATOR / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
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
