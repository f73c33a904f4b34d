"""Generated camera paths, on captures of every kind: smooth, upright, and never far from where a photo was taken."""

from __future__ import annotations

import json
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from jobs import camera_path
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.path import sight, trajectory
from jobs.path.photos import Array, PosedPhotos
from tests.jobs.path.captures import (
    CAPTURES,
    capture,
    check_upright,
    dataset_of_panoramas,
    dataset_without_photos,
    from_nearest_photo,
    house,
    levels,
    poses_of,
    row,
    shuffled,
    together,
)


@cache
def tour_of(name: str) -> tuple[PosedPhotos, Array]:
    """Return the photos of a capture in any order, and the 120 poses of a tour, which takes long to find."""
    of = shuffled(CAPTURES[name])
    poses = poses_of("tour", of, 120)
    poses.setflags(write=False)
    return of, poses


def picture_steps(poses: Array, depth: float) -> Array:
    """Return how much the picture moves from frame to frame: by the camera's shift over the depth, and by its turn."""
    shift = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) / depth
    turn = np.linalg.norm(np.diff(poses[:, :3, 2], axis=0), axis=1)
    steps: Array = np.hypot(shift, turn)
    return steps


def test_a_tour_of_360_degree_photos_looks_where_the_camera_was_carried(tmp_path: Path) -> None:
    dataset, model = dataset_of_panoramas(tmp_path)
    path = trajectory.generate("tour", dataset, model, RenderOptions().with_profile("preview"))
    poses = np.array([frame.camera_to_world for frame in path.camera_path]).reshape(-1, 4, 4)
    assert (path.render_width, path.render_height) == (256, 144)
    check_upright(poses)
    walk = house()
    assert np.linalg.norm(np.ptp(poses[:, :3, 3], axis=0)) > 0.8 * np.linalg.norm(np.ptp(walk.centres, axis=0))
    nearest = np.linalg.norm(poses[:, None, :3, 3] - walk.centres, axis=2).argmin(axis=1)
    along = np.einsum("ij,ij->i", -poses[:, :3, 2], walk.directions[nearest])
    assert np.median(along) > 0.9 and along.min() > 0.3, "it looks to the side, back or up"
    assert np.abs(poses[:, 2, 2]).max() < 0.2, "it is level"


@pytest.mark.parametrize("name", CAPTURES)
def test_a_tour_is_smooth_upright_and_near_the_photos(name: str) -> None:
    of, poses = tour_of(name)
    assert poses.shape == (120, 4, 4)
    check_upright(poses)
    assert picture_steps(poses, of.depth).max() < 1.8 * picture_steps(poses, of.depth).mean(), "the picture jumps"
    directions = np.diff(poses[:, :3, 3], axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True).clip(1e-12)
    if name != "tripod":
        assert np.einsum("ij,ij->i", directions[1:], directions[:-1]).min() > np.cos(np.radians(20)), "has a corner"
    assert from_nearest_photo(poses, of).max() < 0.5 * of.depth
    nearest = np.linalg.norm(poses[:, None, :3, 3] - of.centres, axis=2).argsort(axis=1)[:, :6]
    looks = of.directions[nearest].mean(axis=1)
    assert np.einsum("ij,ij->i", -poses[:, :3, 2], looks).min() > 0.5 * np.linalg.norm(looks, axis=1).min()


@pytest.mark.parametrize("name", CAPTURES)
def test_a_tour_goes_at_a_constant_speed_and_slower_only_where_it_turns(name: str) -> None:
    of, poses = tour_of(name)
    speed = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) / of.depth
    turn = np.linalg.norm(np.diff(poses[:, :3, 2], axis=0), axis=1)
    pace = np.maximum(speed, turn / 1.5)
    assert pace.min() > 0.95 * pace.mean() and pace.max() < 1.05 * pace.mean()
    if name in ("facade", "ring", "drone", "opposite sides of a house"):
        assert speed.min() > 0.98 * speed.mean() and speed.max() < 1.02 * speed.mean()
    if name == "house":
        slow = speed < 0.9 * speed.max()
        assert 0.02 < slow.mean() < 0.5 and turn[slow].min() > turn[~slow].mean()


@pytest.mark.parametrize("name", ["facade", "ring", "house"])
def test_a_tour_goes_past_the_whole_capture(name: str) -> None:
    of, poses = tour_of(name)
    off = np.linalg.norm(of.centres[:, None] - poses[None, :, :3, 3], axis=2).min(axis=1)
    assert np.quantile(off, 0.9) < 0.4 * of.depth


