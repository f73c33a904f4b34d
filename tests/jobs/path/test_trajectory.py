"""Generated camera paths, on captures of every kind: smooth, upright, and never far from where a photo was taken."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import camera_path
from jobs.errors import InvalidInput
from jobs.options import RenderOptions
from jobs.path import reading, sight, trajectory
from jobs.path.capture import Array, Capture

RNG = np.random.default_rng(7)


def capture(centres: Array, looks: Array, depth: float) -> Capture:
    return Capture(centres, looks / np.linalg.norm(looks, axis=1, keepdims=True), depth, (0.7, 0.4))


def facade() -> Capture:
    from jobs.facade import cameras

    views = cameras(48, 640, 360)
    return capture(np.array([v.center for v in views]), np.array([v.rotation[:, 2] for v in views]), 8.5)


def ring(levels: tuple[float, ...] = (1.5,), gap: float = 0.0) -> Capture:
    angles = np.concatenate([np.linspace(gap / 2, 2 * np.pi - gap / 2, 40, endpoint=gap > 0) for _ in levels])
    heights = np.repeat(levels, 40)
    centres = np.stack([3 * np.cos(angles), 3 * np.sin(angles), heights], axis=1) + RNG.normal(
        0, 0.05, (len(angles), 3)
    )
    return capture(centres, np.array([0, 0, 1.0]) - centres, 3)


def house() -> Capture:
    """A walk through a house, round five corners, looking ahead."""
    corners = np.array([[0, 0], [8, 0], [8, 6], [2, 6], [2, 10], [9, 10]], dtype=float)
    at = np.linspace(0, 5, 120)
    centres = np.stack([*(np.interp(at, np.arange(6), c) for c in corners.T), np.full(120, 1.6)], axis=1)
    ahead = np.gradient(centres, axis=0)
    smooth = np.stack([np.convolve(np.pad(c, 6, mode="edge"), np.ones(13) / 13, "valid") for c in ahead.T], axis=1)
    return capture(centres + RNG.normal(0, 0.05, centres.shape), smooth, 3)


def room() -> Capture:
    """From the middle of a room, outwards."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    out = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return capture(0.4 * out + [0, 0, 1.5], out, 3)


def drone() -> Capture:
    """Lanes to and fro, straight down."""
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-10, 10, 8), np.linspace(-10, 10, 8)))
    return capture(np.stack([x, y, 0 * x + 12], axis=1), np.tile([0.0, 0.0, -1.0], (64, 1)), 12)


def row(y: float, looks_to: float, x: float = 0.0) -> Capture:
    """A straight walk along X, looking at a right angle to it."""
    along = np.linspace(-4, 4, 20)
    centres = np.stack([along + x, 0 * along + y, 0 * along + 1.6], axis=1)
    return capture(centres, np.tile([0.0, looks_to, 0.0], (20, 1)), 4)


def together(*parts: Capture) -> Capture:
    return capture(
        np.concatenate([p.centres for p in parts]), np.concatenate([p.directions for p in parts]), parts[0].depth
    )


def outlier() -> Capture:
    return together(ring(), capture(np.array([[16.0, 0, 1.5]]), np.array([[-1.0, 0, 0]]), 3))


CAPTURES = {
    "facade": facade(),
    "ring": ring(),
    "three rings": ring((0.3, 1.5, 3.0)),
    "house": house(),
    "room": room(),
    "drone": drone(),
    "tripod": capture(np.zeros((5, 3)), np.array([[np.sin(a), np.cos(a), 0] for a in np.linspace(-0.5, 0.5, 5)]), 4),
    "opposite sides of a house": together(row(-8, 1), row(8, -1)),
    "two groups": together(row(0, 1), row(0, 1, x=40)),
    "ring and an outlier": outlier(),
    "ring with a gap": ring(gap=np.radians(70)),
    "ring with a small gap": ring(gap=np.radians(50)),
    "two photos": capture(np.array([[0.0, 0, 0], [1, 0, 0]]), np.tile([0.0, 1.0, 0.0], (2, 1)), 3),
}


def shuffled(of: Capture) -> Capture:
    order = RNG.permutation(len(of.centres))
    return Capture(of.centres[order], of.directions[order], of.depth, of.half_field)


def poses_of(kind: str, of: Capture, frames: int, ease: bool = False, loop: bool = False) -> Array:
    return trajectory.KINDS[kind](of, trajectory.moments(kind, frames, ease, loop))


