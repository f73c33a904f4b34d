from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from jobs.demo.raster import Camera
from jobs.errors import GateRefused
from jobs.facade import street as street_front
from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from jobs.sfm import parallax
from jobs.sfm.search import Search
from jobs.sfm.views import View, write_views

SIZE = (480, 270)


def pairs(
    step: float, number: int = 12, noise: float = 0.3, k: float = 0.0
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return matches of a camera that turns by 8° per picture and moves `step` m to the side, 4 to 12 m from things."""
    rng = np.random.default_rng(0)
    angles = np.radians(8 * np.arange(number + 1))
    found = []
    for i in range(number):
        at = np.array([step * i, 0, 0])
        turn = [Rotation.from_euler("y", angle).as_matrix() for angle in angles[i : i + 2]]
        local = np.column_stack([rng.uniform(-0.5, 0.5, 200), rng.uniform(-0.3, 0.3, 200), np.ones(200)])
        things = at + (local * rng.uniform(4, 12, (200, 1))) @ turn[0].T
        seen = []
        for rotation, place in zip(turn, (at, at + np.array([step, 0, 0])), strict=True):
            x, y, z = ((things - place) @ rotation).T
            flat = np.stack([x / z, y / z], axis=1)
            flat *= 1 - k * (flat**2).sum(axis=1, keepdims=True)
            seen.append(flat * 345 + np.array(SIZE) / 2 + rng.normal(0, noise, flat.shape))
        found.append((seen[0], seen[1]))
    return found


@pytest.mark.parametrize("k", [0.0, 0.1])
def test_a_turn_on_the_spot_is_distinguished_from_a_walk(k: float) -> None:
    assert parallax.only_turned(pairs(step=0, k=k), SIZE)
    assert not parallax.only_turned(pairs(step=0.4, k=k), SIZE)
    assert np.median(parallax.rotation_residuals(pairs(step=0), SIZE)[0]) < 0.001
    assert np.median(parallax.rotation_residuals(pairs(step=0.4), SIZE)[0]) > 0.005


def survey(relief: float, rng: np.random.Generator) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return matches of a drone's camera that looks straight down from 34 m, on land with houses `relief` m high."""
    ground = np.column_stack([rng.uniform(-20, 20, (4000, 2)), relief * (rng.random(4000) < 0.2) * rng.random(4000)])
    found = []
    for _ in range(12):
        seen = []
        for place in (np.zeros(3), np.array([9.0, 0, 0])):
            held = Rotation.from_rotvec(np.radians(rng.normal(0, 0.5, 3))).as_matrix() @ np.diag([1.0, -1, -1])
            x, y, z = ((ground - place - [0, 0, rng.normal(34, 0.3)]) @ held).T
            seen.append(np.stack([x / z, y / z], axis=1) * 360 + np.array(SIZE) / 2 + rng.normal(0, 0.3, (4000, 2)))
        both = np.all([(at > 0) & (at < SIZE) for at in seen], axis=(0, 2))
        found.append((seen[0][both][:200], seen[1][both][:200]))
    return found


def test_a_survey_straight_down_is_not_taken_for_a_turn() -> None:
    for relief in (0.0, 8.0):
        assert not parallax.only_turned(survey(relief, np.random.default_rng(1)), SIZE)


def positions_of(kind: str, number: int) -> list[tuple[float, float]]:
    """Return positions by GPS, degrees."""
    if kind == "moved":
        return [(47.0 + 3e-4 * n, 8.0) for n in range(number)]
    scatter = {"fixed": 0.0, "scattered as indoors": 2e-4}[kind]
    return [(47.0 + y, 8.0 + x) for y, x in np.random.default_rng(0).normal(0, scatter, (number, 2)).tolist()]


@pytest.mark.parametrize("kind", ["fixed", "scattered as indoors", "moved"])
def test_gps_tells_a_drone_that_moved_from_a_turn(tmp_path: Path, kind: str) -> None:
    found = pairs(step=0)
    positions = positions_of(kind, 2 * len(found))
    views = [View(f"{n}.pgm", *SIZE, "a drone", position=position) for n, position in enumerate(positions)]
    search = Search(tmp_path, views, tmp_path, PrepareOptions(), Timer())
    with pycolmap.Database.open(search.database) as database:
        write_views(database, views)
        for number, sides in enumerate(found):
            geometry = pycolmap.TwoViewGeometry()
            geometry.inlier_matches = np.repeat(np.arange(200, dtype=np.uint32)[:, None], 2, axis=1)
            for side, at in enumerate(sides):
                database.write_keypoints(2 * number + side + 1, at.astype(np.float32))
            database.write_two_view_geometry(2 * number + 1, 2 * number + 2, geometry)
    assert search.only_turned() == (kind != "moved")


def test_some_wrong_matches_do_not_matter_and_few_pairs_decide_nothing() -> None:
    wrong = pairs(step=0)
    for _, b in wrong:
        b[::8] += 40
    assert parallax.only_turned(wrong, SIZE)
    assert not parallax.only_turned(wrong[:2], SIZE)
    assert not parallax.only_turned([], SIZE)


def test_photos_from_one_spot_are_refused_with_what_to_do(tmp_path: Path) -> None:
    scene, spot = street_front(320), np.array([0.3, -9, 1.65])
    (tmp_path / "photos").mkdir()
    for number, angle in enumerate(np.linspace(-0.8, 0.8, 10)):
        camera = Camera.looking_at(
            spot, spot + np.array([9 * np.sin(angle), 9 * np.cos(angle), 1.5]), 0.72 * 320, 320, 180
        )
        Image.fromarray(scene.photograph(camera)).save(tmp_path / "photos" / f"{number}.jpg", quality=92)
    with pytest.raises(GateRefused, match="parallax"):
        prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions(max_features=1000))
    manifest = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    assert manifest["only_turned"] and "mapping" not in manifest["seconds"], "it is refused before poses are sought"
    assert {image["reason"] for image in manifest["images"]} == {"no parallax: the camera only turned on the spot"}
