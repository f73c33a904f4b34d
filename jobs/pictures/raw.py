"""Raw photos (DNG): their headers, which need no decoder, and their development to 8-bit RGB by LibRaw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jobs.errors import InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "develop", "exif", "size"]

SUFFIXES = frozenset({".dng"})
_SUB_IFDS, _WIDTH, _HEIGHT = 330, 256, 257  # TIFF's tags


def size(stream: IO[bytes]) -> tuple[int, int]:
    """Return the width and height in px, as stored: those of the largest picture in the file.

    Raises:
        InvalidInput: the file is no DNG; the message is the reason, without the file's name.
    """
    try:
        sizes = [(int(ifd[_WIDTH]), int(ifd[_HEIGHT])) for ifd in _directories(stream) if _HEIGHT in ifd]
    except Exception as error:  # Pillow's parser raises any exception on a broken file
        raise InvalidInput("not a raw photo, or damaged") from error
    if not sizes or min(sizes[0]) < 1:
        raise InvalidInput("not a raw photo, or damaged")
    return max(sizes, key=lambda each: each[0] * each[1])


def _directories(stream: IO[bytes]) -> Iterator[Any]:
    """Yield the first directory of a TIFF file and those inside it."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    header = stream.read(8)
    first = ImageFileDirectory_v2(header)
    offsets = [first.next]
    for number in range(16):
        if number >= len(offsets):
            return
        stream.seek(offsets[number])
        directory = ImageFileDirectory_v2(header)
        directory.load(stream)
        inside = directory.get(_SUB_IFDS, ())
        offsets += [inside] if isinstance(inside, int) else list(inside)
        yield directory


def exif(stream: IO[bytes]) -> Any:
    """Return Pillow's Exif of a raw photo, which reads from the stream."""
    from PIL.Image import Exif

    found = Exif()
    found.load_from_fp(stream)
    return found


def develop(file: Path) -> Image:
    """Return a raw photo as upright 8-bit sRGB, with the camera's white balance and the same brightness for all photos.

    Raises:
        InvalidInput: it cannot be decoded; the message is the reason, without the file's name.
    """
    import numpy as np
    from PIL import Image

    try:
        import rawpy
    except ImportError as error:
        raise InvalidInput("a raw photo, and rawpy is not installed; export it as JPEG") from error
    try:
        with rawpy.imread(str(file)) as photo:
            pixels = photo.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8)
        return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))  # of a grey camera, one channel
    except rawpy.LibRawError as error:
        words = b" ".join(part for part in error.args if isinstance(part, bytes)).decode(errors="replace")
        raise InvalidInput(f"a raw photo that LibRaw cannot decode; export it as JPEG: {words or error}") from error
