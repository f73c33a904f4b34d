"""The scale of a scene, where the truth is known: the cameras of the built-in street, and points in front of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jobs.metric.adjust import Distance, Measured, solve
from jobs.metric.cameras import Cameras
from jobs.metric.earth import Local
from jobs.metric.given import Area, Control, Given, Pick
from jobs.metric.measure import measure
from jobs.metric.observations import triangulated
from jobs.metric.scene import Scale, SceneInMetres, Up
from tests.jobs.metric.street import UNIT, Street

WALL = ((-5.0, -0.3, 1.0), (5.0, -0.3, 1.5))
DOOR = ((-1.0, -0.3, 0.2), (-1.0, -0.3, 2.3))
SILL = ((0.0, -0.5, 1.2), (2.5, -0.5, 1.2))
PLACE = Local(48.137, 11.575, 520.0)


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path / "dataset")


def test_an_exact_length_gives_the_exact_scale(street: Street) -> None:
    found = measure(street.folder, Given(lengths=(street.length("wall", *WALL),)))
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=1e-4)
    assert [(entry.kind, entry.name, entry.used) for entry in found.entries] == [("length", "wall", True)]
    assert found.checks == () and found.place is None and found.warnings == ()


def test_the_stated_interval_holds_as_often_as_it_says(street: Street) -> None:
    errors, stated = [], []
    for seed in range(120):
        given = Given(lengths=(street.length("wall", *WALL, np.random.default_rng(seed)),))
        scale = measure(street.folder, given).scale
        assert scale
        errors.append(math.log(scale.metres / UNIT))
        stated.append(scale.error)
    assert np.std(errors) < 0.002
    assert abs(np.mean(errors)) < 3 * np.std(errors) / math.sqrt(120)
    # Of 120 intervals that hold in 95 % of cases, 108 to 119 hold, in all but one run of a thousand.
    assert 108 <= np.sum(np.abs(errors) <= 1.96 * np.array(stated)) <= 119


@pytest.mark.parametrize("lengths", [2, 4, 8])
def test_the_interval_holds_as_often_with_several_lengths(lengths: int) -> None:
    rng = np.random.default_rng(lengths)
    errors, stated = [], []
    for _ in range(500):
        units = 10 * np.exp(rng.normal(0, 0.001, lengths))
        solution = solve([Measured("length", "wall", distances=(Distance(10.0, 0.001, u, 0.01),)) for u in units], 0.05)
        errors.append(math.log(solution.scale))
        stated.append(solution.scale_error)
    assert np.median(stated) == pytest.approx(np.std(errors), rel=0.06)
    assert 0.93 <= np.mean(np.abs(errors) <= 1.96 * np.array(stated)) <= 0.97


def test_a_wrong_length_is_named_and_left_out(street: Street) -> None:
    rng = np.random.default_rng(3)
    lengths = (
        street.length("wall", *WALL, rng),
        street.length("door", *DOOR, rng, times=1.2),
        street.length("sill", *SILL, rng),
    )
    found = measure(street.folder, Given(lengths=lengths))
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=0.005)
    [wrong] = [entry for entry in found.entries if not entry.used]
    assert wrong.name == "door" and "measured 2.520 m, the others say 2.1" in wrong.why
    assert any("door is not used: it contradicts the others" in warning for warning in found.warnings)
    assert {check.name for check in found.checks} == {"wall", "sill"}


def test_of_two_lengths_that_contradict_each_other_none_is_trusted(street: Street) -> None:
    one = measure(street.folder, Given(lengths=(street.length("wall", *WALL),))).scale
    both = measure(
        street.folder, Given(lengths=(street.length("wall", *WALL), street.length("sill", *SILL, times=1.1)))
    )
    assert one and both.scale and both.scale.error > 5 * one.error
    low, high = both.scale.interval
    assert low < UNIT < high
    assert both.warnings == ("wall and sill contradict each other, so measure a third one",)


def test_what_was_held_out_is_predicted_within_its_error(street: Street) -> None:
    rng = np.random.default_rng(5)
    lengths = tuple(street.length(name, *ends, rng) for name, ends in (("wall", WALL), ("door", DOOR), ("sill", SILL)))
    checks = measure(street.folder, Given(lengths=lengths)).checks
    assert len(checks) == 3
    assert all(abs(check.found - check.given) < 3 * check.error < 0.1 for check in checks)


def test_a_wrong_pick_among_several_is_named(street: Street) -> None:
    length = street.length("wall", *WALL)
    first, *others = length.start
    moved = first.model_copy(update={"x": first.x + 40})
    found = measure(street.folder, Given(lengths=(length.model_copy(update={"start": (moved, *others)}),)))
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=0.001)
    assert found.entries[0].why == f"the pick in {first.photo} contradicts the others"


def test_what_cannot_be_used_says_why(street: Street) -> None:
    wall, door = street.length("wall", *WALL), street.length("door", *DOOR)
    lost = door.model_copy(update={"start": (Pick(photo="lost.jpg", x=1, y=1), door.start[0])})
    outside = door.model_copy(update={"name": "outside", "end": (Pick(photo="IMG_3.jpg", x=4000, y=1), door.end[0])})
    apart = (door.start[0], Pick(photo=door.start[-1].photo, x=door.start[-1].x, y=door.start[-1].y + 20))
    two = door.model_copy(update={"name": "two places", "start": apart})
    tiny = street.length("tiny", DOOR[0], (-1.0, -0.3, 0.205))
    found = measure(street.folder, Given(lengths=(wall, lost, outside, two, tiny)))
    whys = {entry.name: entry.why for entry in found.entries if not entry.used}
    assert whys["door"] == "one end is picked in 1 registered photo, 2 are needed (lost.jpg could not be registered)"
    assert whys["outside"] == "the other end is picked at 4000, 1 in IMG_3.jpg, which is 640 × 360 px"
    assert "is not the same point in its photos" in whys["two places"]
    assert whys["tiny"].startswith("too short for its picks")
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=1e-4)


def test_picks_are_in_pixels_of_the_photos_not_of_smaller_pictures(tmp_path: Path) -> None:
    street = Street(tmp_path, about={"options": {"downscale_factor": 2}})
    rng = np.random.default_rng(1)
    point, _ = triangulated(
        [pick.model_copy(update={"x": 2 * pick.x, "y": 2 * pick.y}) for pick in street.picks(WALL[0], rng)],
        Cameras(street.folder),
        accuracy=1.0,
    )
    assert point.position * UNIT == pytest.approx(WALL[0], abs=0.05)


def control(street: Street, bearing: float, rng: np.random.Generator, wrong: int | None = None) -> tuple[Control, ...]:
    """Return six control points about PLACE; the street's +X looks `bearing` degrees clockwise from north."""
    corners = [(x, y, z) for x in (-5.0, 0.0, 5.0) for y, z in ((-0.3, 0.5), (-2.0, 3.0))]
    angle = math.radians(90 - bearing)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    found = []
    for number, corner in enumerate(corners):
        metres = turn @ corner + ([2.0, 0, 0] if number == wrong else 0) + rng.normal(0, 0.01, 3)
        latitude, longitude, height = PLACE.to_degrees(metres)
        picks = street.picks(corner, rng)
        found.append(Control(name=f"p{number}", latitude=latitude, longitude=longitude, height=height, picks=picks))
    return tuple(found)


