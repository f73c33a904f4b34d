"""Changes marked on the frames of a camera path, from points of a wall with a board and something gone behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import ply
from jobs.camera_path import CameraPath
from jobs.compare import compare
from jobs.geometry import Similarity
from jobs.options import CompareOptions
from jobs.video.h264 import encode
from jobs.visits.masks import COLOURS
from jobs.visits.overlay import Overlay
from jobs.visits.record import Change, Changes, Kind, ToModel
from tests.jobs.video.test_h264 import decode

VOXEL = 0.05
TO_MODEL = Similarity(2.0, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2, 3]))


def path(kind: str = "perspective") -> CameraPath:
    """Return a path from the origin of the scene along +Y, in the model frame."""
    pose = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    frame = {"camera_to_world": TO_MODEL.poses(pose).tolist(), "fov": 53.13}
    shape = {"render_width": 160, "render_height": 160, "seconds": 1, "camera_type": kind}
    return CameraPath.model_validate({**shape, "camera_path": [frame] * 4})


def written(folder: Path, *kinds: Kind) -> Path:
    """Write a wall 2 m ahead; change 1 is on its right half, and change 2 a metre behind its left half."""
    folder.mkdir()
    x, z = (each.ravel() for each in np.meshgrid(*[np.arange(-1, 1, VOXEL) + VOXEL / 2] * 2))
    wall = np.stack([x, np.full_like(x, 2.0), z], axis=1)
    on_it, behind = (x > 0.3) & (x < 0.7) & (abs(z) < 0.3), (x < -0.3) & (abs(z) < 0.3)
    points = np.concatenate([wall, wall[behind] + [0, 1, 0]])
    number = np.concatenate([np.where(on_it, 1, 0), np.full(behind.sum(), 2)]).astype(np.uint16)
    if not kinds:
        number[:] = 0
    axes = {name: points[:, axis].astype(np.float32) for axis, name in enumerate("xyz")}
    ply.write_vertices(folder / "changes.ply", {**axes, "change": number})
    at = (0.0, 0.0, 0.0)
    known = {"centre": at, "low": at, "high": at, "area": 1.0, "times_noise": 9.0, "photos": 9, "confidence": "high"}
    record = Changes(
        unit="m²", area_error=0, changes=tuple(Change.model_validate({**known, "kind": kind}) for kind in kinds),
        compared=1, least=0.1, needed=3.5, voxel=VOXEL, to_model=ToModel.of(TO_MODEL),
    )  # fmt: skip
    (folder / "changes.json").write_text(record.model_dump_json())
    return folder


def test_what_is_hidden_is_not_marked(tmp_path: Path) -> None:
    labels = Overlay(written(tmp_path / "changes", "new", "gone"), path()).labels(path().camera_path[0])
    assert labels.shape == (160, 160) and set(np.unique(labels)) == {0, 1}
    rows, columns = np.nonzero(labels)
    assert (columns.min(), columns.max()) == pytest.approx((80 + 24, 80 + 56), abs=3)  # 0.3 and 0.7 of 2 m at 160 px
    assert (rows.min(), rows.max()) == pytest.approx((80 - 24, 80 + 24), abs=3)


def test_then_and_now_with_changes_marked_is_a_video_of_its_own(tmp_path: Path) -> None:
    for name, grey in (("then", 60), ("now", 180)):
        (tmp_path / name).mkdir()
        shown = [np.full((160, 160, 3), grey, np.uint8)] * 4
        encode(tmp_path / name / "video.mp4", shown, path().frame_rate, (160, 160))
        path().write(tmp_path / name / "camera_path.json")
    changes = written(tmp_path / "changes", "moved", "gone")
    compare(CompareOptions(), tmp_path / "then", tmp_path / "now", tmp_path / "both", changes)
    plain, marked = (decode(tmp_path / "both" / f"{name}.mp4") for name in ("video", "changes"))
    assert len(plain) == len(marked) == 4
    for left, grey in ((0, 60), (160, 180)):
        assert plain[1][80, left + 120] == pytest.approx(grey, abs=6)
        tinted = 0.65 * grey + 0.35 * np.array(COLOURS["moved"])
        assert marked[1][80, left + 120] == pytest.approx(tinted, abs=25)
        assert marked[1][30, left + 40] == pytest.approx(grey, abs=8)
    unchanged = written(tmp_path / "unchanged")
    compare(CompareOptions(), tmp_path / "then", tmp_path / "now", tmp_path / "same", unchanged)
    assert not (tmp_path / "same" / "changes.mp4").exists()
    assert Overlay(changes, path("equirectangular")).is_empty and not Overlay(changes, path()).is_empty
