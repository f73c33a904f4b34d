from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image, ImageFilter

from jobs import media
from jobs.errors import InvalidInput
from jobs.pictures import film
from tests.pictures import copied, difference, picture, turned, video


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


def test_frames_that_a_phone_has_trimmed_do_not_count(tmp_path: Path) -> None:
    """The frames since the last key frame are there, and an edit list cuts them off."""
    whole = video(tmp_path / "whole.mp4", [picture(seed=i) for i in range(30)])
    file = copied(whole, tmp_path / "a.mp4", earlier=1)
    times = film.frame_times(file)
    assert times == pytest.approx([i / 10 for i in range(20)])
    taken = list(film.sharpest_frames(file, times, 10))
    assert len(taken) == 10
    for frame in taken:
        assert difference(frame.image, picture(seed=10 + round(frame.time * 10))) < 8


def test_a_track_that_players_do_not_show_is_not_taken(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        sizes = [(64, 48), (320, 240)]
        streams = [container.add_stream("libx264", rate=10, width=width, height=height) for width, height in sizes]
        streams[1].disposition = Disposition.default
        for stream, size in zip(streams, sizes, strict=True):
            for seed in range(5):
                container.mux(stream.encode(av.VideoFrame.from_image(picture(*size, seed))))
            container.mux(stream.encode())
    with (tmp_path / "a.mov").open("rb") as opened:
        assert film.read_header(opened).width == 320
    [frame] = film.sharpest_frames(tmp_path / "a.mov", film.frame_times(tmp_path / "a.mov"), 1)
    assert frame.image.size == (320, 240)


def test_a_box_that_is_larger_than_any_file_is_no_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x01free" + b"\xff" * 100)
    with pytest.raises(InvalidInput, match=r"a\.mp4 cannot be used: not a video, or damaged: [A-Z][a-z ]+\.$"):
        media.scan(tmp_path / "a.mp4")


def test_damaged_headers_are_refused_in_words_and_end_nothing(tmp_path: Path) -> None:
    """Each byte of a header is set to a value that makes FFmpeg fail in other ways than on data that are no video."""
    whole = video(tmp_path / "whole.mp4", [picture(seed=i) for i in range(3)]).read_bytes()
    start, refused = whole.index(b"stsd"), {}
    for place in range(40):
        (tmp_path / "a.mp4").write_bytes(whole[: start + place] + b"\xff" + whole[start + place + 1 :])
        try:  # every other error would end the run
            assert media.scan(tmp_path / "a.mp4", 1).videos
        except InvalidInput as error:
            refused[place] = str(error).partition(" cannot be used: ")[2]
    name, entries, codec = range(4), range(8, 12), range(16, 20)
    assert {*name, *entries, *codec} <= refused.keys()
    assert not refused.keys() & {4, 5, 6, 7, *range(20, 28)}, "a version, flags and reserved bytes do not matter"
    assert {refused[place] for place in (*name, *codec)} == {"its pictures are in an unknown format."}
    assert all(re.match("not a video, or damaged: [A-Z][a-z ]+", refused[place]) for place in entries)


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_video_that_claims_more_frames_than_it_has_bytes_is_not_opened(tmp_path: Path, fragmented: bool) -> None:
    """FFmpeg takes 40 bytes of memory for each frame that a table names: 3 GB for a file of 7 kB."""
    flags = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    with av.open(str(tmp_path / "a.mp4"), "w", options=flags) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(seed=number))))
        container.mux(stream.encode())
    assert media.scan(tmp_path / "a.mp4", 1).videos
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    million = struct.pack(">I", 1_000_000)
    if fragmented:
        at = content.index(b"trun")
        content[at + 4 : at + 12] = bytes(4) + million  # no flags, so no bytes for each frame
    else:
        at = content.index(b"stsz")
        content[at + 8 : at + 16] = struct.pack(">I", 1) + million
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InvalidInput, match="fewer bytes than frames"):
        media.scan(tmp_path / "a.mp4", 1)


def test_a_header_that_is_compressed_is_not_opened(tmp_path: Path) -> None:
    moov = b"\0\0\0\x14cmov\0\0\0\x0cdcomzlib"
    (tmp_path / "a.mov").write_bytes((len(moov) + 8).to_bytes(4, "big") + b"moov" + moov)
    with pytest.raises(InvalidInput, match="its header is compressed"):
        media.scan(tmp_path / "a.mov", 1)


