from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

import tasks
from blocks import LocalWorkspace
from flows._command import parse_command
from flows.camera_path import TakePath, take
from jobs import camera_path
from jobs.camera_path import CameraPath, Frame
from jobs.errors import InvalidInput, NotFound
from jobs.options import RenderOptions


@pytest.fixture
def trajectories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's trajectories/, and a workspace with a model and its dataset."""
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "home"))
    for module in ("tasks.camera_path", "tasks.render"):
        monkeypatch.setattr(sys.modules[module], "TRAJECTORIES", tmp_path / "trajectories")
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
    """A path as the viewer writes it, keys of its own and all."""
    pose = [1.0, 0, 0, x, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    frames = [Frame(camera_to_world=pose, fov=50)] * 2
    path = CameraPath(render_width=64, render_height=36, seconds=1, camera_path=frames)
    file.write_text(json.dumps({**path.content(), "keyframes": [{"time": 0}], "smoothness_value": 0.5}))
    return file


def drawn_in(file: Path, frame: str) -> Path:
    """A path that says which frame it belongs to."""
    content = json.loads(exported(file).read_text())
    file.write_text(json.dumps({**content, "rebel_nerf": {"model": "street-nerf:9-a", "frame": frame}}))
    return file


def command(*arguments: object) -> None:
    take(parse_command(TakePath, ["--scene", "street", *map(str, arguments)]))


def test_a_path_is_kept_with_where_it_belongs(
    trajectories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported(tmp_path / "camera_path.json")
    command(file)
    content = json.loads((trajectories / "street.json").read_text())
    dataset = "street-images-to-nerf-dataset:1-aaaaaaaa"
    assert content["rebel_nerf"] == {"model": "street-nerf:1-dddddddd", "frame": dataset}
    assert content["keyframes"] == [{"time": 0}]  # the viewer can load it again
    assert "python -m flows.render --scene street\n" in capsys.readouterr().out
    _, path = tasks.find_camera_path("street", RenderOptions(), "preview", 1)
    assert path == camera_path.read(trajectories / "street.json")

    command(file, "--name", "walk", "--model-version", "1-cccccccc")
    assert "--scene street --render.camera-path walk\n" in capsys.readouterr().out
    _, path = tasks.find_camera_path("street", RenderOptions(camera_path="walk"), "preview", 1)
    assert path and path.content()["rebel_nerf"]["model"] == "street-nerf:1-cccccccc"


def test_another_path_is_not_lost(trajectories: Path, tmp_path: Path) -> None:
    first = exported(tmp_path / "first.json")
    command(first)
    command(first)  # the same again is no other
    second = exported(tmp_path / "second.json", x=1.0)
    with pytest.raises(InvalidInput, match=r"scene street: .*street\.json holds another path; give --replace"):
        command(second)
    command(second, "--replace")
    assert camera_path.read(trajectories / "street.json").camera_path[0].camera_to_world[3] == 1.0


def test_what_cannot_work_is_refused(trajectories: Path, tmp_path: Path) -> None:
    file = exported(tmp_path / "camera_path.json")
    with pytest.raises(InvalidInput, match=r"scene street: The camera path .*nowhere\.json is not there"):
        command(tmp_path / "nowhere.json")
    file.write_text(file.read_text().replace('"fov": 50', '"fov": 500'))
    with pytest.raises(InvalidInput, match=r"camera_path\[0\]\.fov is 500"):
        command(file)
    exported(file)
    with pytest.raises(InvalidInput, match="tour is a path that is generated"):
        command(file, "--name", "tour")
    with pytest.raises(NotFound, match="no version 9 of street-nerf"):
        command(file, "--model-version", "9")
    with pytest.raises(SystemExit):
        command(file, "--name", "../street")
    assert not trajectories.exists()


def test_where_a_path_was_drawn_is_not_forgotten(trajectories: Path, tmp_path: Path) -> None:
    command(drawn_in(tmp_path / "camera_path.json", "street-images-to-nerf-dataset:1-aaaaaaaa"))
    assert (trajectories / "street.json").exists()
    with pytest.raises(
        InvalidInput, match=r"scene street: the path was drawn in street-nerf:9-a, in the frame of .*:2-b"
    ):
        command(drawn_in(tmp_path / "other.json", "street-images-to-nerf-dataset:2-bbbbbbbb"), "--replace")
