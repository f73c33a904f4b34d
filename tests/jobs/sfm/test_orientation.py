from __future__ import annotations

from typing import Any

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from jobs.pictures.exif import Tags
from jobs.sfm.orientation import find_up

TURN = Rotation.from_euler("xyz", [40, -70, 130], degrees=True).as_matrix()
"""From the true frame, +Z up, to the reconstruction's, which is any frame."""


def looking(forward: Any, up: Any) -> NDArray[np.float64]:
    """Return a camera's rotation to the world, with OpenCV's axes."""
    z = np.array(forward, float) / np.linalg.norm(forward)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def reconstruction(centers: Any, rotations: list[NDArray[np.float64]], points: Any = ()) -> Any:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 500, 640, 480)
    model.add_camera_with_trivial_rig(camera)
    for number, (center, rotation) in enumerate(zip(np.array(centers, float), rotations, strict=True), 1):
        world_from_camera = TURN @ rotation
        turned = pycolmap.Rotation3d(world_from_camera.T)
        pose = pycolmap.Rigid3d(turned, -world_from_camera.T @ TURN @ center)
        model.add_image_with_trivial_frame(pycolmap.Image(name=f"{number}.jpg", camera_id=1, image_id=number), pose)
    for point in np.array(points, float).reshape(-1, 3):
        model.add_point3D(TURN @ point, pycolmap.Track(), np.zeros(3, np.uint8))
    return model


def survey(to_and_fro: bool = True) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Return cameras 50 m above the ground that look straight down, flown in three lines."""
    centers = np.array([[x, y, 50] for y in (0, 15, 30) for x in range(0, 60, 10)], float)
    down = [0.02, 0.01, -1]
    return centers, [looking(down, [1 - 2 * (i // 6 % 2 and to_and_fro), 0, 0]) for i in range(18)]


def ground(noise: float = 0.2) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.uniform(-20, 80, 300), rng.uniform(-20, 50, 300), rng.normal(0, noise, 300)])
    flat[::6, 2] += rng.uniform(2, 12, 50)  # trees and houses
    return flat


def angle(up: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(np.clip(up @ TURN @ [0, 0, 1], -1, 1))))


def test_a_survey_straight_down_has_its_ground_level() -> None:
    up, source = find_up(reconstruction(*survey(), ground()), {})
    assert source == "ground" and angle(up) < 0.5


def test_a_survey_without_a_plane_looks_down_on_average() -> None:
    up, source = find_up(reconstruction(*survey()), {})
    assert source == "ground" and angle(up) < 2


def test_people_in_front_of_a_wall_hold_their_cameras_upright() -> None:
    centers = [[x, 0, 1.7] for x in range(10)]
    wall = ground() @ np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    up, source = find_up(reconstruction(centers, [looking([0, 1, 0.05], [0, 0, 1])] * 10, wall), {})
    assert source == "cameras" and angle(up) < 4


@pytest.mark.parametrize("pitch", [-90.0, -60.0, 15.0])
def test_gravity_by_a_gimbal_wins(pitch: float) -> None:
    """A single pass, all the same way up, could as well be along a wall."""
    down = [np.cos(np.radians(pitch)), 0.001, np.sin(np.radians(pitch))]
    rotations = [looking(down, [np.cos(np.radians(pitch + 90)), 0, np.sin(np.radians(pitch + 90))])] * 6
    model = reconstruction([[0, y, 50] for y in range(6)], rotations)
    tags = {f"{i}.jpg": Tags(pitch=pitch, roll=0.0) for i in range(1, 7)}
    tags["2.jpg"] = Tags(pitch=-pitch, roll=180)  # one is wrong
    up, source = find_up(model, tags)
    assert source == "gravity" and angle(up) < 0.2


def test_roll_is_clockwise() -> None:
    level = looking([0, 1, 0], [0, 0, 1])
    turned = level @ Rotation.from_euler("z", 20, degrees=True).as_matrix()  # clockwise as seen from behind
    model = reconstruction([[x, 0, 0] for x in range(4)], [turned] * 4)
    up, source = find_up(model, {f"{i}.jpg": Tags(pitch=0.0, roll=20.0) for i in range(1, 5)})
    assert source == "gravity" and angle(up) < 0.1


def test_gravity_that_contradicts_itself_is_not_used() -> None:
    tags = {f"{i}.jpg": Tags(pitch=float(20 * i - 90), roll=float(37 * i)) for i in range(1, 19)}
    assert find_up(reconstruction(*survey(), ground()), tags)[1] == "ground"


def positions(centers: NDArray[np.float64], noise: float) -> dict[str, Tags]:
    rng = np.random.default_rng(0)
    tags = {}
    for number, (east, north, height) in enumerate(centers + rng.normal(0, noise, centers.shape), 1):
        latitude = 50 + np.degrees(north / 6_371_000)
        longitude = 8 + np.degrees(east / 6_371_000 / np.cos(np.radians(50)))
        tags[f"{number}.jpg"] = Tags(latitude=latitude, longitude=longitude, altitude=300 + height)
    return tags


@pytest.mark.parametrize(("noise", "source"), [(0.05, "gps"), (5.0, "cameras")])
def test_gps_decides_where_it_is_exact_enough(noise: float, source: str) -> None:
    centers, rotations = survey(to_and_fro=False)
    up, found = find_up(reconstruction(centers / 7, rotations, ground() / 7), positions(centers, noise))
    assert found == source
    assert (angle(up) < 1) == (source == "gps")


def test_gps_along_a_line_does_not_define_an_orientation() -> None:
    centers = np.array([[x, 0, 0] for x in range(0, 100, 10)], float)
    model = reconstruction(centers, [looking([0, 1, 0], [0, 0, 1])] * 10)
    assert find_up(model, positions(centers, 0.05))[1] == "cameras"
