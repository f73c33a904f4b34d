from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import tasks
from blocks import LocalWorkspace
from commands.path import SavePath, save
from commands.shell.run import parse_command
from flows.nerf import nerf
from flows.render import render
from jobs import camera_path
from jobs.camera_path import CameraPath, Frame
from jobs.errors import InvalidInput, NotFound
from jobs.options import RenderOptions


@pytest.fixture
def trajectories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project's trajectories/, and a workspace with a model and its dataset."""
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tasks.shot.TRAJECTORIES", tmp_path / "trajectories")
    made_of = {"dataset": "street-images-to-nerf-dataset:1-aaaaaaaa"}
    for name, version, tags in (
        *(("street-images-to-nerf-dataset", "1-aaaaaaaa", {}), ("street-images-to-nerf-dataset", "2-bbbbbbbb", {})),
        *(("street-nerf", "1-cccccccc", made_of), ("street-nerf", "1-dddddddd", made_of)),
    ):
        folder = tmp_path / "home/assets" / name / version
        folder.mkdir(parents=True)
        about = {"name": name, "version": version, "kind": "model", "tags": tags, "checksums": {}}
        created = datetime(2026, 1, ord(version[-1]) - ord("a") + 1, tzinfo=timezone.utc)
        (folder / "asset.json").write_text(json.dumps({**about, "created": created.isoformat()}))
    assert LocalWorkspace().assets("street-nerf")[-1].version == "1-dddddddd"
    return tmp_path / "trajectories"


