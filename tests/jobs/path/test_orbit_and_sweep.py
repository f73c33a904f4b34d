"""Orbits, which go around what the photos show, and sweeps, which go straight past it."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.errors import InvalidInput
from jobs.path.photos import PosedPhotos
from tests.jobs.path.captures import CAPTURES, check_upright, from_nearest_photo, poses_of, ring


@pytest.mark.parametrize("name", ["ring", "three rings"])
def test_an_orbit_goes_all_round_where_the_photos_do(name: str) -> None:
    of = CAPTURES[name]
    poses = poses_of("orbit", of, 180)
    check_upright(poses)
    angles = np.unwrap(np.arctan2(poses[:, 1, 3], poses[:, 0, 3]))
    assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi * 179 / 180, rel=0.03)
    assert (np.diff(angles) > 0).all() or (np.diff(angles) < 0).all()
    to_focus = of.focus - poses[:, :3, 3]
    to_focus /= np.linalg.norm(to_focus, axis=1, keepdims=True)
    np.testing.assert_allclose(-poses[:, :3, 2], to_focus, atol=1e-9)
    assert np.abs(np.linalg.norm(poses[:, :2, 3], axis=1) - 3).max() < 0.2


@pytest.mark.parametrize("gap", [90, 180, 300])
def test_an_orbit_stays_in_the_arc_that_the_photos_cover(gap: int) -> None:
    of = ring(gap=np.radians(gap))
    poses = poses_of("orbit", of, 180)
    centre = of.focus
    angles = np.degrees(np.arctan2(poses[:, 1, 3] - centre[1], poses[:, 0, 3] - centre[0])) % 360
    covered = np.degrees(np.arctan2(of.centres[:, 1] - centre[1], of.centres[:, 0] - centre[0])) % 360
    assert angles.min() >= covered.min() and angles.max() <= covered.max()
    assert np.ptp(angles) > 0.85 * np.ptp(covered)
    assert from_nearest_photo(poses, of).max() < 0.6
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0, append=poses[:1, :3, 3]), axis=1)
    assert steps[-1] < 2 * np.median(steps), "the loop does not close"


def test_an_orbit_of_the_facade_swings_before_it() -> None:
    of = CAPTURES["facade"]
    poses = poses_of("orbit", of, 100)
    check_upright(poses)
    assert poses[:, 1, 3].max() < -5, "went into the houses, or behind them"
    assert of.centres[:, 0].min() < poses[:, 0, 3].min() and poses[:, 0, 3].max() < of.centres[:, 0].max()
    assert from_nearest_photo(poses, of).max() < 0.3 * of.depth


def test_an_orbit_of_a_room_looks_outwards() -> None:
    poses = poses_of("orbit", CAPTURES["room"], 60)
    outwards = poses[:, :2, 3] / np.linalg.norm(poses[:, :2, 3], axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", -poses[:, :2, 2], outwards).min() > 0.9


def test_an_orbit_around_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tour"):
        poses_of("orbit", CAPTURES["house"], 60)


@pytest.mark.parametrize("name", ["facade", "drone", "two photos"])
def test_a_sweep_goes_straight_past_a_front(name: str) -> None:
    of = CAPTURES[name]
    poses = poses_of("sweep", of, 90)
    check_upright(poses)
    steps = np.diff(poses[:, :3, 3], axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[0], (89, 1)), atol=1e-9)
    np.testing.assert_allclose(poses[:, :3, :3], np.tile(poses[0, :3, :3], (90, 1, 1)), atol=1e-9)
    assert from_nearest_photo(poses, of).max() < 0.5 * of.depth
    along = steps[0] / np.linalg.norm(steps[0])
    assert abs(along @ poses[0, :3, 2]) < 0.3, "does not pass, but comes near"
    seen = (of.centres + of.depth * of.directions) @ along
    sees = poses[:, :3, 3] @ along
    assert seen.min() - 1e-9 <= sees.min() and sees.max() <= seen.max() + 1e-9, "looks into nothing"
    assert np.ptp(poses[:, :3, 3] @ along) > 0.7 * min(np.ptp(of.centres @ along), np.ptp(seen))


def test_a_sweep_begins_where_the_capture_did() -> None:
    of = CAPTURES["two photos"]
    for this in (of, PosedPhotos(of.centres[::-1], of.directions[::-1], of.depth, of.half_field)):
        poses = poses_of("sweep", this, 9)
        assert np.linalg.norm(poses[0, :3, 3] - this.centres[0]) < np.linalg.norm(poses[-1, :3, 3] - this.centres[0])


@pytest.mark.parametrize("name", ["ring", "house", "room", "tripod"])
def test_a_sweep_past_no_front_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="tour"):
        poses_of("sweep", CAPTURES[name], 60)
