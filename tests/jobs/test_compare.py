"""Then and now in one video: each on its side, labelled, frame by frame at the same place of the path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.camera_path import CameraPath
from jobs.compare import compare
from jobs.errors import InvalidInput
from jobs.options import CompareOptions
from jobs.video.h264 import Picture, encode, inspect
from tests.jobs.video.test_h264 import decode

POSE = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 50}
THEN, NOW = 60, 180  # grey


def path(frames: int) -> CameraPath:
    return CameraPath.model_validate(
        {"render_width": 160, "render_height": 90, "seconds": 2, "camera_path": [POSE] * frames}
    )


def video(folder: Path, grey: int, frames: int = 9) -> Path:
    """Write a video of one grey that becomes a little lighter."""
    folder.mkdir()
    shown = [np.full((90, 160, 3), grey + 3 * index, np.uint8) for index in range(frames)]
    encode(folder / "video.mp4", shown, path(frames).frame_rate, (160, 90))
    path(frames).write(folder / "camera_path.json")
    return folder


def middle(picture: Picture, *columns: slice) -> list[float]:
    """Return the mean grey of columns of the upper half, where no label is."""
    return [float(picture[:40, each].mean()) for each in columns]


def test_side_by_side(tmp_path: Path) -> None:
    options = CompareOptions(then_label="version 1, 2024-05-01", now_label="version 2, 2025-05-01")
    compare(options, video(tmp_path / "then", THEN), video(tmp_path / "now", NOW), tmp_path / "both")
    frames = decode(tmp_path / "both" / "video.mp4")
    assert len(frames) == 9 and frames[0].shape == (90, 320, 3)
    assert inspect(tmp_path / "both" / "video.mp4").duration == pytest.approx(2)
    for index, frame in enumerate(frames):
        left, right = middle(frame, slice(0, 150), slice(170, 320))
        assert left == pytest.approx(THEN + 3 * index, abs=4) and right == pytest.approx(NOW + 3 * index, abs=4)
        for half in (frame[:, :160], frame[:, 160:]):
            assert half[-12:, :60].max() > 235 and half[-12:, :60].min() < 80, "no label"
    assert {file.name for file in (tmp_path / "both").iterdir()} == {
        *("video.mp4", "poster.jpg", "contact_sheet.jpg", "preview.gif", "camera_path.json", "video.json")
    }
    about = json.loads((tmp_path / "both" / "video.json").read_text())
    assert about["options"]["then_label"] == "version 1, 2024-05-01" and about["width"] == 320


def test_a_wipe_goes_across_and_back(tmp_path: Path) -> None:
    then, now = video(tmp_path / "then", THEN), video(tmp_path / "now", NOW)
    compare(CompareOptions(layout="wipe"), then, now, tmp_path / "both")
    frames = decode(tmp_path / "both" / "video.mp4")
    assert frames[0].shape == (90, 160, 3)
    shares = []
    for index, frame in enumerate(frames):
        older = np.abs(frame[:40].mean(axis=(0, 2)) - (THEN + 3 * index)) < 20
        edge = int(older.sum())
        assert older[: max(0, edge - 2)].all() and not older[edge + 2 :].any(), "older on the left of the line only"
        shares.append(edge / 160)
    assert shares[0] < 0.05 and shares[-1] < 0.05 and shares[4] > 0.95
    assert (np.diff(shares[:5]) > 0).all() and (np.diff(shares[4:]) < 0).all()


def test_videos_of_different_paths_are_refused(tmp_path: Path) -> None:
    then, now = video(tmp_path / "then", THEN, frames=8), video(tmp_path / "now", NOW)
    with pytest.raises(InvalidInput, match="length or size"):
        compare(CompareOptions(), then, now, tmp_path / "both")
    assert not list((tmp_path / "both").iterdir())
