"""Videos: their headers, the times of their frames, and the sharpest frames as upright 8-bit RGB."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from jobs import memory
from jobs.errors import InvalidInput
from jobs.pictures import boxes, dolby, panorama
from jobs.pictures.colour import to_rgb
from jobs.pictures.photo import DUAL_FISHEYE
from jobs.selection import Header

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image

__all__ = ["Frame", "check_memory", "frame_times", "is_panorama", "read_header", "sharpest_frames"]

MAX_FRAME_PIXELS = 80_000_000
"""Videos with larger frames are refused undecoded: 12K (11520 x 5760) has 66 megapixels."""

_FRAMES_HELD = 18  # by a decoder: the 16 of H.264 and H.265 that others can refer to, one before and one after them
_THREADS = min(16, os.cpu_count() or 1)  # of a decoder, each with a frame of its own
_HEADERS = memory.Room(memory.available() // 2)  # of all videos whose headers are read at the same time

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,nut"  # by content, whatever the name
_SHARPNESS_WIDTH = 640  # px; smaller hides slight motion blur, larger counts sensor noise as sharpness


@dataclass(frozen=True)
class Frame:
    """A frame of a video: upright 8-bit RGB, its `time` in seconds from the start, and its sharpness."""

    image: Image
    time: float
    sharpness: float


def _open(source: str | BinaryIO) -> Any:
    """Open a video. Formats that are lists of other files are refused: those could be any file of this machine."""
    import av

    # FFmpeg may decode a frame to find out its format, which no larger frame is worth.
    return av.open(source, options={"format_whitelist": _FORMATS, "max_pixels": str(MAX_FRAME_PIXELS)})


def read_header(stream: BinaryIO) -> Header:
    """Read a video's header, and decode its first frame.

    Args:
        stream: the open file.

    Raises:
        InvalidInput: the file is not a video, damaged or too large; the message is the reason, without the file's name.
    """
    import av

    if os.fstat(stream.fileno()).st_size == 0:
        raise InvalidInput("empty file")
    try:
        boxes.check_tables(stream)
        if dolby.has_own_colours(stream):
            raise InvalidInput(
                "Dolby Vision's profile 5, which looks green and purple elsewhere; export it as HDR10, HLG or SDR"
            )
        with _open(stream) as container:
            if not container.streams.video:
                raise InvalidInput("it has no picture, only sound")
            frame_size = _pictures(container).codec_context
            if frame_size is None:
                raise InvalidInput("its pictures are in an unknown format")
            if frame_size.width * frame_size.height > MAX_FRAME_PIXELS:
                raise InvalidInput(f"its frames have more than {MAX_FRAME_PIXELS // 10**6} megapixels")
            seconds = container.duration / av.time_base if container.duration else None
            needed = _bytes_held(frame_size, threads=1)
            memory.check(needed)
            with _HEADERS.take(needed):
                for frame in _decode(container, threads=1):
                    if frame.format.is_bayer:
                        raise InvalidInput("raw video, not yet developed; export it as ProRes or H.265")
                    if frame.width * frame.height:
                        if panorama.is_dual_fisheye(_small(frame)):
                            raise InvalidInput(DUAL_FISHEYE)
                        return Header(frame.width, frame.height, seconds=seconds)
    except (OSError, ValueError, av.FFmpegError) as error:
        words = getattr(error, "strerror", None) or error  # without the path and FFmpeg's number
        raise InvalidInput(f"not a video, or damaged: {words}") from error
    raise InvalidInput("it has no frames")


def _small(frame: VideoFrame) -> Image:
    """Return a frame in grey, 128 px wide."""
    from PIL import Image

    height = max(1, 128 * frame.height // frame.width)
    return Image.fromarray(frame.to_ndarray(format="gray", width=128, height=height))


def _pictures(container: Any) -> Any:
    """Return the main video stream: others are previews, depths or enhancements."""
    return container.streams.best("video")


def check_memory(video: Path, pictures: int) -> None:
    """Check that a video can be decoded in the free memory, while other threads hold some of its pictures.

    Raises:
        InvalidInput: it cannot; the text is the reason, without the file's name.
    """
    with _open(str(video)) as container:
        codec = _pictures(container).codec_context
        # A frame's samples become floats on their way to RGB if they are deeper than 8 bits.
        deep = codec.format is None or codec.format.padded_bits_per_pixel > 24
        memory.check(_bytes_held(codec, _THREADS) + codec.width * codec.height * (24 * deep + 3 * pictures))


def _bytes_held(codec: Any, threads: int) -> int:
    """Return the bytes that a decoder with so many threads holds at most."""
    bits = codec.format.padded_bits_per_pixel if codec.format else 48
    return int(codec.width * codec.height * bits / 8 * (_FRAMES_HELD + threads))


def _decode(container: Any, threads: int = _THREADS) -> Iterator[VideoFrame]:
    """Yield the frames of a video in order of presentation, interlaced ones deinterlaced."""
    stream = _pictures(container)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    graph: Any = None
    for frame in _stored(container, stream):
        if graph is None and frame.interlaced_frame:
            graph = _deinterlacer(stream)
        if graph is None:
            yield frame
        else:
            graph.vpush(frame)
            yield from _ready(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph)


def _deinterlacer(stream: Any) -> Any:
    """Return a filter that gives one frame for each frame; those that are not interlaced stay as they are."""
    from av.filter import Graph

    graph = Graph()
    nodes = (
        graph.add_buffer(template=stream),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    return graph


def _ready(graph: Any) -> Iterator[VideoFrame]:
    import av

    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _stored(container: Any, stream: Any) -> Iterator[VideoFrame]:
    """Yield the frames as they are stored; damaged packets and frames that are too large are skipped."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:  # also for frames of more than `max_pixels`
            continue


