"""Photos: their headers, and their pixels as upright 8-bit RGB."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import memory
from jobs.errors import InvalidInput
from jobs.pictures import exif as tags
from jobs.selection import Header

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PIXELS", "Photo", "bytes_to_decode", "grey", "pillow", "read", "read_header"]

MAX_PIXELS = 1_000_000_000
"""Larger pictures are treated as decompression bombs and refused unread."""

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF", "BMP")  # by content; no other decoder is ever used


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Args:
        image: upright, 8-bit RGB.
        model: the camera's model from EXIF, or "".
        focal: the focal length as a multiple of the picture's diagonal, from EXIF; None if unknown.
        verbatim: the file itself is this picture: an upright 8-bit RGB JPEG, which needs no second encoding.
    """

    image: Image
    model: str
    focal: float | None
    verbatim: bool


@functools.cache
def pillow() -> Any:
    """Return `PIL.Image`, with HEIC registered and our limit of size (Pillow refuses at twice its own figure)."""
    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    return Image


def read_header(file: Path) -> Header:
    """Read a photo's header.

    Raises:
        InvalidInput: the file is not a picture, or damaged; the text is the reason alone.
    """
    try:
        with pillow().open(file, formats=_FORMATS) as image:
            return Header(
                image.width,
                image.height,
                single=len(image.getbands()) == 1,
                # The decoded picture, its RGB, that turned upright, and the written one; deep samples become float64.
                bytes_per_pixel=40
                if image.mode == "F" or image.mode.startswith("I")
                else 4 * len(image.getbands()) + 8,
            )
    except PermissionError:
        raise
    except Exception as error:  # Pillow's plugins raise any exception on a broken header
        raise InvalidInput(_reason(file, error)) from error


def _reason(file: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if file.stat().st_size == 0:
        return "empty file"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} megapixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    return f"damaged: {error}"


def read(file: Path) -> Photo:
    """Decode a photo of any accepted kind to upright 8-bit RGB.

    The EXIF orientation is applied. 16-bit and floating-point samples are scaled to 8 bits, not clipped; grey, palette
    and CMYK are converted; transparent pixels become white.

    Raises:
        InvalidInput: the file is not a picture, damaged, cut off, or larger than the memory; the text is the reason.
    """
    from PIL import ExifTags, ImageOps

    needed, free = bytes_to_decode(file), memory.available()
    if needed > free:
        raise InvalidInput(
            f"too large to decode here: about {needed / 1e9:.1f} GB of memory are needed, {free / 1e9:.1f} GB are free"
        )
    try:
        with pillow().open(file, formats=_FORMATS) as image:
            image.load()
            exif = image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            upright = orientation not in range(2, 9)
            rgb = _to_rgb(image)
            if not upright:
                rgb.getexif()[ExifTags.Base.Orientation] = orientation
                ImageOps.exif_transpose(rgb, in_place=True)
            return Photo(
                image=rgb,
                model=str(exif.get(ExifTags.Base.Model, "")).strip("\0 "),
                focal=tags.focal_length(exif.get_ifd(ExifTags.IFD.Exif)),
                verbatim=image.format in ("JPEG", "MPO") and image.mode == "RGB" and upright,
            )
    except MemoryError:
        raise
    except Exception as error:  # decoders raise any exception, too
        raise InvalidInput(_reason(file, error)) from error


def bytes_to_decode(file: Path) -> int:
    """Estimate from a photo's header how much memory `read` and writing the photo take at most.

    Raises:
        InvalidInput: the header cannot be read; the text is the reason alone.
    """
    header = read_header(file)
    return header.width * header.height * header.bytes_per_pixel


def grey(image: Image, longest: int) -> Image:
    """Return a photo as structure from motion reads it: grey, its longer side at most `longest` px."""
    from PIL.Image import Resampling

    scale = min(1.0, longest / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shades = image.convert("L")
    return shades if size == image.size else shades.resize(size, Resampling.LANCZOS, reducing_gap=2.0)


def _to_rgb(image: Image) -> Image:
    """Return the picture as 8-bit RGB of the same size."""
    if image.mode == "F" or image.mode.startswith("I"):  # one channel of more than 8 bits
        import numpy as np

        samples = np.asarray(image, dtype=np.float64)
        peak = float(samples.max(initial=0.0))
        limit = 65535.0 if image.mode.startswith("I;16") else next((m for m in (1, 255, 65535) if peak <= m), peak)
        image = pillow().fromarray(np.clip(samples * (255 / limit) + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        opaque = pillow().new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert("RGB")
