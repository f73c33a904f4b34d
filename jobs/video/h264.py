"""Write videos frame by frame, join them without re-encoding, check them, and summarise them in pictures.

All videos are H.264, yuv420p and BT.709 in an MP4 file. No more than a few frames are in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image

from jobs.errors import GateRefused

__all__ = ["Picture", "Pictures", "Video", "decoded", "encode", "inspect", "join", "rgb", "writer"]

Picture = NDArray[np.uint8]
"""RGB values (height, width, 3), 0 to 255."""

_CRF = "18"  # no visible loss
_REORDERED = 2  # frames by which decoding runs ahead of display, with x264's preset medium
_FAST_START = {"movflags": "+faststart"}
_GIF_SIDE, _GIF_FRAMES, _GIF_BYTES = 320, 40, 2_000_000
_SHEET_SIDE, _SHEET_COLUMNS, _SHEET_ROWS = 480, 4, 4


class Video(NamedTuple):
    """The properties of a video file, found by decoding it."""

    frames: int
    width: int
    height: int
    duration: float
    """In seconds."""
    codec: str
    pix_fmt: str
    contrast: int
    """The widest range of grey values, 0 to 255, within any of its frames."""


@contextmanager
def writer(file: Path, rate: Fraction, size: tuple[int, int]) -> Iterator[Callable[[Picture], None]]:
    """Open a video for writing, and yield a function that appends a frame.

    The video begins with a key frame, so that it can be joined to others.

    Args:
        file: the MP4 file to write, with any suffix.
        rate: frames per second.
        size: width and height in px, both even.
    """
    with av.open(str(file), "w", format="mp4", options=_FAST_START) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "medium"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # Without these fields, players assume BT.601 for small pictures and BT.709 for large ones.
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        stream.codec_context.color_primaries, stream.codec_context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        written = 0

        def write(picture: Picture) -> None:
            nonlocal written
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = written, 1 / rate
            container.mux(stream.encode(frame))
            written += 1

        yield write
        container.mux(stream.encode(None))


def encode(file: Path, frames: Iterable[Picture], rate: Fraction, size: tuple[int, int]) -> None:
    """Write frames as a video; see `writer`."""
    with writer(file, rate, size) as write:
        for frame in frames:
            write(frame)


def join(parts: Sequence[Path], file: Path, rate: Fraction) -> None:
    """Concatenate videos of the same size that `writer` wrote, without re-encoding.

    Args:
        parts: at least one video.
        file: the MP4 file to write, with any suffix.
        rate: the frames per second of all parts.

    Raises:
        GateRefused: the parts were encoded differently.
    """
    with av.open(str(file), "w", format="mp4", options=_FAST_START) as container:
        stream, head, done = None, None, 0
        for part in parts:
            with av.open(str(part)) as source:
                given = source.streams.video[0]
                if stream is None:
                    stream, head = container.add_stream_from_template(given), given.codec_context.extradata
                    stream.time_base = 1 / rate
                if given.codec_context.extradata != head:
                    raise GateRefused(f"{part} and {parts[0]} were encoded differently. Render again.")
                first = done
                for packet in source.demux(given):
                    if not packet.size:
                        continue
                    assert packet.pts is not None and packet.time_base is not None
                    packet.pts = first + round(packet.pts * packet.time_base * rate)
                    packet.dts, packet.duration, packet.time_base = done - _REORDERED, 1, 1 / rate
                    packet.stream = stream
                    container.mux(packet)
                    done += 1


def decoded(file: Path) -> Iterator[av.VideoFrame]:
    """Yield the frames of a video in order.

    Raises:
        GateRefused: the file cannot be decoded.
    """
    try:
        with av.open(str(file)) as container:
            yield from container.decode(container.streams.video[0])
    except (av.error.InvalidDataError, IndexError) as error:
        raise GateRefused(f"The video {file.name} cannot be decoded: {error}. Render again.") from error


def rgb(frame: av.VideoFrame) -> Picture:
    """Convert a decoded frame to a picture."""
    picture: Picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    return picture


def inspect(file: Path, each: Callable[[int, av.VideoFrame], None] = lambda index, frame: None) -> Video:
    """Decode a whole video file, and return its properties.

    Args:
        file: the video.
        each: is called with the index of each frame and the frame.

    Raises:
        GateRefused: the file cannot be decoded, or has no frames.
    """
    frames, contrast = 0, 0
    for frame in decoded(file):
        each(frames, frame)
        frames += 1
        grey = frame.to_ndarray(format="gray")
        contrast = max(contrast, int(grey.max()) - int(grey.min()))
    if not frames:
        raise GateRefused(f"The video {file.name} has no frames. Render again.")
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        seconds = float((stream.duration or 0) * (stream.time_base or 0))
        context = stream.codec_context
        return Video(frames, stream.width, stream.height, seconds, context.name, str(context.pix_fmt), contrast)


class Pictures:
    """Collects the poster, the contact sheet and the preview of a video from its frames.

    Args:
        total: the number of frames in the video.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._poster: Image.Image | None = None
        self._small: list[Image.Image] = []
        self._sheet: list[Image.Image] = []
        self._series = (
            (set(_even(total, _GIF_FRAMES)), _GIF_SIDE, self._small),
            (set(_even(total, _SHEET_COLUMNS * _SHEET_ROWS)), _SHEET_SIDE, self._sheet),
        )

    def add(self, index: int, frame: av.VideoFrame) -> None:
        """Take what the pictures need from the next frame."""
        if index == self._total // 2:
            self._poster = Image.fromarray(rgb(frame))
        for indices, side, taken in self._series:
            if index in indices:
                small = Image.fromarray(rgb(frame))
                small.thumbnail((side, side), Image.Resampling.LANCZOS)
                taken.append(small)

    def write(self, folder: Path) -> None:
        """Write `poster.jpg` (the middle frame), `contact_sheet.jpg` (frames at even intervals) and `preview.gif`."""
        assert self._poster is not None
        self._poster.save(folder / "poster.jpg", quality=90)
        self._contact_sheet().save(folder / "contact_sheet.jpg", quality=88)
        small = [picture.quantize(128, dither=Image.Dither.NONE) for picture in self._small]
        while True:
            first, *others = small
            first.save(folder / "preview.gif", save_all=True, append_images=others, duration=5000 // len(small), loop=0)
            if len(small) < 4 or (folder / "preview.gif").stat().st_size <= _GIF_BYTES:
                return
            small = small[::2]

    def _contact_sheet(self) -> Image.Image:
        columns = min(_SHEET_COLUMNS, math.isqrt(len(self._sheet) - 1) + 1)
        width, height = self._sheet[0].size
        sheet = Image.new("RGB", (columns * width, -(-len(self._sheet) // columns) * height))
        for number, picture in enumerate(self._sheet):
            sheet.paste(picture, (number % columns * width, number // columns * height))
        return sheet


def _even(total: int, most: int) -> list[int]:
    """Return at most `most` indices from 0 to `total` - 1, evenly spaced."""
    indices: list[int] = np.linspace(0, total - 1, min(total, most)).round().astype(int).tolist()
    return indices
