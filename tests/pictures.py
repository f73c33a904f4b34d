"""Small pictures and videos to test with."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Return smooth colours, so that lossy formats keep them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def size_of(file: Path) -> tuple[int, int]:
    """Return the width and height of a picture in a file."""
    with Image.open(file) as image:
        return image.size


def photos(folder: Path, number: int, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        picture(seed=i).save(folder / f"img_{i}{suffix}")
    return folder


def difference(image: Image.Image, other: Image.Image | NDArray[np.floating[Any]]) -> float:
    return float(np.abs(np.asarray(image, dtype=float) - np.asarray(other, dtype=float)).mean())


def video(file: Path, frames: list[Image.Image], fps: int = 10, codec: str = "libx264") -> Path:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return file


def turned(file: Path, matrix: tuple[int, int, int, int] = (0, 1, -1, 0)) -> Path:
    """Write a display matrix (a, b, c, d) into an MP4's track header, as phones do (ISO 14496-12).

    By default, the video is shown turned by 90 degrees clockwise.
    """
    content = bytearray(file.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    fixed = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    matrix_at = content.index(b"tkhd") + 4 + 40
    content[matrix_at : matrix_at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    file.write_bytes(content)
    return file


def copied(file: Path, target: Path, earlier: float = 0.0) -> Path:
    """Copy a video's frames, as they are stored, into another container.

    Args:
        file, target: the videos.
        earlier: seconds from the beginning that an edit list cuts off (MP4 and MOV).
    """
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(file)) as source, av.open(str(target), "w", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is not None and packet.dts is not None:
                shift = round(earlier / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    return target


def dolby_vision(file: Path, profile: int, compatible_with: int) -> Path:
    """Write Dolby Vision's configuration record into an MP4 or MOV of HEVC, as phones do (dvcC or dvvC)."""
    content = bytearray(file.read_bytes())
    level = 4
    record = bytes([1, 0, profile << 1, level << 3 | 0b101, compatible_with << 4, *[0] * 19])
    box = (8 + len(record)).to_bytes(4, "big") + (b"dvcC" if profile < 8 else b"dvvC") + record
    entry = next(kind for kind in (b"hev1", b"hvc1") if kind in content)
    after = content.index(b"hvcC") - 4
    after += int.from_bytes(content[after : after + 4], "big")
    assert content.index(b"moov") > content.index(b"mdat"), "offsets of frames stay right"
    content[after:after] = box
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", entry):
        at = content.index(kind) - 4
        content[at : at + 4] = (int.from_bytes(content[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    file.write_bytes(content)
    return file


def apple_note(x: float, y: float, z: float, denominator: int = 1000) -> bytes:
    """Return a maker note as an iPhone writes it, with gravity in the frame of the phone."""
    entries = struct.pack(">HHHII", 2, 1, 9, 1, 14) + struct.pack(">HHII", 8, 10, 3, 44)
    parts = [part for value in (x, y, z) for part in (round(value * 1000), denominator)]
    return b"Apple iOS\0\0\x01MM" + entries + b"\0\0\0\0" + struct.pack(">6i", *parts)


def raw_photo(file: Path, image: Image.Image, *, grey: bool = False) -> Path:
    """Write a DNG, as a camera with a Bayer pattern (RGGB), or none, and a linear sensor would."""
    import tifffile

    linear = (np.asarray(image, float) / 255) ** 2.2 * 65535
    mosaic = linear[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = linear[::2, ::2, 0], linear[1::2, 1::2, 2]
    xyz_to_srgb = [3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0573]
    matrix = tuple(number for value in xyz_to_srgb for number in (round(value * 10_000), 10_000))
    tags = [
        (50706, "B", 4, b"\x01\x04\x00\x00", True),  # DNGVersion
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, b"\x00\x01\x01\x02", True),  # CFAPattern
        (50721, "2i", 9, matrix, True),  # ColorMatrix1
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
        (50728, "2I", 3, (1, 1) * 3, True),  # AsShotNeutral
        (50714, "H", 1, 0, True),  # BlackLevel
        (50717, "I", 1, 65535, True),  # WhiteLevel
        (50708, "s", 0, "Test Camera", True),  # UniqueCameraModel
        (271, "s", 0, "Test", True),
        (272, "s", 0, "Camera", True),
    ]
    if grey:
        mosaic, tags = linear[..., 1], [tag for tag in tags if tag[0] not in (33421, 33422, 50721, 50778, 50728)]
    tifffile.imwrite(file, np.rint(mosaic).astype(np.uint16), photometric="CFA", extratags=tags, metadata=None)
    if grey:  # tifffile writes linear photos of three colours only
        cfa, linear_raw = (struct.pack("<HHIH", 262, 3, 1, kind) for kind in (32803, 34892))
        file.write_bytes(file.read_bytes().replace(cfa, linear_raw))
    return file