def test_control_points_give_scale_north_place_and_up(street: Street) -> None:
    points = control(street, 30.0, np.random.default_rng(2))
    found = measure(street.folder, Given(control=points, control_accuracy=0.01))
    assert found.scale and abs(math.log(found.scale.metres / UNIT)) < 3 * found.scale.error < 0.02
    assert found.up.direction[2] > math.cos(math.radians(3 * found.up.error)) and found.up.error < 1
    place = found.place
    assert place and place.bearing_error and abs(place.bearing - 30.0) < 3 * place.bearing_error < 2  # type: ignore[operator]
    assert place.latitude == pytest.approx(PLACE.latitude, abs=1e-6)
    assert place.longitude == pytest.approx(PLACE.longitude, abs=1e-6)
    assert place.height == pytest.approx(PLACE.height, abs=0.2)
    assert len(found.checks) == 6 and all(check.found < 3 * check.error for check in found.checks)
    east = (np.array(place.to_metres) @ [1 / UNIT, 0, 0, 1])[:2]
    assert east == pytest.approx([math.sin(math.radians(30)), math.cos(math.radians(30))], abs=0.03)


def test_a_wrong_control_point_is_named(street: Street) -> None:
    points = control(street, 200.0, np.random.default_rng(2), wrong=3)
    found = measure(street.folder, Given(control=points, control_accuracy=0.01))
    assert [entry.name for entry in found.entries if not entry.used] == ["p3"]
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=0.01)


def gps(street: Street, accuracy: float, times: float, rng: np.random.Generator | None) -> list[dict[str, float]]:
    """Return the tags of photos whose common error drifts, as a phone's does. The place is `times` as large."""
    drift = np.cumsum(rng.normal(0, 0.35 * accuracy, (24, 3)), axis=0) if rng else np.zeros((24, 3))
    tags = []
    for camera, off in zip(street.cameras, drift - drift.mean(axis=0), strict=True):
        latitude, longitude, altitude = PLACE.to_degrees(times * camera.center + off)
        tags.append({"latitude": latitude, "longitude": longitude, "altitude": altitude, "accuracy": accuracy})
    return tags


