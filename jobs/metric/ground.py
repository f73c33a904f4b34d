"""Local coordinates in metres for other programs, and where they are on the earth: the content of `place.json`.

Coordinates count from the origin of the scene frame, so that they are small: 32-bit floats of coordinates that count
from the centre of the earth, or in a national grid, are steps of half a metre.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from jobs.geometry import Floats, Similarity, rotation_between
from jobs.metric.earth import Local
from jobs.metric.scene import SceneInMetres
from jobs.metric.utm import EQUATOR, FLATTENING

__all__ = ["Ground"]

_Row = tuple[float, float, float]
_MEAN_RADIUS = 6_371_009.0


class Ground(BaseModel):
    """Local coordinates in metres.

    Args:
        axes: +X, +Y and +Z. "east", "north" and "up" lie in the plane that touches the ellipsoid at the origin's
            longitude and latitude; "x" and "y" are level, or those of the scene's control points.
        metres_per_unit: metres per unit of the scene frame.
        scale_error: its standard error, relative: 0.001 is 0.1 %.
        scale_interval: the 95 % interval of `metres_per_unit`.
        rotation: (3, 3) from the axes of the scene frame to these. A point p of the scene frame is at
            `metres_per_unit * rotation @ p`.
        up_error: the standard error of +Z, degrees.
        crs: the coordinates that `origin` is in. "EPSG:4979" is WGS 84 with the height above the ellipsoid; a height
            by GPS in EXIF may be above the sea instead, which differs by up to 100 m. "local" are the coordinates of
            the scene's control points. None if the place is not known.
        origin: of these coordinates: longitude and latitude in degrees and height in metres, or local coordinates.
        origin_error: its standard errors along the axes, metres.
        north_error: the standard error of the direction of +Y, degrees; None if it is not known.
        wkt: the horizontal coordinates for geographic software, which point clouds contain, too. It is a transverse
            Mercator projection about the origin: within 1 km, it differs from the plane by less than 3 mm, and heights
            by 0.8 mm at 100 m and 8 cm at 1 km. None if the place is not known.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    axes: tuple[Literal["east", "x"], Literal["north", "y"], Literal["up"]]
    metres_per_unit: float
    scale_error: float
    scale_interval: tuple[float, float]
    rotation: tuple[_Row, _Row, _Row]
    up_error: float
    crs: Literal["EPSG:4979", "local"] | None = None
    origin: _Row | None = None
    origin_error: _Row | None = None
    north_error: float | None = None
    wkt: str | None = None

    @classmethod
    def of(cls, scene: SceneInMetres) -> Self | None:
        """Return the coordinates of a scene frame; None if its scale is not known."""
        if scene.scale is None:
            return None
        place, fields = scene.place, dict[str, Any]()
        if place is None or place.to_metres is None:
            rotation = rotation_between(scene.up.direction, [0.0, 0.0, 1.0])
        else:
            matrix = np.array(place.to_metres)
            rotation = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
            fields = {"crs": "local", "origin": matrix[:3, 3].tolist()}
            if place.crs == "WGS 84":
                assert place.latitude is not None and place.longitude is not None and place.height is not None
                fields = {"crs": "EPSG:4979", "origin": (place.longitude, place.latitude, place.height)}
                fields["wkt"] = _wkt(place.longitude, place.latitude, place.height)
            fields |= {"origin_error": place.error, "north_error": place.bearing_error}
        return cls(
            axes=("east", "north", "up") if "wkt" in fields else ("x", "y", "up"),
            metres_per_unit=scene.scale.metres,
            scale_error=scene.scale.error,
            scale_interval=scene.scale.interval,
            rotation=rotation.tolist(),
            up_error=scene.up.error,
            **fields,
        )

    @property
    def from_scene(self) -> Similarity:
        """Return the map from the scene frame to these coordinates."""
        return Similarity(self.metres_per_unit, np.array(self.rotation))

    @property
    def local(self) -> Local | None:
        """Return where these coordinates are on the earth; None without a place."""
        if self.crs != "EPSG:4979" or self.origin is None:
            return None
        longitude, latitude, height = self.origin
        return Local(latitude, longitude, height)

    def on_earth(self, points: Floats) -> list[_Row] | None:
        """Return longitudes, latitudes and heights of points (n, 3) in these coordinates; None without a place."""
        if not (local := self.local):
            return None
        places = [local.to_degrees(point) for point in points]
        return [((east + 180) % 360 - 180, north, up) for north, east, up in places]


def _wkt(longitude: float, latitude: float, height: float) -> str:
    """Return a coordinate system in the text form of OGC 01-009, which LAS 1.4 prescribes."""
    # Metres at the origin's height are shorter on the ellipsoid.
    scale = 1 + height / _MEAN_RADIUS
    ellipsoid = f'SPHEROID["WGS 84",{EQUATOR:.0f},{1 / FLATTENING:.9f}]'
    degrees = f'GEOGCS["WGS 84",DATUM["WGS_1984",{ellipsoid}],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    parameters = {
        "latitude_of_origin": f"{latitude:.10f}",
        "central_meridian": f"{longitude:.10f}",
        "scale_factor": f"{scale:.9f}",
        "false_easting": "0",
        "false_northing": "0",
    }
    listed = ",".join(f'PARAMETER["{name}",{value}]' for name, value in parameters.items())
    return (
        f'PROJCS["metres about the scene",{degrees},PROJECTION["Transverse_Mercator"],{listed},UNIT["metre",1],'
        'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    )