def check_upright(poses: Array) -> None:
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-9
    )
    assert (np.linalg.det(rotations) > 0).all()
    straight_down = np.abs(rotations[:, 2, 2]).max() > 0.98
    if not straight_down:
        assert np.abs(rotations[:, 2, 0]).max() < 1e-9, "rolls"
        assert (rotations[:, 2, 1] > 0).all(), "is upside down"


def picture_steps(poses: Array, depth: float) -> Array:
    """How much the picture moves from frame to frame: by the camera's shift over the depth, and by its turn."""
    shift = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) / depth
    turn = np.linalg.norm(np.diff(poses[:, :3, 2], axis=0), axis=1)
    steps: Array = np.hypot(shift, turn)
    return steps


def from_nearest_photo(poses: Array, of: Capture) -> Array:
    apart: Array = np.linalg.norm(poses[:, None, :3, 3] - of.centres, axis=2).min(axis=1)
    return apart


@pytest.mark.parametrize("name", CAPTURES)
def test_a_tour_is_smooth_upright_and_near_the_photos(name: str) -> None:
    of = shuffled(CAPTURES[name])
    poses = poses_of("tour", of, 120)
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
    of = shuffled(CAPTURES[name])
    poses = poses_of("tour", of, 200)
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
    of = shuffled(CAPTURES[name])
    poses = poses_of("tour", of, 200)
    off = np.linalg.norm(of.centres[:, None] - poses[None, :, :3, 3], axis=2).min(axis=1)
    assert np.quantile(off, 0.9) < 0.4 * of.depth


def test_a_tour_of_the_facade_is_one_straight_walk() -> None:
    poses = poses_of("tour", shuffled(CAPTURES["facade"]), 100)
    steps = np.diff(poses[:, 0, 3])
    assert (steps > 0).all() or (steps < 0).all(), "three walks past the houses became a zigzag"
    assert np.ptp(poses[:, 0, 3]) > 9
    assert np.ptp(poses[:, 1, 3]) < 2


def test_a_tour_begins_where_the_capture_did() -> None:
    of = CAPTURES["house"]
    back = Capture(of.centres[::-1], of.directions[::-1], of.depth, of.half_field)
    for this in (of, back):
        poses = poses_of("tour", this, 50)
        assert np.linalg.norm(poses[0, :3, 3] - this.centres[0]) < np.linalg.norm(poses[-1, :3, 3] - this.centres[0])


def test_paths_are_the_same_each_time() -> None:
    for kind in trajectory.KINDS:
        once, again = (poses_of(kind, CAPTURES["facade"], 20) for _ in range(2))
        np.testing.assert_array_equal(once, again)


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
    with pytest.raises(InvalidInput, match="Choose the tour"):
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
    for this in (of, Capture(of.centres[::-1], of.directions[::-1], of.depth, of.half_field)):
        poses = poses_of("sweep", this, 9)
        assert np.linalg.norm(poses[0, :3, 3] - this.centres[0]) < np.linalg.norm(poses[-1, :3, 3] - this.centres[0])


@pytest.mark.parametrize("name", ["ring", "house", "room", "tripod"])
def test_a_sweep_past_no_front_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="Choose the tour"):
        poses_of("sweep", CAPTURES[name], 60)


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
    try:
        plain = poses_of(kind, of, 60)
    except InvalidInput:
        return  # refused: see above
    for poses in (plain, poses_of(kind, of, 60, ease=True), poses_of(kind, of, 60, ease=True, loop=True)):
        check_upright(poses)
        apart = np.linalg.norm(poses[:, None, :3, 3] - of.centres, axis=2)
        assert apart.min(axis=1).max() <= 0.5 * of.depth
        looks = np.where(apart <= 0.5 * of.depth, -poses[:, :3, 2] @ of.directions.T, -1).max(axis=1)
        assert looks.min() >= 0.5, "looks where no photo did"


@pytest.mark.parametrize("kind", ["tour", "orbit", "spiral"])
@pytest.mark.parametrize("name", [name for name in CAPTURES if name != "house"])
def test_there_is_a_path_of_nearly_every_kind(kind: str, name: str) -> None:
    """The bound is not kept by refusing: only an orbit in a house is none, and sweeps are where there is a front."""
    assert len(poses_of(kind, shuffled(CAPTURES[name]), 30)) == 30


def test_a_tour_of_two_groups_is_along_one_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = CAPTURES["two groups"]
    poses = poses_of("tour", of, 60)
    assert np.ptp(poses[:, 0, 3]) > 5 and (poses[:, 0, 3] < 5).all()
    dataset, model = _dataset(tmp_path)
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