def test_gps_of_a_phone_admits_that_it_is_rough(tmp_path: Path) -> None:
    plain = Street(tmp_path / "plain")
    off = []
    for seed in range(30):
        street = Street(tmp_path / "dataset", gps(plain, 4.0, 10.0, np.random.default_rng(seed)))
        found = measure(street.folder, Given())
        assert found.scale and 0.01 < found.scale.error < 0.2
        assert found.words.endswith("% (95 %), by GPS")
        off.append(abs(math.log(found.scale.metres / (10 * UNIT))) / found.scale.error)
    assert np.mean(np.array(off) < 1.96) >= 0.85 and max(off) < 4


def test_gps_is_not_used_where_the_place_is_too_small(tmp_path: Path) -> None:
    plain = Street(tmp_path / "plain")
    street = Street(tmp_path / "dataset", gps(plain, 8.0, 0.3, np.random.default_rng(1)))
    found = measure(street.folder, Given())
    assert found.scale is None and found.words == "the scale is not known"
    assert found.place and found.place.latitude == pytest.approx(PLACE.latitude, abs=2e-4)
    assert "too inexact for the scale of so small a place" in found.entries[0].why
    frozen = Street(tmp_path / "frozen", [gps(plain, 4.0, 10.0, None)[0]] * 24)  # a phone that had one fix in all
    assert measure(frozen.folder, Given()).scale is None


def test_a_length_and_gps_agree_or_gps_gives_way(tmp_path: Path) -> None:
    plain = Street(tmp_path / "plain")
    street = Street(tmp_path / "dataset", gps(plain, 2.0, 1.0, np.random.default_rng(4)))
    found = measure(street.folder, Given(lengths=(street.length("wall", *WALL),)))
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=0.002)


def test_poses_of_a_phone_give_a_rough_scale_which_a_length_overrules(tmp_path: Path) -> None:
    street = Street(tmp_path / "dataset", about={"poses": {"metres_per_unit": 1.03 * UNIT}})
    found = measure(street.folder, Given())
    assert found.scale and found.scale.metres == pytest.approx(1.03 * UNIT)
    assert found.scale.error == pytest.approx(0.02, rel=0.01)
    assert found.words.endswith("by the poses of the capture")
    rng = np.random.default_rng(1)
    found = measure(street.folder, Given(lengths=(street.length("wall", *WALL, rng),)))
    assert found.scale and found.scale.metres == pytest.approx(UNIT, rel=0.005)
    assert [check.kind for check in found.checks] == ["length", "capture"], "each is a check of the other"
    for damaged in (float("inf"), -1.0, 0.0):
        folder = Street(tmp_path / str(damaged), about={"poses": {"metres_per_unit": damaged}}).folder
        assert measure(folder, Given()).scale is None


def test_a_later_visit_inherits_the_scale_and_adds_its_registration(tmp_path: Path) -> None:
    frame = {"reference": "street:1", "inliers": 2000, "residual": 0.002}
    later = Street(tmp_path / "later", about={"frame": frame, "up": "reference"})
    earlier = SceneInMetres(scale=Scale(metres=UNIT, error=0.001), up=Up(direction=(0, 0, 1), error=2.0))
    found = measure(later.folder, Given(), earlier)
    assert found.scale and found.scale.metres == pytest.approx(UNIT)
    assert 0 < found.registration_error < 0.001
    assert found.scale.error == pytest.approx(math.hypot(0.001, found.registration_error))
    shared = Street(tmp_path / "shared", about={"frame": {**frame, "spread": 0.1}, "up": "reference"})
    assert measure(shared.folder, Given()).registration_error == pytest.approx(3.5 * found.registration_error)
    assert found.up.error == 2.0 and found.words.endswith("by an earlier visit")


def test_areas_keep_their_names_at_later_visits(street: Street) -> None:
    rng = np.random.default_rng(4)
    corners = ((-2.0, -0.3, 0.2), (2.0, -0.3, 0.2), (2.0, -0.3, 2.8), (-2.0, -0.3, 2.8))
    shop = Area(name="shop", corners=tuple(street.picks(corner, rng) for corner in corners))
    lost = shop.corners[0][0].model_copy(update={"photo": "lost.jpg"})
    hidden = Area(name="hidden", corners=(*shop.corners[:2], (lost, shop.corners[2][0])))
    first = measure(street.folder, Given(areas=(shop, hidden)))
    assert [area.name for area in first.areas] == ["shop"]
    assert np.array(first.areas[0].corners) * UNIT == pytest.approx(np.array(corners), abs=0.08)
    [left_out] = first.entries
    assert left_out.name == "hidden" and left_out.why.startswith("a corner is picked in 1 registered photo")
    door = shop.model_copy(update={"name": "door"})
    later = measure(street.folder, Given(areas=(door,)), first)
    assert [area.name for area in later.areas] == ["shop", "door"] and later.areas[0] == first.areas[0]


def test_nothing_measured_is_no_scale(street: Street) -> None:
    found = measure(street.folder, Given())
    assert found.scale is None and found.place is None and found.up.error == 5.0
    content = json.loads(found.model_dump_json())
    assert SceneInMetres.model_validate(content) == found