def exported(file: Path, x: float = 0.0) -> Path:
    """Write a path as the viewer does, with its own keys."""
    pose = [1.0, 0, 0, x, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    frames = [Frame(camera_to_world=pose, fov=50)] * 2
    path = CameraPath(render_width=64, render_height=36, seconds=1, camera_path=frames)
    file.write_text(json.dumps({**path.content(), "keyframes": [{"time": 0}], "smoothness_value": 0.5}))
    return file


def drawn_in(file: Path, frame: str) -> Path:
    """Write a path that says which frame it belongs to."""
    content = json.loads(exported(file).read_text())
    file.write_text(json.dumps({**content, "rebel_nerf": {"model": "street-nerf:9-a", "frame": frame}}))
    return file


def command(*arguments: object) -> None:
    save(parse_command(SavePath, ["--scene", "street", *map(str, arguments)]))


def test_a_path_is_kept_with_where_it_belongs(
    trajectories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported(tmp_path / "camera_path.json")
    command(file)
    content = json.loads((trajectories / "street.json").read_text())
    dataset = "street-images-to-nerf-dataset:1-aaaaaaaa"
    assert content["rebel_nerf"] == {"model": "street-nerf:1-dddddddd", "frame": dataset}
    assert content["keyframes"] == [{"time": 0}]  # the viewer can load it again
    assert "rebel-nerf render --scene street\n" in capsys.readouterr().out
    path = tasks.read_shot("street", RenderOptions(), "preview", 1).path
    assert path == camera_path.read(trajectories / "street.json")

    command(file, "--name", "walk", "--model-version", "1-cccccccc")
    assert "--scene street --render.camera-path walk\n" in capsys.readouterr().out
    path = tasks.read_shot("street", RenderOptions(camera_path="walk"), "preview", 1).path
    assert path and path.content()["rebel_nerf"]["model"] == "street-nerf:1-cccccccc"


def test_another_path_is_not_lost(trajectories: Path, tmp_path: Path) -> None:
    first = exported(tmp_path / "first.json")
    command(first)
    command(first)  # the same again is no other
    second = exported(tmp_path / "second.json", x=1.0)
    with pytest.raises(InvalidInput, match=r"scene street: .*street\.json .*--replace"):
        command(second)
    command(second, "--replace")
    assert camera_path.read(trajectories / "street.json").camera_path[0].camera_to_world[3] == 1.0


def test_impossible_options_are_refused(trajectories: Path, tmp_path: Path) -> None:
    file = exported(tmp_path / "camera_path.json")
    with pytest.raises(InvalidInput, match=r"scene street: .*nowhere\.json"):
        command(tmp_path / "nowhere.json")
    file.write_text(file.read_text().replace('"fov": 50', '"fov": 500'))
    with pytest.raises(InvalidInput, match=r"camera_path\[0\]\.fov .*500"):
        command(file)
    exported(file)
    with pytest.raises(InvalidInput, match="tour"):
        command(file, "--name", "tour")
    with pytest.raises(NotFound, match="9 of street-nerf"):
        command(file, "--model-version", "9")
    with pytest.raises(SystemExit):
        command(file, "--name", "../street")
    assert not trajectories.exists()


def test_where_a_path_was_drawn_is_not_forgotten(trajectories: Path, tmp_path: Path) -> None:
    command(drawn_in(tmp_path / "camera_path.json", "street-images-to-nerf-dataset:1-aaaaaaaa"))
    assert (trajectories / "street.json").exists()
    with pytest.raises(InvalidInput, match=r"scene street: .*street-nerf:9-a.*:2-b"):
        command(drawn_in(tmp_path / "other.json", "street-images-to-nerf-dataset:2-bbbbbbbb"), "--replace")


def placed(trajectories: Path, *centres: tuple[float, float, float], scale: bool = True) -> Path:
    """Give the dataset of the newest model cameras that look along +Y at a wall, as `jobs.prepare` would write it."""
    folder = trajectories.parent / "home/assets/street-images-to-nerf-dataset/1-aaaaaaaa"
    poses = [[[1, 0, 0, x], [0, 0, -1, y], [0, 1, 0, z], [0, 0, 0, 1]] for x, y, z in centres]
    wall = [(x / 10, 2.0, z / 10) for x in range(-20, 21) for z in range(-8, 9)]
    header = "".join(f"property float {axis}\n" for axis in "xyz")
    points = "".join(f"{x} {y} {z}\n" for x, y, z in wall)
    (folder / "sparse_pc.ply").write_text(
        f"ply\nformat ascii 1.0\nelement vertex {len(wall)}\n{header}end_header\n{points}"
    )
    content = {
        "fl_x": 500, "fl_y": 500, "w": 640, "h": 360, "ply_file_path": "sparse_pc.ply",
        "frames": [{"file_path": "a.jpg", "transform_matrix": pose} for pose in poses],
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(content | ({"applied_scale": 1.0} if scale else {})))
    return folder


def walk(file: Path, look: float, frame: str | None = None) -> Path:
    """Write a walk along X that looks along +Y (1) or -Y (-1)."""
    poses = [[look, 0, 0, x / 10, 0, 0, -look, 0, 0, 1, 0, 0, 0, 0, 0, 1] for x in range(-5, 6)]
    frames = [Frame(camera_to_world=pose, fov=40) for pose in poses]
    content = CameraPath(render_width=64, render_height=36, seconds=1, camera_path=frames).content()
    file.write_text(json.dumps({**content, "rebel_nerf": {"frame": frame}} if frame else content))
    return file


def test_a_path_that_shows_nothing_of_the_scene_is_not_taken_in(
    trajectories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    placed(trajectories, *((x / 5, 0.0, 0.0) for x in range(-5, 6)))
    with pytest.raises(InvalidInput, match=r"scene street: 100% .* 1 of 11"):
        command(walk(tmp_path / "away.json", -1))
    with pytest.raises(InvalidInput, match="times"):
        command(exported(tmp_path / "far.json", x=1000.0))
    assert not trajectories.exists()
    command(walk(tmp_path / "here.json", 1))
    assert "show little or nothing" not in capsys.readouterr().out

    # Half of it looks away: the person, or the path, says that it is right all the same.
    here, away = (json.loads((tmp_path / name).read_text())["camera_path"] for name in ("here.json", "away.json"))
    for name, origin in (("half", {}), ("own", {"rebel_nerf": {"frame": "street-images-to-nerf-dataset:1-aaaaaaaa"}})):
        content = json.loads((tmp_path / "here.json").read_text()) | origin
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "camera_path": here[:5] + away[5:]}))
    with pytest.raises(InvalidInput, match="55% "):
        command(tmp_path / "half.json", "--name", "half")
    command(tmp_path / "half.json", "--name", "half", "--anyway")
    command(tmp_path / "own.json", "--name", "own")
    assert capsys.readouterr().out.count("55% of the camera path's frames show little or nothing") == 2