def test_a_tour_of_the_facade_is_one_straight_walk() -> None:
    _, poses = tour_of("facade")
    steps = np.diff(poses[:, 0, 3])
    assert (steps > 0).all() or (steps < 0).all(), "three walks past the houses became a zigzag"
    assert np.ptp(poses[:, 0, 3]) > 9
    assert np.ptp(poses[:, 1, 3]) < 2


def test_a_tour_begins_where_the_capture_did() -> None:
    of = CAPTURES["house"]
    back = PosedPhotos(of.centres[::-1], of.directions[::-1], of.depth, of.half_field)
    for this in (of, back):
        poses = poses_of("tour", this, 50)
        assert np.linalg.norm(poses[0, :3, 3] - this.centres[0]) < np.linalg.norm(poses[-1, :3, 3] - this.centres[0])


def test_paths_are_the_same_each_time() -> None:
    for kind in trajectory.KINDS:
        once, again = (poses_of(kind, CAPTURES["facade"], 20) for _ in range(2))
        np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("name", CAPTURES)
def test_a_spiral_stays_about_one_photo_and_looks_at_what_it_saw(name: str) -> None:
    of = shuffled(CAPTURES[name])
    poses = poses_of("spiral", of, 90)
    check_upright(poses)
    centre = poses[:, :3, 3].mean(axis=0)
    nearest = int(np.linalg.norm(of.centres - centre, axis=1).argmin())
    assert np.linalg.norm(of.centres[nearest] - centre) < 1e-6
    assert from_nearest_photo(poses, of).max() < 0.15 * of.depth
    assert np.ptp(poses[:, :3, 3], axis=0).max() > 0.1 * of.depth
    at = (
        centre + of.depth * of.directions[np.linalg.norm(of.centres - centre, axis=1) < 1e-6]
    )  # a tripod has several there
    to_focus = at[:, None] - poses[:, :3, 3]
    to_focus /= np.linalg.norm(to_focus, axis=2, keepdims=True)
    assert np.einsum("nfj,fj->nf", to_focus, -poses[:, :3, 2]).min(axis=1).max() > 1 - 1e-9
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0, append=poses[:1, :3, 3]), axis=1)
    assert steps.max() < 3 * steps.mean(), "the loop does not close"


@pytest.mark.parametrize("kind", trajectory.KINDS)
@pytest.mark.parametrize("name", CAPTURES)
def test_no_path_leaves_what_the_photos_saw(kind: str, name: str) -> None:
    """However it is paced: each frame within half the depth of a photo that looks the same way, to 60 degrees."""
    of = shuffled(CAPTURES[name])
    paces: tuple[dict[str, bool], ...] = ({}, {"ease": True}, {"ease": True, "loop": True})
    at = np.concatenate([trajectory.moments(kind, 60, **pace) for pace in paces])
    try:
        paced = np.split(trajectory.KINDS[kind](of, at), len(paces))  # one path, because a tour takes long to find
    except InvalidInput:
        return  # refused: see above
    for poses in paced:
        check_upright(poses)
        apart = np.linalg.norm(poses[:, None, :3, 3] - of.centres, axis=2)
        assert apart.min(axis=1).max() <= 0.5 * of.depth
        looks = np.where(apart <= 0.5 * of.depth, -poses[:, :3, 2] @ of.directions.T, -1).max(axis=1)
        assert looks.min() >= 0.5, "looks where no photo did"


@pytest.mark.parametrize("kind", ["tour", "orbit", "spiral"])
@pytest.mark.parametrize("name", [name for name in CAPTURES if name != "house"])
def test_there_is_a_path_of_nearly_every_kind(kind: str, name: str) -> None:
    """The bound is not kept by refusing: only an orbit in a house is none, and sweeps are where there is a front."""
    assert len(tour_of(name)[1] if kind == "tour" else poses_of(kind, shuffled(CAPTURES[name]), 120)) == 120


def test_a_tour_of_two_groups_follows_one_and_reports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = CAPTURES["two groups"]
    poses = poses_of("tour", of, 60)
    assert np.ptp(poses[:, 0, 3]) > 5 and (poses[:, 0, 3] < 5).all()
    dataset, model = dataset_without_photos(tmp_path)
    meta = json.loads((dataset / "transforms.json").read_text())
    for frame in meta["frames"][:3]:
        frame["transform_matrix"][0][3] += 400
    (dataset / "transforms.json").write_text(json.dumps(meta))
    trajectory.generate("tour", dataset, model, RenderOptions().with_profile("preview"))
    assert "3 of 20 photos are far from the others. The tour ignores them" in capsys.readouterr().out


