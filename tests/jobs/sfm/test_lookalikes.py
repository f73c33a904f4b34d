from __future__ import annotations

from typing import Any

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray

from jobs.sfm import lookalikes

WIDTH, HEIGHT, FOCAL = 640, 360, 460.0
FRONT, BESIDE = (-3.0, 3.0), (3.0, 9.0)
"""The house in the middle, and its neighbours on both sides, in metres along the street."""
Seen = dict[bytes, list[tuple[int, int]]]
"""The photos that show each point, by number, and the point's index there."""


def wall(
    rng: np.random.Generator, number: int, reach: tuple[float, float], sides: tuple[int, ...] = (1,)
) -> NDArray[np.float64]:
    """Return points on walls: x in a range, or its mirror image, y down and z deep."""
    x = rng.uniform(*reach, number) * rng.choice(sides, number)
    return np.column_stack([x, rng.uniform(-3, 3, number), rng.uniform(0, 0.6, number)])


def reconstruction(visits: list[tuple[int, list[NDArray[np.float64]]]], seed: int = 0, found: float = 0.6) -> Any:
    """Return a reconstruction in one frame of photos that walk past, 9 m before the walls.

    Args:
        visits: the number of photos, and the groups of points that can be seen; equal arrays are the same points.
        seed: of the noise.
        found: the share of points in sight that is found in a photo.
    """
    rng = np.random.default_rng(seed)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, 320, 180], camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    seen: Seen = {}
    number = 0
    for visit, (photos, groups) in enumerate(visits):
        points = np.concatenate(groups)
        for x in np.linspace(-4, 4, photos):
            number += 1
            center = np.array([x + rng.normal(0, 0.1), 0.0, -9 + rng.normal(0, 0.2)])
            local = points - center
            at = FOCAL * local[:, :2] / local[:, 2:] + [320, 180]
            inside = (at > 0).all(axis=1) & (at < [WIDTH, HEIGHT]).all(axis=1) & (rng.random(len(at)) < found)
            image = pycolmap.Image(name=f"{visit}_{number:03}.pgm", camera_id=1, image_id=number)
            add_photo(model, image, center, at[inside], points[inside], seen)
    add_points(model, seen)
    return model


def add_photo(model: Any, image: Any, center: Any, at: Any, points: Any, seen: Seen) -> None:
    """Add a photo that looks straight ahead, and shows points (n, 3) at places (n, 2) in px; note them in `seen`."""
    image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in at])
    for index, point in enumerate(points):
        seen.setdefault(point.tobytes(), []).append((image.image_id, index))
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(), -np.asarray(center)))


def add_points(model: Any, seen: Seen) -> None:
    """Add the points that two photos show, or more."""
    for key, where in seen.items():
        if len(where) > 1:
            track = pycolmap.Track()
            for element in where:
                track.add_element(*element)
            model.add_point3D(np.frombuffer(key), track, np.zeros(3, np.uint8))


def test_one_place_is_one() -> None:
    rng = np.random.default_rng(1)
    walls = [wall(rng, 1500, FRONT), wall(rng, 3000, BESIDE, (-1, 1))]
    assert [len(place) for place in lookalikes.places(reconstruction([(8, walls), (6, walls)]))] == [14]


@pytest.mark.parametrize("photos", [(8, 8), (12, 5), (4, 9)])
def test_equal_fronts_with_other_neighbours_are_two_places(photos: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    front = wall(rng, 1500, FRONT)
    neighbours = [wall(rng, 3000, BESIDE, (-1, 1)) for _ in photos]
    model = reconstruction([(number, [front, beside]) for number, beside in zip(photos, neighbours, strict=True)])
    found = lookalikes.places(model)
    assert sorted(len(place) for place in found) == sorted(photos) and len(found[0]) == max(photos)
    assert all(len({name[0] for name in place}) == 1 for place in found)


def test_a_shop_that_changed_between_two_days_is_no_second_place() -> None:
    rng = np.random.default_rng(1)
    same = [wall(rng, 1500, FRONT), wall(rng, 1500, BESIDE), wall(rng, 500, (3.0, 5.0), (-1,))]
    days = [[*same, wall(rng, 1000, (5.0, 9.0), (-1,))] for _ in range(2)]
    assert len(lookalikes.places(reconstruction([(14, days[0]), (14, days[1])]))) == 1


def test_another_light_that_hides_most_points_is_no_second_place() -> None:
    rng = np.random.default_rng(1)
    same = wall(rng, 600, (0.0, 9.0), (-1, 1))
    days = [[same, wall(rng, 5000, (0.0, 9.0), (-1, 1))] for _ in range(2)]
    assert len(lookalikes.places(reconstruction([(9, days[0]), (9, days[1])]))) == 1


def test_few_photos_and_none_are_one_place() -> None:
    rng = np.random.default_rng(1)
    assert len(lookalikes.places(reconstruction([(2, [wall(rng, 500, FRONT)])]))) == 1
    assert lookalikes.places(pycolmap.Reconstruction()) == []


@pytest.mark.parametrize(("common", "parts"), [(8, [8, 6]), (200, [14])])
def test_places_that_chance_matches_joined_are_parts(common: int, parts: list[int]) -> None:
    rng = np.random.default_rng(1)
    chance = wall(rng, common, FRONT)
    model = reconstruction([(8, [chance, wall(rng, 2000, BESIDE, (-1, 1))]), (6, [chance, wall(rng, 2000, FRONT)])])
    found = lookalikes.loosely_joined(model)
    assert [len(part) for part in found] == parts
    assert len(parts) == 1 or all(len({name[0] for name in part}) == 1 for part in found)


def test_a_single_photo_that_is_loosely_joined_is_no_part() -> None:
    rng = np.random.default_rng(1)
    chance = wall(rng, 8, FRONT)
    model = reconstruction([(8, [chance, wall(rng, 2000, FRONT)]), (2, [chance, wall(rng, 2000, BESIDE, (-1, 1))])])
    assert [len(part) for part in lookalikes.loosely_joined(model)] == [10]
    assert lookalikes.loosely_joined(pycolmap.Reconstruction()) == []
