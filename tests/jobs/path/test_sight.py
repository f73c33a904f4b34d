"""Whether a path shows what photos saw: paths of captures of every kind, in their own frame and in each other's."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.camera_path import CameraPath, Frame
from jobs.path import sight
from jobs.path.photos import Array, PosedPhotos, upright
from tests.jobs.path.captures import CAPTURES, poses_of

RNG = np.random.default_rng(3)
MOST = 0.4  # of the frames, as `tasks.scene_frame` has it


def points_of(name: str) -> Array:
    """Return points (N, 3) that photos show: a wall and the street, a thing on the ground, walls, or the ground."""
    around, (x, y, z) = RNG.uniform(0, 2 * np.pi, 1500), RNG.uniform(-1, 1, (3, 1500))
    nothing = 0 * x
    if name == "facade":
        wall, street = [8 * x, nothing, 4 + 4 * z], [8 * x, -2.5 + 2.5 * y, nothing]
        return np.concatenate([np.stack(wall, axis=1), np.stack(street, axis=1)])
    if "ring" in name:
        thing, ground = [np.cos(around), np.sin(around), 1 + z], [3 * x, 3 * y, nothing]
        return np.concatenate([np.stack(thing, axis=1), np.stack(ground, axis=1)])
    if name == "room":
        return np.stack([3 * np.cos(around), 3 * np.sin(around), 1.5 + 1.5 * z], axis=1)
    if name == "drone":
        return np.stack([16 * x, 16 * y, 1.5 + 1.5 * z], axis=1)
    of = CAPTURES[name]
    poses = upright(of.centres, of.directions)[RNG.integers(len(of.centres), size=1500)]
    rays = np.stack([0.7 * x, 0.4 * y, -1 + nothing], axis=1) * (of.depth * (1 + 0.5 * z))[:, None]
    found: Array = np.einsum("nij,nj->ni", poses[:, :3, :3], rays) + poses[:, :3, 3]
    return found


def scene(name: str) -> PosedPhotos:
    """Return a capture in its scene's frame, as `jobs.prepare` fixes it: within a unit of the middle of the cameras."""
    of = CAPTURES[name]
    middle = of.centres.mean(axis=0)
    scale = float(1 / np.abs(of.centres - middle).max())
    points = scale * (points_of(name) - middle)
    return PosedPhotos(scale * (of.centres - middle), of.directions, scale * of.depth, of.half_field, points)


SCENES = {name: scene(name) for name in ("facade", "ring", "three rings", "house", "room", "drone")}


def path_of(poses: Array, kind: str = "perspective", fov: float = 43.6) -> CameraPath:
    frames = [Frame(camera_to_world=pose.flatten().tolist(), fov=fov) for pose in poses]
    return CameraPath(render_width=640, render_height=360, seconds=2, camera_type=kind, camera_path=frames)


def looking(centres: Array, at: Array) -> Array:
    return upright(centres, at - centres)


def share_lost(name: str, path: CameraPath, points: bool = True) -> float:
    of = SCENES[name]
    of = of if points else PosedPhotos(of.centres, of.directions, of.depth, of.half_field)
    return float(np.mean(list(sight.lost(of, path).values())))