def test_a_tour_does_not_cut_across_what_no_photo_saw() -> None:
    """Two rows beside each other, joined at one end only: the way goes round, or along one of them."""
    end = capture(
        np.stack([np.full(12, 4.6), np.linspace(-5, 5, 12), np.full(12, 1.6)], axis=1), np.tile([1.0, 0, 0], (12, 1)), 4
    )
    of = together(row(-5.5, -1), end, row(5.5, 1))
    poses = poses_of("tour", shuffled(of), 120)
    assert sight.covered(of, poses[:, :3, 3], -poses[:, :3, 2]).all()
    length = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
    assert length > 12, "more than one row"


@pytest.mark.parametrize("photos", [20, 60])
@pytest.mark.parametrize("degrees", [60, 120, 180, 270])
def test_a_tour_follows_an_arc_and_does_not_cut_across_it(degrees: int, photos: int) -> None:
    """Taken by hand, around a thing 3 units away: distances, heights, steps and view directions all vary."""
    random, half = np.random.default_rng(degrees + photos), np.radians(degrees) / 2
    angles = np.linspace(-half, half, photos) + random.normal(0, 0.6 * half / photos, photos)
    radius, height = 3 + random.normal(0, 0.2, photos), 1.5 + random.normal(0, 0.15, photos)
    centres = np.stack([radius * np.sin(angles), -radius * np.cos(angles), height], axis=1)
    of = shuffled(capture(centres, np.array([0, 0, 1.0]) + random.normal(0, 0.3, (photos, 3)) - centres, 3))
    poses = poses_of("tour", of, 120)
    x, y = poses[:, 0, 3], poses[:, 1, 3]
    along = np.unwrap(np.arctan2(x, -y))
    assert (np.diff(along) > 0).all() or (np.diff(along) < 0).all(), "turns back"
    assert np.ptp(along) > 0.75 * np.ptp(angles), "leaves out an end"
    assert np.hypot(x, y).min() > 2.4, "cuts across"


@pytest.mark.parametrize(("at_once", "spots"), [(False, 8), (False, 16), (True, 16)])
@pytest.mark.parametrize("heights", [(0.5, 2.5), (0.5, 1.5, 2.5), (0.2, 1.2, 2.2, 3.2)])
@pytest.mark.parametrize(("shape", "degrees", "length"), [("row", 0, 10), ("arc", 180, 9.4), ("ring", 360, 18.8)])
def test_a_tour_keeps_its_height_between_levels_of_photos(
    shape: str, degrees: int, length: float, heights: tuple[float, ...], at_once: bool, spots: int
) -> None:
    """It goes past once, and neither up and down nor back along the next level."""
    of = shuffled(levels(shape, heights, at_once, spots))
    poses = poses_of("tour", of, 120)
    steps = np.diff(poses[:, :3, 3], axis=0)
    far = np.linalg.norm(steps, axis=1)
    headings = steps / far[:, None]
    turns = np.degrees(np.arccos(np.clip(np.einsum("ij,ij->i", headings[1:], headings[:-1]), -1, 1)))
    assert turns.sum() < degrees + 60 and turns.max() < 12
    assert np.abs(steps[:, 2]).sum() < 0.35 * of.depth, "goes up and down"
    assert 0.6 * length < far.sum() < 1.1 * length, "goes back, or leaves much out"
    assert from_nearest_photo(poses, of).max() < 0.45 * of.depth


