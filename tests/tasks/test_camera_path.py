"""Camera paths that a person drew, checked against datasets that may be damaged or from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

import tasks
from blocks import Asset, LocalWorkspace
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput

TRANSFORMS = {
    "w": 64,
    "h": 48,
    "fl_x": 60,
    "fl_y": 60,
    "applied_scale": 1.0,
    "frames": [
        {"transform_matrix": [[1, 0, 0, x], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]} for x in np.linspace(-1, 1, 9)
    ],
}
MODEL = Asset(
    name="street-nerf", version="1", kind="model", tags={}, uri="/", created=datetime(2026, 1, 1, tzinfo=timezone.utc)
)


def path(y: float = -2.0) -> CameraPath:
    """Return a path of two frames with the poses of photos, at a distance `y` from the origin."""
    poses = [[1, 0, 0, x, 0, 0, -1, y, 0, 1, 0, 0, 0, 0, 0, 1] for x in (-0.5, 0.5)]
    frames = [{"camera_to_world": pose, "fov": 50} for pose in poses]
    return CameraPath.model_validate({"render_width": 64, "render_height": 48, "seconds": 1, "camera_path": frames})


def check(folder: Path, contents: Mapping[str, bytes], drawn: CameraPath) -> str | None:
    """Check a path against a dataset with these files."""
    workspace = LocalWorkspace(root=folder / "home")
    folder.mkdir(exist_ok=True)
    files = {}
    for name, content in contents.items():
        files[name] = folder / name
        files[name].write_bytes(content)
    dataset = workspace.take_in("street-images-to-nerf-dataset", files, {})
    return tasks.check_taken_path(workspace, drawn, "street", MODEL, dataset)


def transforms(**changes: object) -> bytes:
    return json.dumps({**TRANSFORMS, **changes}).encode()


def test_a_path_is_compared_with_the_cameras_of_its_dataset(tmp_path: Path) -> None:
    contents = {"transforms.json": transforms()}
    assert check(tmp_path / "near", contents, path()) is None
    with pytest.raises(InvalidInput):
        check(tmp_path / "far", contents, path(y=-200))


def test_a_dataset_without_known_cameras_is_not_compared(tmp_path: Path) -> None:
    without_scale = {key: value for key, value in TRANSFORMS.items() if key != "applied_scale"}
    contents: dict[str, dict[str, bytes]] = {
        "from elsewhere": {"a.txt": b""},
        "no JSON": {"transforms.json": b"{"},
        "no object": {"transforms.json": b"[1]"},
        # Training moved the poses to a frame of the model's own, and MODEL has no file that says which.
        "in another frame": {"transforms.json": json.dumps(without_scale).encode()},
    }
    for name, files in contents.items():
        assert check(tmp_path / name, files, path(y=-200)) is None


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(tmp_path / "a", {"transforms.json": transforms(frames=[{}])}, path())
    assert "scene street: street-images-to-nerf-dataset:" in str(refused.value)
    with pytest.raises(InvalidInput) as refused:
        check(tmp_path / "b", {"transforms.json": transforms(ply_file_path="p.ply"), "p.ply": b"no points"}, path())
    assert "scene street: the file of sparse points of street-images-to-nerf-dataset:" in str(refused.value)


def test_points_outside_of_the_dataset_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside.ply").write_bytes(b"no points")
    outside = transforms(ply_file_path=str(tmp_path / "outside.ply"))
    assert check(tmp_path / "a", {"transforms.json": outside}, path()) is None
