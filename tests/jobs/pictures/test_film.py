from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from jobs import media
from jobs.pictures import film
from tests.pictures import difference, picture, turned, video


def test_the_sharpest_frame_of_each_window_is_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1))
    sharp = {3, 9, 12, 18, 27}
    frames = [scene if i in sharp else scene.filter(ImageFilter.GaussianBlur(4)) for i in range(30)]
    file = video(tmp_path / "walk.mp4", frames)
    times = film.frame_times(file)
    assert times == pytest.approx([i / 10 for i in range(30)])
    taken = list(film.sharpest_frames(file, times, 5))
    assert [round(frame.time * 10) for frame in taken] == sorted(sharp)
    assert all(difference(frame.image, scene) < 15 for frame in taken)
    assert len(list(film.sharpest_frames(file, times, 100))) == 30


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx"), ("mov", "mpeg4")]
)
def test_containers(tmp_path: Path, suffix: str, codec: str) -> None:
    file = video(tmp_path / f"a.{suffix}", [picture(seed=i) for i in range(10)], codec=codec)
    assert list(media.scan(file).videos) == [file.name]
    times = film.frame_times(file)
    assert len(times) == 10 and times[-1] == pytest.approx(0.9, abs=0.02)
    assert len(list(film.sharpest_frames(file, times, 5))) == 5


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), None),
        ((0, 1, -1, 0), Image.Transpose.ROTATE_270),  # a quarter clockwise
        ((0, -1, 1, 0), Image.Transpose.ROTATE_90),
        ((-1, 0, 0, -1), Image.Transpose.ROTATE_180),
        ((-1, 0, 0, 1), Image.Transpose.FLIP_LEFT_RIGHT),  # a front camera
        ((1, 0, 0, -1), Image.Transpose.FLIP_TOP_BOTTOM),
        ((0, 1, 1, 0), Image.Transpose.TRANSPOSE),
        ((0, -1, -1, 0), Image.Transpose.TRANSVERSE),
    ],
)
def test_a_video_is_turned_and_mirrored(tmp_path: Path, matrix: Any, shown: Image.Transpose | None) -> None:
    file = turned(video(tmp_path / "a.mp4", [picture()] * 3), matrix)
    first = next(film.sharpest_frames(file, film.frame_times(file), 1))
    expected = picture().transpose(shown) if shown is not None else picture()
    assert first.image.size == expected.size
    assert difference(first.image, expected) < 6


def test_damage_in_the_middle_of_a_video_costs_a_few_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for _ in range(40)]
    file = video(tmp_path / "a.mkv", frames)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = bytes(500)
    file.write_bytes(content)
    assert 5 <= len(list(film.sharpest_frames(file, film.frame_times(file), 10))) <= 10
