"""Which named area something is in."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.metric.scene import Area
from jobs.visits.named import name_at


def area(name: str, *corners: tuple[float, float]) -> Area:
    """Return an area on a wall that is turned by 30 degrees. Its corners are given by how far right and up they are."""
    return Area(name=name, corners=tuple((0.866 * x, 0.5 * x, z) for x, z in corners))


HOUSE = area("house", (0, 0), (10, 0), (10, 6), (6, 6), (6, 3), (0, 3))  # L-shaped
DOOR = area("door", (7, 0), (8, 0), (8, 2), (7, 2))


@pytest.mark.parametrize(
    ("right", "up", "away", "name"),
    [
        (2.0, 1.0, 0.0, "house"),
        (8.0, 5.0, 0.0, "house"),
        (2.0, 5.0, 0.0, ""),  # in the box around it
        (7.5, 1.0, 0.0, "door"),  # in both: the smaller one
        (7.5, 1.0, 1.0, "house"),  # before the door, but too far away from it
        (2.0, 1.0, -2.0, "house"),  # behind the wall
        (2.0, 1.0, 6.0, ""),
        (-0.5, 1.0, 0.0, ""),
    ],
)
@pytest.mark.parametrize("areas", [(HOUSE, DOOR), (DOOR, HOUSE)], ids=["house first", "door first"])
def test_the_smallest_area_around_a_point_names_it(
    areas: tuple[Area, ...], right: float, up: float, away: float, name: str
) -> None:
    point = np.array([0.866 * right + 0.5 * away, 0.5 * right - 0.866 * away, up])
    assert name_at(point, areas) == name


def test_without_areas_there_is_no_name() -> None:
    assert name_at(np.zeros(3), ()) == ""
