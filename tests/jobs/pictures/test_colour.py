"""Videos of known colours, as cameras and phones write them: what comes out is compared with what went in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from jobs import media
from jobs.errors import InvalidInput
from jobs.pictures import film
from tests.colours import COLOURS, WHITE, hlg, light, pq
from tests.pictures import copied, dolby_vision, turned

BT709, BT601, BT2020 = (0.2126, 0.0722), (0.299, 0.114), (0.2627, 0.0593)
"""Shares of red and blue in the luminance."""
_TAGS = ("color_primaries", "color_trc", "colorspace")
SDR, HD, FULL = {"colorspace": 1, "color_primaries": 1, "color_trc": 1}, (1280, 720), {"color_range": 2}


def film_of(
    file: Path,
    signal: NDArray[np.float64],
    shares: tuple[float, float],
    tags: dict[str, int],
    depth: int = 8,
    size: Any = None,
    x264: str = "",
    prores: bool = False,
) -> Path:
    """Write stripes of colours, given as R'G'B' signals 0 to 1, (n, 3)."""
    width, height = size or (320, 192)
    full = tags.get("color_range") == 2
    red, blue = shares
    y = signal @ [red, 1 - red - blue, blue]
    cb, cr = (signal[:, 2] - y) / (2 * (1 - blue)), (signal[:, 0] - y) / (2 * (1 - red))
    step = 2 ** (depth - 8)
    if full:
        y, cb, cr = y * (2**depth - 1), cb * (2**depth - 1) + 128 * step, cr * (2**depth - 1) + 128 * step
    else:
        y, cb, cr = (16 + 219 * y) * step, (128 + 224 * cb) * step, (128 + 224 * cr) * step
    pixels = "yuv420p" if depth == 8 else "yuv422p10le" if prores else "yuv420p10le"
    options = {"crf": "4", "x264-params": x264} if depth == 8 else {"crf": "4", "x265-params": "log-level=none"}
    with av.open(str(file), "w") as container:
        codec = "libx264" if depth == 8 else "prores_ks" if prores else "libx265"
        stream = container.add_stream(codec, rate=10, options={} if prores else options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(3):
            frame = av.VideoFrame(width, height, pixels)
            for plane, values in zip(frame.planes, (y, cb, cr), strict=True):
                kind = np.uint8 if depth == 8 else np.uint16
                stripes = np.repeat(np.rint(values), plane.width // len(values))
                rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
                rows[:, : plane.width] = stripes
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 10)
            if prores:  # each of its frames has the tags
                frame.color_primaries, frame.color_trc, frame.colorspace = (tags[name] for name in _TAGS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def shown(file: Path, *, upright: bool = False) -> NDArray[np.int_]:
    """Return the colours of the stripes, (n, 3), 0 to 255, from the left, or from the top of a video held upright."""
    frame = next(film.sharpest_frames(file, film.frame_times(file), 1))
    picture = np.asarray(frame.image).astype(int)
    if upright:
        picture = picture.transpose(1, 0, 2)
    width = picture.shape[1] / len(COLOURS)
    colours: NDArray[np.int_] = picture[picture.shape[0] // 2, ((np.arange(len(COLOURS)) + 0.5) * width).astype(int)]
    return colours


@pytest.mark.parametrize(
    ("shares", "tags", "size"),
    [
        (BT709, {**SDR, "color_range": 1}, None),
        (BT709, {**SDR, **FULL}, None),
        (BT601, {"colorspace": 6, "color_range": 1}, None),
        (BT601, {"colorspace": 5, **FULL}, None),
        (BT709, {}, HD),
        (BT709, {}, (768, 1280)),
        (BT709, FULL, HD),
        (BT601, {}, (640, 480)),
    ],
    ids=["BT.709", "full range", "BT.601", "full BT.601", "HD", "upright HD", "full HD", "SD"],
)
def test_sdr_is_within_three_levels(tmp_path: Path, shares: Any, tags: dict[str, int], size: Any) -> None:
    file = film_of(tmp_path / "a.mp4", COLOURS / 255, shares, tags, size=size)
    assert np.abs(shown(file) - COLOURS).max() <= 3


@pytest.mark.parametrize("first", ["tff=1", "bff=1"])
def test_colours_of_interlaced_video_survive(tmp_path: Path, first: str) -> None:
    file = film_of(tmp_path / "a.mp4", COLOURS / 255, BT709, {**SDR, "color_range": 1}, x264=first)
    with av.open(str(file)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert np.abs(shown(file) - COLOURS).max() <= 3


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (0, 1, -1, 0), (0, -1, -1, 0)], ids=["mirrored", "turned", "both"])
def test_colours_of_turned_video_survive(tmp_path: Path, matrix: Any) -> None:
    file = turned(film_of(tmp_path / "a.mp4", COLOURS / 255, BT709, {**SDR, "color_range": 1}), matrix)
    found, goes_back = shown(file, upright=matrix[0] == 0), matrix in [(-1, 0, 0, 1), (0, -1, -1, 0)]
    assert np.abs(found - (COLOURS[::-1] if goes_back else COLOURS)).max() <= 3


def hdr(file: Path, transfer: str, *, full: bool = False, prores: bool = False) -> Path:
    """Write the colours in HDR."""
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 18 if transfer == "HLG" else 16}
    tags["color_range"] = 2 if full else 1
    signal = (hlg if transfer == "HLG" else pq)(WHITE * light(COLOURS))
    return film_of(file, signal, BT2020, tags, depth=10, prores=prores)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
def test_hdr_has_white_where_white_was(tmp_path: Path, transfer: str, full: bool) -> None:
    assert np.abs(shown(hdr(tmp_path / "a.mov", transfer, full=full)) - COLOURS).max() <= 4


def test_prores_of_a_phone_is_read(tmp_path: Path) -> None:
    assert np.abs(shown(hdr(tmp_path / "a.mov", "HLG", prores=True)) - COLOURS).max() <= 4


@pytest.mark.parametrize(("transfer", "compatible_with"), [("HLG", 4), ("PQ", 1)], ids=["8.4", "8.1"])
def test_the_base_layer_of_dolby_vision_is_shown(tmp_path: Path, transfer: str, compatible_with: int) -> None:
    file = dolby_vision(hdr(tmp_path / "a.mov", transfer), 8, compatible_with)
    assert list(media.scan(file).videos) == ["a.mov"]
    assert np.abs(shown(file) - COLOURS).max() <= 4


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_dolby_vision_without_a_base_layer_is_refused(tmp_path: Path, suffix: str) -> None:
    """Its frames are in IPT, without tags: taken for YCbCr, they are green and purple."""
    file = dolby_vision(film_of(tmp_path / "a.mp4", COLOURS / 255, BT709, {}, 10), 5, 0)
    if suffix == "mkv":
        file = copied(file, tmp_path / "a.mkv")
    with pytest.raises(InvalidInput, match=rf"a\.{suffix} .*Dolby Vision.*profile 5.*export"):
        media.scan(file)


def test_highlights_keep_their_order_and_their_hue(tmp_path: Path) -> None:
    grey = np.full((1, 3), 255.0)
    times = [0.5, 0.8, 1, 1.5, 2, 3, 4, 4.9]
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    found = shown(
        film_of(tmp_path / "a.mp4", pq(WHITE * np.vstack([t * light(grey) for t in times])), BT2020, tags, 10)
    )
    assert (np.diff(found[:, 0]) >= 0).all() and found[2, 0] > 245 and found[-1, 0] >= 254
    assert (np.ptp(found, axis=1) <= 2).all()
    orange = np.vstack([4 * light(np.array([[255.0, 120.0, 20.0]]))] * 8)
    red, green, blue = shown(film_of(tmp_path / "b.mp4", pq(WHITE * orange), BT2020, tags, 10))[0]
    assert red > 250 and red - 60 > green > blue + 40


def test_a_wide_gamut_without_hdr_is_converted(tmp_path: Path) -> None:
    signal = light(COLOURS)
    signal = np.where(signal <= 0.0031308, 12.92 * signal, 1.055 * signal ** (1 / 2.4) - 0.055)
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 14, "color_range": 1}
    assert np.abs(shown(film_of(tmp_path / "a.mp4", signal, BT2020, tags, 10)) - COLOURS).max() <= 4


def test_raw_video_is_refused(tmp_path: Path) -> None:
    """Its frames are a mosaic of linear light (ProRes RAW): taken for pictures, they are dark and green."""
    with av.open(str(tmp_path / "a.mov"), "w", format="nut") as container:
        stream = container.add_stream("rawvideo", rate=10, width=64, height=48, pix_fmt="bayer_rggb8")
        container.mux(stream.encode(av.VideoFrame(64, 48, "bayer_rggb8")))
        container.mux(stream.encode())
    with pytest.raises(InvalidInput, match=r"a\.mov .*raw video"):
        media.scan(tmp_path / "a.mov")