def test_photos_too_far_from_each_other_have_no_tour_but_a_spiral() -> None:
    x = np.arange(6) * 50.0
    of = capture(np.stack([x, 0 * x, 0 * x], axis=1), np.tile([[0.0, 1, 0], [0, -1, 0]], (3, 1)), 3)
    for kind in ("tour", "orbit", "sweep"):
        with pytest.raises(InvalidInput, match="spiral"):
            poses_of(kind, of, 20)
    poses = poses_of("spiral", of, 20)
    assert sight.covered(of, poses[:, :3, 3], -poses[:, :3, 2]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", trajectory.KINDS)
def test_memory_does_not_grow_with_frames_times_photos(kind: str) -> None:
    x = np.linspace(-3, 3, 2000)
    y = 8 - np.sqrt(64 - x**2)  # a little round, so that they look at one place, and as one front, too
    centres = np.stack([x, y, 0 * x], axis=1)
    of = capture(centres, np.array([0.0, 16, 0]) - centres, 8)
    tracemalloc.start()
    poses = poses_of(kind, of, 10_000)
    assert sight.covered(of, poses[:, :3, 3], -poses[:, :3, 2]).all()
    sight.distances(of, poses[:, :3, 3])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(poses) == 10_000 and most < 100e6, "one array of a number for each frame and photo is 160 MB"


@pytest.mark.parametrize("kind", ["tour", "sweep"])
def test_ease_begins_and_ends_slowly_on_the_same_way(kind: str) -> None:
    of = CAPTURES["facade"]
    plain, eased = poses_of(kind, of, 101), poses_of(kind, of, 101, ease=True)
    np.testing.assert_allclose(eased[[0, 50, 100]], plain[[0, 50, 100]], atol=1e-9)
    steps, even = picture_steps(eased, of.depth), picture_steps(plain, of.depth)
    assert max(steps[0], steps[-1]) < 0.1 * even.mean() and steps[48:52].min() > 1.3 * even.mean()


@pytest.mark.parametrize("name", ["facade", "ring", "house"])
@pytest.mark.parametrize("kind", trajectory.KINDS)
def test_a_loop_ends_where_it_began(kind: str, name: str) -> None:
    of = CAPTURES[name]
    try:
        poses = poses_of(kind, of, 90, loop=True)
    except InvalidInput:
        return
    steps = picture_steps(np.concatenate([poses, poses[:1]]), of.depth)
    assert steps[-1] < 2 * np.median(steps), "jumps from the last frame to the first"
    if kind in ("tour", "sweep"):
        once = poses_of(kind, of, 90)
        np.testing.assert_allclose(poses[[0, 45]], once[[0, 89]], atol=1e-9)
        np.testing.assert_allclose(poses[1:45], poses[:45:-1], atol=1e-9)


def test_the_options_of_a_generated_path_are_in_it(tmp_path: Path) -> None:
    dataset, model = dataset_without_photos(tmp_path)
    crop = {"crop_center": [0, 0, 0], "crop_scale": [1, 2, 3], "crop_bg_color": {"r": 1, "g": 2, "b": 3}}
    options = RenderOptions.model_validate(
        {"camera_type": "equirectangular", "width": 64, "seconds": 1.5, "fps": 8, "crop": crop, "field_of_view": 33}
    )
    path = trajectory.generate("orbit", dataset, model, options.with_profile("preview"))
    assert (path.render_width, path.render_height) == (64, 32), "360 degrees by 180"
    assert path.camera_type == "equirectangular" and path.camera_path[0].fov == 33 and len(path.camera_path) == 12
    assert path.crop is not None and path.crop.crop_scale == [1, 2, 3]


def test_the_video_sees_no_more_than_the_photos(tmp_path: Path) -> None:
    """In either shape, upright or lying; the photos are 26 mm on 36 x 20.25 mm."""
    dataset, model = dataset_without_photos(tmp_path)
    for size, vertical in (((256, 144), 20.25), ((256, 256), 20.25), ((320, 80), 9.0), ((144, 256), 20.25)):
        width, height = size
        options = RenderOptions(width=width, height=height, seconds=2.0, fps=6)
        path = trajectory.generate("tour", dataset, model, options)
        assert path.camera_path[0].fov == pytest.approx(2 * np.degrees(np.arctan(vertical / 2 / 26)))
        assert (path.render_width, path.render_height, float(path.frame_rate)) == (*size, 6.0)
    path.write(tmp_path / "path.json")
    assert camera_path.read(tmp_path / "path.json") == path


@pytest.mark.parametrize("kind", trajectory.KINDS)
def test_upright_photos_give_an_upright_video_that_sees_as_much_of_the_height(tmp_path: Path, kind: str) -> None:
    """Some of the photos lie, but most decide; 9:16 with a vertical field of 70 degrees."""
    dataset, model = dataset_without_photos(tmp_path)
    meta = json.loads((dataset / "transforms.json").read_text())
    focal = 960 / np.tan(np.radians(35))
    lying = {"w": 1920, "h": 1080, "fl_x": focal, "fl_y": focal}
    meta |= {"w": 1080, "h": 1920, "fl_x": focal, "fl_y": focal}
    meta["frames"] = [frame | (lying if n < 5 else {}) for n, frame in enumerate(meta["frames"])]
    (dataset / "transforms.json").write_text(json.dumps(meta))
    path = trajectory.generate(kind, dataset, model, RenderOptions().with_profile("preview"))
    assert (path.render_width, path.render_height) == (144, 256)
    assert path.camera_path[0].fov == pytest.approx(70)
    path = trajectory.generate(kind, dataset, model, RenderOptions(width=256, height=144).with_profile("preview"))
    assert (path.render_width, path.render_height) == (256, 144), "what a person gives wins"
    assert path.camera_path[0].fov == pytest.approx(25, abs=0.5), "and shows no more than the photos do"
