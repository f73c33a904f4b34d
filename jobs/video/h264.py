"""Video files: written frame by frame, joined without encoding again, checked, and shown in a few small pictures.

All are H.264, yuv420p, BT.709 in an MP4. Nothing here keeps more than a few frames.
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
"""(height, width, 3), RGB."""

_CRF = "18"  # no loss to be seen
_REORDERED = 2  # frames that x264's preset medium decodes ahead of those that are shown before them
_FAST_START = {"movflags": "+faststart"}
_GIF_SIDE, _GIF_FRAMES, _GIF_BYTES = 320, 40, 2_000_000
_SHEET_SIDE, _SHEET_COLUMNS, _SHEET_ROWS = 480, 4, 4


class Video(NamedTuple):
    """What a video file holds, found by decoding it."""

    frames: int
    width: int
    height: int
    duration: float
    """s."""
    codec: str
    pix_fmt: str
    contrast: int
    """The widest range of grey values, 0 to 255, within any of its frames."""


@contextmanager
def writer(file: Path, rate: Fraction, size: tuple[int, int]) -> Iterator[Callable[[Picture], None]]:
    """Inside, each call writes one more frame; the video then begins with a key frame and needs nothing before it.

    Args:
        file: to write, whatever its suffix.
        rate: frames a second.
        size: width and height, px, both even.
    """
    with av.open(str(file), "w", format="mp4", options=_FAST_START) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "medium"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # Said in the file: without, players take BT.601 for small pictures and BT.709 for large ones.
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
    """Put videos that `writer` wrote, all of one size, one after the other; no frame is encoded again.

    Args:
        parts: at least one.
        file: to write, whatever its suffix.
        rate: frames a second, of all.

    Raises:
        GateRefused: the parts were not encoded alike.
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
                    raise GateRefused(f"{part} was encoded otherwise than {parts[0]}. Render again.")
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
    """The frames of a video, one after the other.

    Raises:
        GateRefused: it is not a video.
    """
    try:
        with av.open(str(file)) as container:
            yield from container.decode(container.streams.video[0])
    except (av.error.InvalidDataError, IndexError) as error:
        raise GateRefused(f"The video {file.name} cannot be decoded: {error}. Render again.") from error


def rgb(frame: av.VideoFrame) -> Picture:
    """A decoded frame as a picture."""
    picture: Picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    return picture


def inspect(file: Path, look: Callable[[int, av.VideoFrame], None] = lambda index, frame: None) -> Video:
    """Decode a video file from its beginning to its end; `look` is shown each frame.

    Raises:
        GateRefused: it is not a video.
    """
    frames, contrast = 0, 0
    for frame in decoded(file):
        look(frames, frame)
        frames += 1
        grey = frame.to_ndarray(format="gray")
        contrast = max(contrast, int(grey.max()) - int(grey.min()))
    if not frames:
        raise GateRefused(f"The video {file.name} holds no frame. Render again.")
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        seconds = float((stream.duration or 0) * (stream.time_base or 0))
        context = stream.codec_context
        return Video(frames, stream.width, stream.height, seconds, context.name, str(context.pix_fmt), contrast)


class Pictures:
    """A video in a few pictures, taken while its frames pass by.

    Args:
        total: how many frames will pass.
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

    def look(self, index: int, frame: av.VideoFrame) -> None:
        """See the frame of that index."""
        if index == self._total // 2:
            self._poster = Image.fromarray(rgb(frame))
        for indices, side, taken in self._series:
            if index in indices:
                small = Image.fromarray(rgb(frame))
                small.thumbnail((side, side), Image.Resampling.LANCZOS)
                taken.append(small)

    def write(self, folder: Path) -> None:
        """Write `poster.jpg`, the middle frame; `contact_sheet.jpg`, evenly spaced ones; and `preview.gif`."""
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
    """Up to `most` indices evenly from 0 to `total` - 1."""
    indices: list[int] = np.linspace(0, total - 1, min(total, most)).round().astype(int).tolist()
    return indices