def flights(name: str) -> dict[str, Array]:
    """Return paths that people draw: above and around, nearer and farther, in a room; in typical depths."""
    of = SCENES[name]
    depth, middle = of.depth, np.median(of.points, axis=0)
    centre = of.centres.mean(axis=0)
    at = np.linspace(0, 1, 40)[:, None]
    turn, none, up = 2 * np.pi * at, 0 * at, np.array([0, 0, 1.0])
    circle = np.hstack([np.cos(turn), np.sin(turn), none])
    to = np.tile(middle, (40, 1))
    if name == "facade":
        along = (at - 0.5) * [2.0, 0, 0]
        wall = centre + (middle - centre) * [0, 1, 0]
        return {
            "above": looking(centre + along + depth * up, to),
            "rising": looking(centre + 2 * depth * up * at, to),
            "backing off": looking(centre + (centre - middle) * 2 * at * [1, 1, 0] + 0.5 * depth * up, to),
            "close by": looking(centre + along / 2 + (middle - centre) * [0, 0.7, 0], wall + along / 2),
        }
    if "ring" in name:
        wide = {f"around, {r} wide and {z} high": (r, z) for r, z in ((1.5, 1), (2, 0.5), (0.7, 1.5), (3, 3))}
        return {
            **{words: looking(middle + depth * (r * circle + z * up), to) for words, (r, z) in wide.items()},
            "over it": looking(middle + depth * np.hstack([2 * at - 1, none + 0.01, none + 1.5]), to),
        }
    if name == "room":
        return {
            "along the walls": looking(centre + 0.7 * depth * circle, centre + 2 * depth * circle),
            "across": looking(
                centre + depth * np.hstack([0.7 - 1.4 * at, none, none]), centre - [3 * depth, 0, 0] + none
            ),
            "from the walls": looking(centre + 0.8 * depth * circle, centre + none * circle),
        }
    if name == "house":
        aside = np.cross(of.directions, up)
        return {
            "a little aside": upright(of.centres + 0.2 * depth * aside, of.directions + 0.5 * aside)[::3],
            "tilted": upright(of.centres, of.directions - 0.3 * up)[::3],
            "and back": upright(of.centres[::-3], -of.directions[::-3]),
        }
    lane = np.array([-0.8, 0, 0]) + at * [1.6, 0, 0]
    return {
        "low": looking(lane - 0.5 * depth * up, lane + depth * np.array([0.8, 0, -1])),
        "high": looking(lane + depth * up, np.tile([0, 0.1, -depth], (40, 1))),
        "around": looking(1.5 * circle, np.tile([0, 0, -depth], (40, 1))),
    }


@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("name", SCENES)
def test_no_path_of_the_scene_itself_looks_into_nothing(name: str, points: bool) -> None:
    own = {"photos": upright(SCENES[name].centres, SCENES[name].directions)}
    for kind in ("tour", "orbit", "sweep", "spiral"):
        if kind in ("tour", "spiral") or name in {"orbit": set(SCENES) - {"house"}, "sweep": {"facade", "drone"}}[kind]:
            own[kind] = poses_of(kind, SCENES[name], 40)
    for poses in own.values():
        assert share_lost(name, path_of(poses), points) == 0
    for words, poses in flights(name).items():
        assert share_lost(name, path_of(poses), points) < 0.75 * MOST, words
        assert share_lost(name, path_of(poses, "equirectangular"), points) < 0.75 * MOST, words


def test_about_half_of_the_paths_of_other_scenes_are_known() -> None:
    """The others show much of what was photographed, though through walls: nothing in the poses tells them apart."""
    tours = {name: path_of(poses_of("tour", of, 40)) for name, of in SCENES.items()}
    lost = {(a, b): share_lost(b, tour) for a, tour in tours.items() for b in SCENES if a != b}
    known = [pair for pair, share in lost.items() if share > MOST]
    assert len(known) >= 13, sorted(lost.items())
    assert {("drone", "facade"), ("drone", "house"), ("drone", "room"), ("room", "ring")} <= set(known)


def test_frames_that_look_away_are_found_one_by_one() -> None:
    of = SCENES["facade"]
    there = upright(of.centres[:6], of.directions[:6])
    away = upright(of.centres[:6], -of.directions[:6])
    assert sight.lost(of, path_of(np.concatenate([there, away]))) == {n: n >= 6 for n in range(12)}
    assert not any(sight.lost(of, path_of(there, fov=2.0)).values()), "a long lens shows less, and not nothing"


def test_long_paths_are_looked_at_evenly() -> None:
    of = SCENES["ring"]
    found = list(sight.lost(of, path_of(poses_of("orbit", of, 10_000))))
    assert (len(found), found[0], found[-1]) == (100, 0, 9999) and np.ptp(np.diff(found)) <= 1
