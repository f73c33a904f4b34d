from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image

from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.sfm.reconstruction import begin
from jobs.sfm.search import Search
from jobs.sfm.views import View, write_views


def three_pictures(tmp_path: Path) -> tuple[Search, list[NDArray[Any]]]:
    """Return points at several depths, seen by three cameras that move sideways, whose focal length is given wrongly.

    Returns:
        The search, with matches that are not verified; and the keypoints of each picture.
    """
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-3, 3, 200), rng.uniform(-2, 2, 200), rng.uniform(5, 12, 200)])
    views = [View(f"{i}.pgm", 640, 480, "a camera", focal=4.0, known=False) for i in range(3)]
    search = Search(tmp_path, views, tmp_path, PrepareOptions(), Timer())
    descriptors = pycolmap.FeatureDescriptors(
        pycolmap.FeatureExtractorType.SIFT, rng.integers(0, 255, (200, 128), dtype=np.uint8)
    )
    keypoints = []
    with pycolmap.Database.open(search.database) as database:
        write_views(database, views)
        for number in range(3):
            local = points - [0.5 * number, 0, 0]
            keypoints.append((500 * local[:, :2] / local[:, 2:] + [320, 240]).astype(np.float32))
            database.write_keypoints(number + 1, keypoints[-1])
            database.write_descriptors(number + 1, descriptors)
        same = np.repeat(np.arange(200, dtype=np.uint32)[:, None], 2, axis=1)
        for pair in ((1, 2), (1, 3), (2, 3)):
            database.write_matches(*pair, same)
    return search, keypoints


def test_other_cameras_keep_the_features_and_the_matches(tmp_path: Path) -> None:
    search, keypoints = three_pictures(tmp_path)
    views = search.views
    other = search.with_views([replace(view, focal=None, camera=view.name) for view in views])
    features, best = other.figures()
    assert features == dict.fromkeys(("0.pgm", "1.pgm", "2.pgm"), 200)
    assert min(best.values()) > 190, "the matches are verified again"
    with pycolmap.Database.open(other.database) as database:
        assert database.num_cameras() == 3
        np.testing.assert_allclose(database.read_keypoints(2)[:, :2], keypoints[1])
        assert not any(camera.has_prior_focal_length for camera in database.read_all_cameras())
    with pycolmap.Database.open(search.database) as database:
        assert database.num_cameras() == 1, "the first search stays as it is"


def test_matches_between_places_are_forgotten_unless_they_contradict_the_model(tmp_path: Path) -> None:
    first, _ = three_pictures(tmp_path)
    search = first.with_views([replace(view, focal=None, camera=view.name) for view in first.views])

    def matched() -> set[tuple[int, int]]:
        with pycolmap.Database.open(search.database) as database:
            verified = zip(*database.read_two_view_geometry_num_inliers(), strict=True)
            found = {pycolmap.pair_id_to_image_pair(pair) for pair, inliers in verified if inliers}
            assert {pycolmap.pair_id_to_image_pair(pair) for pair in database.read_all_matches()[0]} == found
        return {(min(pair), max(pair)) for pair in found}

    assert matched() == {(1, 2), (1, 3), (2, 3)}
    places = [{"0.pgm", "1.pgm"}, {"2.pgm"}]
    search.forget(places, {frozenset(("0.pgm", "2.pgm")): 150, frozenset(("1.pgm", "2.pgm")): 3})
    assert matched() == {(1, 2), (2, 3)}, "the model explains 150 matches of 1 and 3, and hardly any of 2 and 3"
    search.forget(places)
    assert matched() == {(1, 2)}


def survey(side: int, step: float) -> list[View]:
    """Return views of a survey that flies to and fro, `step` degrees of latitude apart; every fifth has no position."""
    views: list[View] = []
    for row in range(side):
        for column in range(side) if row % 2 == 0 else reversed(range(side)):
            number = len(views)
            at = (60 + row * step, 10 + 2 * column * step)  # at 60°, a degree of longitude is half as long
            views.append(View(f"{number:03}.pgm", 320, 240, "a drone", position=None if number % 5 == 4 else at))
    return views


def test_photos_that_were_taken_near_each_other_are_matched(tmp_path: Path) -> None:
    views = survey(10, 3e-4)
    search = Search(tmp_path, views, tmp_path, PrepareOptions(), Timer())
    pairs = {(int(a[:3]), int(b[:3])) for a, b in search.pairs("retrieval")}
    known = {view.name: view.position for view in views if view.position}
    for i, view in enumerate(views):
        for j, other in enumerate(views[:i]):
            if view.name in known and other.name in known:
                (north, east), (its_north, its_east) = known[view.name], known[other.name]
                distance = np.hypot(north - its_north, (east - its_east) / 2)
                assert (j, i) in pairs or distance > 5e-4, "its neighbours in the rows beside it, too"
    assert len(pairs) < 100 * 99 / 2 / 3
    assert {(i, i + 1) for i in range(99)} <= pairs, "those without a position have their neighbours in time"


def test_positions_that_tell_nothing_choose_no_pairs(tmp_path: Path) -> None:
    for views in (survey(10, 1e-6), [replace(view, position=None) for view in survey(10, 3e-4)]):
        search = Search(tmp_path, views, tmp_path, PrepareOptions(), Timer())
        pairs = search.pairs("retrieval")
        assert pairs and all(int(b[:3]) - int(a[:3]) <= 3 for a, b in pairs)


def test_pictures_that_look_alike_are_the_same_in_each_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    views = [replace(view, position=None) for view in survey(8, 3e-4)]
    search = Search(tmp_path, views, tmp_path, PrepareOptions(), Timer())
    kinds = rng.uniform(0, 200, (2000, 128))
    with pycolmap.Database.open(search.database) as database:
        write_views(database, views)
        for number in range(1, len(views) + 1):
            shown = kinds[(30 * number + np.arange(150)) % 2000] + rng.normal(0, 8, (150, 128))
            descriptors = shown.clip(0, 255).astype(np.uint8)
            database.write_keypoints(number, rng.uniform(1, 200, (150, 6)).astype(np.float32))
            database.write_descriptors(
                number, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, descriptors)
            )
    first, second = search.pairs("retrieval"), search.pairs("retrieval")
    beside = {(view.name, other.name) for k in (1, 2, 3) for view, other in zip(views, views[k:], strict=False)}
    assert len(set(first) - beside) > 100 and first == second


@pytest.mark.parametrize(("width", "first_octave"), [(480, -1), (640, 0)])
def test_small_pictures_are_enlarged_for_their_features(tmp_path: Path, width: int, first_octave: int) -> None:
    views = [View(f"{i}.pgm", width, 64, "a camera") for i in range(2)]
    for number, view in enumerate(views):
        noise = np.random.default_rng(number).integers(0, 255, (64, width), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / view.name)
    search = Search(tmp_path, views, tmp_path, PrepareOptions(), Timer())
    _, small = begin(search, sequence=False)
    assert (small, search.first_octave) == (first_octave == -1, first_octave)
