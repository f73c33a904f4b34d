"""Video files: exact in length and colour, joined without a seam, and shown in small pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jobs.camera_path import CameraPath
from jobs.errors import GateRefused
from jobs.video import h264 as video
from jobs.video.h264 import Picture, Pictures, encode, inspect, join


def decode(file: Path) -> list[Picture]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def waves(frames: int, shape: tuple[int, int] = (18, 32)) -> Iterator[Picture]:
    """Yield frames with something that moves."""
    across = np.arange(shape[1])
    for index in range(frames):
        line = 127 + 120 * np.sin(across / 4 + index / 3)
        yield np.broadcast_to(line[None, :, None], (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("frames", "seconds"), [(24, 1.0), (47, 1.96), (7, 1 / 3), (300, 10.01), (2, 60.0), (90, math.pi)]
)
def test_the_length_is_exact(tmp_path: Path, frames: int, seconds: float) -> None:
    pose = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 50}
    path = CameraPath(render_width=32, render_height=18, seconds=seconds, camera_path=[pose] * frames)
    encode(tmp_path / "v.mp4", waves(frames), path.frame_rate, (32, 18))
    found = inspect(tmp_path / "v.mp4")
    assert found.frames == frames
    assert found.duration == pytest.approx(seconds, abs=1e-4)


def test_a_video_keeps_its_colours(tmp_path: Path) -> None:
    """Players are told which matrix was used: without, reds and greens shift."""
    colours = [(200, 40, 90), (30, 160, 60), (20, 60, 190), (250, 250, 250), (5, 5, 5)]
    pictures = [np.full((32, 64, 3), colour, np.uint8) for colour in colours for _ in range(2)]
    encode(tmp_path / "v.mp4", pictures, Fraction(5), (64, 32))
    for wanted, found in zip(pictures, decode(tmp_path / "v.mp4"), strict=True):
        assert np.abs(found.astype(int) - wanted).max() <= 4


def test_files_that_are_no_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(GateRefused, match="decoded"):
        inspect(tmp_path / "v.mp4")


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(4700, 196), Fraction(2997, 100), Fraction(1, 30)])
@pytest.mark.parametrize("lengths", [[17, 13, 1, 29], [60], [1, 1]])
def test_joined_videos_are_one_without_a_seam(tmp_path: Path, rate: Fraction, lengths: list[int]) -> None:
    """Every frame is that of its part to the bit, at the time that is its own."""
    frames = list(waves(sum(lengths)))
    parts = [tmp_path / f"{number}.mp4" for number in range(len(lengths))]
    for part, (start, end) in zip(parts, pairwise(accumulate(lengths, initial=0)), strict=True):
        encode(part, frames[start:end], rate, (32, 18))
    join(parts, tmp_path / "joined.mp4", rate)
    found = inspect(tmp_path / "joined.mp4")
    assert found.frames == len(frames)
    assert found.duration == pytest.approx(float(len(frames) / rate), abs=1e-4)
    expected = [picture for part in parts for picture in decode(part)]
    np.testing.assert_array_equal(decode(tmp_path / "joined.mp4"), expected)
    with av.open(str(tmp_path / "joined.mp4")) as container:
        times = [frame.time * rate for frame in container.decode(video=0) if frame.time is not None]
        assert [float(time) for time in times] == pytest.approx(list(range(len(frames))), abs=1e-3)
        assert container.streams.video[0].codec_context.colorspace == 1, "BT.709 is not said any more"


def test_videos_that_were_encoded_otherwise_are_not_joined(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", waves(3), Fraction(8), (32, 18))
    encode(tmp_path / "b.mp4", waves(3, (26, 48)), Fraction(8), (48, 26))
    with pytest.raises(GateRefused, match="b.mp4"):
        join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "c.mp4", Fraction(8))


def pictures_of(file: Path, total: int) -> Pictures:
    pictures = Pictures(total)
    assert inspect(file, pictures.add).frames == total
    return pictures


def test_a_preview_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of noise, which no GIF packs."""
    monkeypatch.setattr(video, "_GIF_BYTES", 60_000)
    noise = np.random.default_rng(0)
    frames = (noise.integers(0, 255, (36, 64, 3), np.uint8) for _ in range(60))
    encode(tmp_path / "v.mp4", frames, Fraction(24), (64, 36))
    pictures_of(tmp_path / "v.mp4", 60).write(tmp_path)
    assert (tmp_path / "preview.gif").stat().st_size < 60_000
    with Image.open(tmp_path / "preview.gif") as preview:
        assert preview.n_frames > 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(("total", "columns", "rows"), [(60, 4, 4), (16, 4, 4), (5, 3, 2), (2, 2, 1), (1, 1, 1)])
def test_a_contact_sheet_shows_frames_in_their_order(tmp_path: Path, total: int, columns: int, rows: int) -> None:
    greys = np.linspace(40, 220, total)
    encode(tmp_path / "v.mp4", (np.full((36, 64, 3), grey, np.uint8) for grey in greys), Fraction(24), (64, 36))
    pictures_of(tmp_path / "v.mp4", total).write(tmp_path)
    with Image.open(tmp_path / "contact_sheet.jpg") as sheet:
        assert sheet.size == (64 * columns, 36 * rows)
        middles = np.asarray(sheet.convert("L"), dtype=int)[18::36, 32::64].flatten()[: min(total, 16)]
    assert (np.diff(middles) > 0).all()
    assert abs(middles[0] - greys[0]) < 4 and abs(middles[-1] - greys[-1]) < 4