def is_panorama(video: Path) -> bool:
    """Return whether a video's frames are equirectangular: by its spherical metadata, or by its first frame."""
    with _open(str(video)) as container:
        frame = next(_decode(container), None)
        if frame is None or frame.width != 2 * frame.height:
            return False
        return "SPHERICAL" in frame.side_data or panorama.wraps(to_rgb(frame))


def frame_times(video: Path) -> list[float]:
    """Return the time of each frame of a video, in seconds from the first one. Nothing is decoded.

    Frames that an edit list cuts off, as phones write it when a video is trimmed, do not count.
    """
    with _open(str(video)) as container:
        stream = _pictures(container)
        packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
        stamps = [packet.pts if packet.pts is not None else packet.dts for packet in packets]
        base = stream.time_base
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if base is None or len(known) < len(stamps) or not known or known[0] == known[-1]:
        return [i / 30 for i in range(len(stamps))]  # no usable time stamps: assume an even pace
    return [float((stamp - known[0]) * base) for stamp in known]


def sharpest_frames(video: Path, times: list[float], count: int) -> Iterator[Frame]:
    """Yield the sharpest frame of each of `count` equal windows of time; one frame is held at a time.

    Sharpness is the variance of the Laplacian of the luminance at 640 px width (Pech-Pacheco et al., ICPR 2000).

    Args:
        video: the file.
        times: `frame_times` of it.
        count: number of windows; every frame is taken if there are fewer frames than that.
    """

    count = min(count, len(times))
    span = times[-1] * len(times) / max(1, len(times) - 1) if times else 0.0

    def window(i: int) -> int:
        return i if count == len(times) else min(count - 1, int(times[min(i, len(times) - 1)] / span * count + 1e-9))

    best: VideoFrame | None = None
    best_sharpness, best_index, current = -1.0, 0, 0
    with _open(str(video)) as container:
        wider = _pixel_width(_pictures(container))
        for index, frame in enumerate(_decode(container)):
            if window(index) != current and best is not None:
                yield Frame(_upright(best, wider), times[best_index], best_sharpness)
                best, best_sharpness = None, -1.0
            current = window(index)
            # If every frame is taken, there is nothing to choose.
            sharpness = 0.0 if count == len(times) else _sharpness(frame)
            if sharpness > best_sharpness:
                best, best_sharpness, best_index = frame, sharpness, min(index, len(times) - 1)
        if best is not None:
            yield Frame(_upright(best, wider), times[best_index], best_sharpness)


def _sharpness(frame: VideoFrame) -> float:
    import numpy as np

    width = min(_SHARPNESS_WIDTH, frame.width)
    grey = frame.to_ndarray(format="gray", width=width, height=max(3, frame.height * width // frame.width))
    luminance = grey.astype(np.float32)
    inner = luminance[1:-1, 1:-1]
    laplacian = luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def _pixel_width(stream: Any) -> float:
    """Return the width of a stream's pixels in terms of their height: not 1 for DV, DVDs and old camcorders."""
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio and 0.25 <= ratio <= 4 else 1.0


def _upright(frame: VideoFrame, wider: float) -> Image:
    """Return the RGB picture of a frame with square pixels, turned and mirrored as the video's display matrix says.

    Args:
        frame: as stored.
        wider: the width of its pixels in terms of their height.
    """
    from PIL.Image import Resampling, Transpose

    image = to_rgb(frame)
    if wider != 1:
        image = image.resize((max(1, round(image.width * wider)), image.height), Resampling.LANCZOS)
    matrix = _display_matrix(frame)
    if matrix in _TURNS:
        return image.transpose(Transpose[_TURNS[matrix]])
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


_TURNS = {
    (-1, 0, 0, 1): "FLIP_LEFT_RIGHT",
    (1, 0, 0, -1): "FLIP_TOP_BOTTOM",
    (-1, 0, 0, -1): "ROTATE_180",
    (0, 1, 1, 0): "TRANSPOSE",
    (0, -1, -1, 0): "TRANSVERSE",
    (0, 1, -1, 0): "ROTATE_270",
    (0, -1, 1, 0): "ROTATE_90",
}
"""Pillow's names of what a display matrix (a, b, c, d) does: x' = a x + c y, y' = b x + d y (ISO 14496-12)."""


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Return a frame's display matrix, rounded to whole numbers; None without one."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    return tuple(round(value / 65536) for value in (a, b, c, d))
