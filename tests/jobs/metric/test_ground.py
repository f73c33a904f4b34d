"""Local metres of a measured street: known coordinates, on the earth and in the axes of control points."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jobs.metric.cameras import Cameras
from jobs.metric.earth import Local
from jobs.metric.geojson import cameras_on_the_map
from jobs.metric.given import Control, Given
from jobs.metric.ground import Ground
from jobs.metric.measure import measure
from jobs.metric.scene import Place, SceneInMetres
from tests.jobs.metric.street import UNIT, Street

FIJI = Local(-17.0, 179.99999, 30.0)  # the 180th meridian is a metre away


def turn(bearing: float) -> np.ndarray:  # type: ignore[type-arg]
    """Return the rotation (3, 3) to east, north and up from the street's axes, whose +X has a bearing in degrees."""
    angle = math.radians(90 - bearing)
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


def test_a_street_with_gps_is_on_the_map_in_true_metres(tmp_path: Path) -> None:
    plain = Street(tmp_path / "plain")
    tags = []
    for camera in plain.cameras:
        latitude, longitude, altitude = FIJI.to_degrees(turn(70.0) @ camera.center)
        tags.append({"latitude": latitude, "longitude": longitude, "altitude": altitude, "accuracy": 0.02})
    street = Street(tmp_path / "dataset", tags)
    ground = Ground.of(measure(street.folder, Given()))
    assert ground and ground.crs == "EPSG:4979" and ground.axes == ("east", "north", "up")
    corner = np.array([[-5.0, 0.0, 3.0]])
    assert np.allclose(ground.from_scene.points(corner / UNIT), corner @ turn(70.0).T, atol=0.02)
    text = cameras_on_the_map(ground, Cameras(street.folder).all, None)
    assert text
    features = json.loads(text)["features"]
    assert [feature["properties"]["photo"] for feature in features] == [street.photo(k) for k in range(24)]
    sides = set()
    for feature, camera in zip(features, plain.cameras, strict=True):
        longitude, latitude, height = feature["geometry"]["coordinates"]
        sides.add(longitude > 0)
        assert -180 <= longitude < 180
        metres = FIJI.from_degrees([[latitude, longitude, height]])[0]
        assert np.allclose(metres, turn(70.0) @ camera.center, atol=0.03)
    assert sides == {True, False}, "nothing is beyond the meridian"


def test_control_points_in_axes_of_their_own_keep_them_without_large_numbers(tmp_path: Path) -> None:
    street = Street(tmp_path)
    far = np.array([4_468_000.0, 5_334_000.0, 510.0])
    points = []
    for number, corner in enumerate([(-5.0, -0.3, 0.5), (5.0, -0.3, 0.5), (0.0, -2.0, 3.0), (5.0, -0.3, 3.0)]):
        x, y, z = (turn(20.0) @ corner + far).tolist()
        points.append(Control(name=f"p{number}", position=(x, y, z), picks=street.picks(corner)))
    ground = Ground.of(measure(street.folder, Given(control=tuple(points), control_accuracy=0.01)))
    assert ground and ground.crs == "local" and ground.axes == ("x", "y", "up") and ground.wkt is None
    assert ground.origin == pytest.approx(far, abs=0.05)
    wall = np.array([[3.0, 0.0, 2.0]])
    assert np.allclose(ground.from_scene.points(wall / UNIT), wall @ turn(20.0).T, atol=0.02)
    assert cameras_on_the_map(ground, Cameras(street.folder).all, None) is None


def test_a_length_alone_gives_level_metres_without_a_place(tmp_path: Path) -> None:
    street = Street(tmp_path)
    scene = measure(street.folder, Given(lengths=(street.length("wall", (-5.0, -0.3, 1.0), (5.0, -0.3, 1.0)),)))
    tilted = scene.model_copy(update={"up": scene.up.model_copy(update={"direction": (0.0, 0.6, 0.8)})})
    ground = Ground.of(tilted)
    assert ground and ground.crs is None and ground.origin is None and ground.north_error is None
    assert np.allclose(np.array(ground.rotation) @ [0.0, 0.6, 0.8], [0, 0, 1])
    assert ground.metres_per_unit == pytest.approx(UNIT, rel=2e-3)
    assert cameras_on_the_map(ground, Cameras(street.folder).all, None) is None


def test_a_place_without_north_is_not_used(tmp_path: Path) -> None:
    street = Street(tmp_path)
    scene = measure(street.folder, Given(lengths=(street.length("wall", (-5.0, -0.3, 1.0), (5.0, -0.3, 1.0)),)))
    rough = Place(crs="WGS 84", latitude=48.0, longitude=11.0, height=None, error=(5.0, 5.0, 10.0))
    ground = Ground.of(scene.model_copy(update={"place": rough}))
    assert ground and ground.crs is None
    assert Ground.of(SceneInMetres(scale=None, up=scene.up)) is None