def test_a_list_of_other_files_is_no_video(tmp_path: Path) -> None:
    """FFmpeg would open those files, whatever the photos' folder has at that path."""
    whole = video(tmp_path / "private.mkv", [picture(seed=i) for i in range(10)])
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    (tmp_path / "photos" / "inner" / "link.bin").symlink_to(whole)
    trap = tmp_path / "photos" / "walk.mp4"
    trap.write_text("ffconcat version 1.0\nfile inner/link.bin\n")
    with pytest.raises(InvalidInput, match=r"walk\.mp4"):
        media.scan(trap)
    with pytest.raises(av.FFmpegError):
        film.frame_times(trap)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mkv", "libx264"),
        ("avi", "mpeg4"),
        ("webm", "libvpx"),
        ("mov", "mpeg4"),
        ("mpg", "mpeg2video"),
        ("mts", "libx264"),
        ("3gp", "libx264"),
        ("wmv", "wmv2"),
    ],
)
def test_videos_in_every_container_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
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


@pytest.mark.parametrize("interlaced", [True, False])
def test_an_interlaced_video_shows_one_moment_in_each_frame(tmp_path: Path, interlaced: bool) -> None:
    """The camera moves 4 px between the two fields of a frame: woven, edges are combs."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 40, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((480, 144), Image.Resampling.BICUBIC))
    tags = {"colorspace": 6, "color_range": 2}
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "6"})
        stream.width, stream.height, stream.pix_fmt = 320, 144, "yuv444p"
        if interlaced:
            stream.options = {"crf": "6", "x264-params": "tff=1"}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(8):
            first = scene[:, 8 * number : 8 * number + 320].copy()
            if interlaced:
                first[1::2] = scene[1::2, 8 * number + 4 : 8 * number + 324]
            frame = av.VideoFrame.from_ndarray(first, format="rgb24").reformat(
                format="yuv444p", dst_colorspace="ITU601", dst_color_range="JPEG"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    turned(tmp_path / "a.mp4", (-1, 0, 0, -1))
    times = film.frame_times(tmp_path / "a.mp4")
    taken = list(film.sharpest_frames(tmp_path / "a.mp4", times, 8))
    assert len(taken) == 8
    for number, read in enumerate(taken):
        fields = [Image.fromarray(scene[:, 8 * number + shift :][:, :320]) for shift in (0, 4)]
        shown = read.image.transpose(Image.Transpose.ROTATE_180)
        # Of an interlaced frame, either field will do.
        assert min(difference(shown, field) for field in fields[: 1 + interlaced]) < 3


@pytest.mark.parametrize(
    ("ratio", "matrix", "size"),
    [
        (Fraction(64, 45), (1, 0, 0, 1), (1024, 576)),  # a PAL DVD of 16:9
        (Fraction(8, 9), (1, 0, 0, 1), (640, 576)),
        (Fraction(4, 3), (0, 1, -1, 0), (576, 960)),  # and held upright
        (Fraction(0, 1), (1, 0, 0, 1), (720, 576)),
    ],
)
def test_pixels_become_square(tmp_path: Path, ratio: Fraction, matrix: Any, size: tuple[int, int]) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        stream.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio = ratio
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(720, 576))))
        container.mux(stream.encode())
    file = turned(tmp_path / "a.mp4", matrix)
    [frame] = film.sharpest_frames(file, film.frame_times(file), 1)
    assert frame.image.size == size
    shown = picture(720, 576).resize(size if matrix[0] else size[::-1])
    assert difference(frame.image, shown if matrix[0] else shown.transpose(Image.Transpose.ROTATE_270)) < 4


def test_windows_are_of_equal_time_whatever_the_frame_rate(tmp_path: Path) -> None:
    """Phones slow down in the dark: half of the frames are in the first second of four."""
    stamps = [*range(0, 100, 5), *range(100, 400, 15)]  # hundredths of a second
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for seed, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_image(picture(seed=seed))
            frame.pts, frame.time_base = stamp, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    times = film.frame_times(tmp_path / "a.mkv")
    assert times == pytest.approx([stamp / 100 for stamp in stamps], abs=0.002)
    taken = list(film.sharpest_frames(tmp_path / "a.mkv", times, 8))
    assert [int(frame.time / (times[-1] * 40 / 39) * 8) for frame in taken] == list(range(8))
    for frame in taken:
        assert difference(frame.image, picture(seed=times.index(frame.time))) < 8