def test_cameras_at_one_point_are_no_fault(trajectories: Path, tmp_path: Path) -> None:
    placed(trajectories, *[(0.0, 0.0, 0.0)] * 3)
    command(walk(tmp_path / "here.json", 1))
    with pytest.raises(InvalidInput, match="% "):
        command(walk(tmp_path / "away.json", -1), "--name", "away")


def test_the_frame_of_the_model_is_that_of_the_path(trajectories: Path, tmp_path: Path) -> None:
    """Where training brought the poses into a frame of its own, here turned about and ten times smaller."""
    placed(trajectories, *((x * 2.0, 0.0, 0.0) for x in range(-5, 6)), scale=False)
    way = {"transform": [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]], "scale": 0.1}
    (tmp_path / "home/assets/street-nerf/1-dddddddd/dataparser_transforms.json").write_text(json.dumps(way))
    command(walk(tmp_path / "here.json", -1))
    with pytest.raises(InvalidInput, match="% "):
        command(walk(tmp_path / "away.json", 1), "--name", "away")


def test_options_beside_a_path_file_change_the_path(trajectories: Path, tmp_path: Path) -> None:
    command(walk(tmp_path / "walk.json", 1))

    def found(profile: str = "full", **given: object) -> CameraPath:
        options = RenderOptions.model_validate(given)
        path = tasks.read_shot("street", options, profile, 1).path  # type: ignore[arg-type]
        assert path
        return path

    own = camera_path.read(trajectories / "street.json")
    assert found() == found("preview") == own, "the profile is for generated paths"
    assert found(width=64, height=36, seconds=1.0) == own
    assert found(width=128).even_size == (128, 72) and found(height=72).even_size == (128, 72)
    assert found(width=100, height=100).even_size == (100, 100)
    assert found(long_side=128).even_size == (128, 72) and found(long_side=128, height=36).even_size == (64, 36)
    assert found(long_side=128, camera_type="equirectangular").even_size == (128, 64)
    assert found(seconds=2.0).frame_rate == 5.5 and len(found(seconds=2.0).camera_path) == 11
    assert float(found(fps=29.97).frame_rate) == pytest.approx(29.97)
    assert {frame.fov for frame in found(field_of_view=33.0).camera_path} == {33.0}
    assert found(camera_type="fisheye").camera_type == "fisheye"
    assert found(camera_type="equirectangular").even_size == (64, 32)
    crop = {"crop_center": [0, 0, 0], "crop_scale": [1, 2, 3], "crop_bg_color": {"r": 1, "g": 2, "b": 3}}
    changed = found(crop=crop).crop
    assert changed and changed.crop_scale == [1, 2, 3]
    assert found(crop=crop).camera_path == own.camera_path and found(crop=crop).rebel_nerf == own.rebel_nerf
    for given in ({"easing": "ease"}, {"loop": True}):
        with pytest.raises(InvalidInput, match=r"scene street: easing and loop .*street\.json"):
            found(**given)
        shot = tasks.read_shot("street", RenderOptions(camera_path="tour", **given), "preview", 1)
        assert shot.path is None and shot.options.camera_path == "tour"
    with pytest.raises(InvalidInput, match="scene street: .*H.264"):
        found(width=7680, height=4320, seconds=0.05)
    named, by_default = (
        tasks.read_shot("street", RenderOptions(camera_path="tour", **given), "preview", 1).options
        for given in ({"camera_type": "perspective"}, {})
    )
    assert named.fingerprint() == by_default.fingerprint()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("flow", [nerf, render])
async def test_a_path_is_parsed_beside_the_event_loop(
    trajectories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Any
) -> None:
    read, threads = camera_path.read, []

    def noted(file: Path) -> CameraPath:
        threads.append(threading.current_thread())
        return read(file)

    monkeypatch.setattr(camera_path, "read", noted)
    options = RenderOptions(camera_path=str(exported(tmp_path / "camera_path.json")))
    state = await flow(scene="nowhere", profile="preview", render=options, return_state=True)
    assert state.is_failed() and "nowhere" in str(state.message)
    assert threads and threading.current_thread() not in threads