def test_photos_too_far_from_each_other_have_no_tour_but_a_spiral() -> None:
    x = np.arange(6) * 50.0
    of = capture(np.stack([x, 0 * x, 0 * x], axis=1), np.tile([[0.0, 1, 0], [0, -1, 0]], (3, 1)), 3)
    for kind in ("tour", "orbit", "sweep"):
        with pytest.raises(InvalidInput, match="too far apart for a path along them. Choose the spiral"):
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
    dataset, model = _dataset(tmp_path)
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
    dataset, model = _dataset(tmp_path)
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
    dataset, model = _dataset(tmp_path)
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


@pytest.mark.parametrize(
    "transforms", [{}, {"frames": [{}]}, {"w": 4, "h": 2, "camera_model": "EQUIRECTANGULAR", "frames": [{}]}]
)
def test_photos_without_a_shape_give_a_video_of_16_by_9(transforms: dict[str, object]) -> None:
    assert reading.photo_shape(transforms) == 16 / 9


@pytest.mark.parametrize("applied", [False, True])
def test_the_path_is_in_the_models_frame(tmp_path: Path, applied: bool) -> None:
    """Against nerfstudio's own dataparser, with and without a frame that the dataset was already brought to."""
    torch = pytest.importorskip("torch")
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    dataset, model = _dataset(tmp_path)
    if applied:
        meta = json.loads((dataset / "transforms.json").read_text())
        meta |= {"applied_transform": [[0, 1, 0, 0.5], [1, 0, 0, -2], [0, 0, -1, 0.25]], "applied_scale": 0.125}
        (dataset / "transforms.json").write_text(json.dumps(meta))
    (dataset / "photos").mkdir()
    for number in range(20):
        Image.new("RGB", (64, 36)).save(dataset / f"photos/{number:02}.jpg")
    outputs = NerfstudioDataParserConfig(data=dataset, eval_mode="all", load_3D_points=False).setup()
    outputs = outputs.get_dataparser_outputs("train")
    outputs.save_dataparser_transform(model / "dataparser_transforms.json")
    poses = outputs.cameras.camera_to_worlds.numpy()
    capture = reading.read_capture(dataset, model)
    np.testing.assert_allclose(capture.centres, poses[:, :, 3], atol=1e-5)
    np.testing.assert_allclose(capture.directions, -poses[:, :, 2], atol=1e-5)
    assert torch.isfinite(outputs.cameras.fx).all()


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_the_depth_is_that_of_the_points_seen(tmp_path: Path, kind: str) -> None:
    """The wall of the facade is at y = 0; points behind the cameras do not count."""
    dataset, model = _dataset(tmp_path)
    wall = np.stack([RNG.uniform(-5, 5, 500), np.zeros(500), RNG.uniform(0, 6, 500)], axis=1)
    behind = wall - np.array([0, 40, 0])
    points = np.concatenate([wall, behind])
    properties = "".join(f"property {name}\n" for name in ("float x", "float y", "float z", "uint8 red"))
    header = f"ply\nformat {kind} 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
    if kind == "ascii":
        body = "".join(f"{x:.6f} {y:.6f} {z:.6f} 7\n" for x, y, z in points).encode()
    else:
        layout = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1")]
        body = np.array([(*p, 7) for p in points.tolist()], dtype=layout).tobytes()
    (dataset / "sparse_pc.ply").write_bytes(header.encode() + body)
    meta = json.loads((dataset / "transforms.json").read_text())
    (dataset / "transforms.json").write_text(json.dumps(meta | {"ply_file_path": "sparse_pc.ply"}))
    capture = reading.read_capture(dataset, model)
    assert capture.depth == pytest.approx(np.median(-capture.centres[:, 1]), rel=0.1)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    dataset, model = _dataset(tmp_path)
    with pytest.raises(InvalidInput, match="dataparser_transforms.json"):
        reading.read_capture(dataset, tmp_path)
    (dataset / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(InvalidInput, match="lists no photos"):
        reading.read_capture(dataset, model)
    with pytest.raises(InvalidInput, match="transforms.json"):
        reading.read_capture(tmp_path / "none", model)


def _dataset(folder: Path) -> tuple[Path, Path]:
    """A dataset with the facade's true poses, without photos, and a model folder with nothing done to the frame."""
    from jobs.facade import _transforms, cameras

    views = cameras(20, 640, 360)
    for name in ("dataset", "model"):
        (folder / name).mkdir()
    content = _transforms(views, [f"{i:02}.jpg" for i in range(20)])
    (folder / "dataset/transforms.json").write_text(json.dumps(content))
    identity = {"transform": np.eye(4)[:3].tolist(), "scale": 1.0}
    (folder / "model/dataparser_transforms.json").write_text(json.dumps(identity))
    return folder / "dataset", folder / "model"
