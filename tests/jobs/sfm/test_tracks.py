from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray

from jobs.geometry import Floats, fit_similarity
from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.sfm import mapping, tracks
from jobs.sfm.search import Search
from jobs.sfm.tracks import Matches
from jobs.sfm.views import View

PICTURES, POINTS = 10, 3000


@pytest.fixture
def found(tmp_path: Path) -> tuple[Search, pycolmap.Reconstruction]:
    """Return a search of ten pictures of 3,000 points, of which each shows most, and their true reconstruction."""
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=PICTURES, num_points3D=POINTS)
    options.camera_model_id = pycolmap.CameraModelId.OPENCV
    options.camera_params = [900.0, 900.0, 512.0, 384.0, 0.0, 0.0, 0.0, 0.0]
    options.camera_has_prior_focal_length = True
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        truth = pycolmap.synthesize_dataset(options, database)
        pycolmap.synthesize_noise(pycolmap.SyntheticNoiseOptions(point2D_stddev=0.3), truth, database)
        views = [View(image.name, 1024, 768, "a camera", focal=900 / 1280) for image in database.read_all_images()]
    return Search(tmp_path, views, tmp_path, PrepareOptions(), Timer()), truth


def centres(model: pycolmap.Reconstruction) -> Floats:
    """Return the camera centres (n, 3), by picture's name."""
    images = sorted(model.images.values(), key=lambda image: str(image.name))
    return np.array([image.projection_center() for image in images])


def shown(model: pycolmap.Reconstruction) -> set[frozenset[tuple[int, int]]]:
    """Return the features of each point, as numbers of pictures and features."""
    tracks_of = (point.track.elements for point in model.points3D.values())
    return {frozenset((each.image_id, each.point2D_idx) for each in elements) for elements in tracks_of}


def test_the_best_tracks_are_spread_over_pictures_and_pairs(found: tuple[Search, pycolmap.Reconstruction]) -> None:
    search, _ = found
    matches = Matches.of(search)
    best = matches.best()
    assert best.mean() < 0.4
    kept = np.bincount(matches.pair[best], minlength=len(matches.pairs))
    assert (kept >= np.minimum(50, np.bincount(matches.pair))).all()
    cells = set(matches.cells[matches.ends[best]].ravel().tolist())
    assert cells == set(matches.cells[matches.matched].tolist()), "each cell that has matches keeps some"
    whole = set(matches.track[matches.ends[best, 0]].tolist())
    assert not whole & set(matches.track[matches.ends[~best, 0]].tolist()), "a track is kept as a whole"


def test_a_track_with_two_features_of_a_picture_comes_last(found: tuple[Search, pycolmap.Reconstruction]) -> None:
    search, _ = found
    before = Matches.of(search)
    i, j, geometry = before.pairs[0]
    a, b = geometry.inlier_matches[:2]
    geometry.inlier_matches = np.concatenate([geometry.inlier_matches, [[a[0], b[1]]]]).astype(np.uint32)
    with pycolmap.Database.open(search.database) as database:
        database.update_two_view_geometry(i, j, geometry)
    after = Matches.of(search)
    joined = after.track[after.ends[after.pair == 0][0, 0]]
    assert (after.track == joined).sum() > PICTURES
    assert not after.best()[after.track[after.ends[:, 0]] == joined].any()


def test_all_points_are_found_with_poses_from_the_best_tracks(found: tuple[Search, pycolmap.Reconstruction]) -> None:
    search, truth = found
    models, mapper = mapping.map_matches(search)
    assert mapper == "incremental"
    [model] = models
    assert (search.work / "best-tracks.db").is_file(), "the best tracks were mapped first"
    assert model.num_reg_images() == PICTURES
    assert model.num_points3D() > 0.95 * truth.num_points3D()
    moved = fit_similarity(centres(model), centres(truth)).points(centres(model)) - centres(truth)
    size = np.linalg.norm(np.ptp(centres(truth), axis=0))
    assert np.linalg.norm(moved, axis=1).max() < 0.001 * size
    assert model.compute_mean_reprojection_error() < 0.5


def test_parts_of_the_tracks_have_the_points_of_all(
    found: tuple[Search, pycolmap.Reconstruction], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, truth = found
    matches = Matches.of(search)
    at_once = pycolmap.Reconstruction(truth)
    matches.triangulate(at_once)
    monkeypatch.setattr(tracks, "_PART", 5000)
    monkeypatch.setattr(Search, "threads", 4)
    in_parts = pycolmap.Reconstruction(truth)
    matches.triangulate(in_parts)
    assert len(list(search.work.glob("tracks-*.db"))) == 4
    one, other = shown(at_once), shown(in_parts)
    assert len(one) > 0.95 * POINTS
    assert len(one & other) > 0.99 * len(one | other)


def test_a_picture_that_the_best_tracks_do_not_show_is_registered_by_the_others(
    found: tuple[Search, pycolmap.Reconstruction], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _ = found
    best = Matches.best

    def without_the_last(matches: Matches) -> NDArray[np.bool_]:
        last = [row for row, (i, j, _) in enumerate(matches.pairs) if PICTURES in (i, j)]
        return best(matches) & ~np.isin(matches.pair, last)

    monkeypatch.setattr(Matches, "best", without_the_last)
    models, _ = mapping.map_matches(search)
    assert models[0].num_reg_images() == PICTURES


def test_few_matches_are_mapped_at_once(found: tuple[Search, pycolmap.Reconstruction]) -> None:
    search, _ = found
    with pycolmap.Database.open(search.database) as database:
        for number, geometry in zip(*database.read_two_view_geometries(), strict=True):
            geometry.inlier_matches = geometry.inlier_matches[:150]
            database.update_two_view_geometry(*pycolmap.pair_id_to_image_pair(number), geometry)
    models, _ = mapping.map_matches(search)
    assert models[0].num_reg_images() == PICTURES
    assert not (search.work / "best-tracks.db").exists()


def test_pictures_without_matches_have_no_tracks(found: tuple[Search, pycolmap.Reconstruction]) -> None:
    search, _ = found
    with pycolmap.Database.open(search.database) as database:
        database.clear_two_view_geometries()
    matches = Matches.of(search)
    assert len(matches.best()) == 0
    assert mapping.map_matches(search)[0] == []
