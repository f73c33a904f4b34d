"""Write the cameras of a scene and its camera path as GeoJSON (RFC 7946): longitude, latitude and height on WGS 84."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.geometry import Floats
from jobs.metric.cameras import Camera
from jobs.metric.ground import Ground
from jobs.text import printable

__all__ = ["cameras_on_the_map"]


def cameras_on_the_map(ground: Ground, cameras: Sequence[Camera], path: Floats | None) -> str | None:
    """Return a feature collection; None if the place of the scene is not known.

    Each camera is a point with the photo's name, the bearing of its view direction in degrees clockwise from north, and
    how far it looks upwards, in degrees. The camera path is a line.

    Args:
        ground: local coordinates.
        cameras: in the scene frame.
        path: positions (n, 3) along the path, in the scene frame; None if there is none.
    """
    to_metres = ground.from_scene
    places = ground.on_earth(to_metres.points([camera.position for camera in cameras]))
    if places is None:
        return None
    views = np.array([camera.pose[:, 2] for camera in cameras]) @ to_metres.rotation.T
    features = []
    for camera, place, (east, north, up) in zip(cameras, places, views, strict=True):
        bearing, pitch = np.degrees([np.arctan2(east, north), np.arcsin(np.clip(up, -1, 1))])
        about = {"photo": printable(camera.name), "bearing": round(bearing % 360, 2), "pitch": round(pitch, 2)}
        features.append(_feature("Point", _rounded(place), about))
    if path is not None and len(path) > 1:
        line = ground.on_earth(to_metres.points(path)) or []
        features.append(_feature("LineString", [_rounded(place) for place in line], {"path": "tour"}))
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1) + "\n"


def _feature(kind: str, coordinates: list[Any], properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _rounded(place: tuple[float, float, float]) -> list[float]:
    longitude, latitude, height = place
    return [round(longitude, 9), round(latitude, 9), round(height, 3)]
