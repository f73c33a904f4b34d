"""Photos: their headers, and their pixels as upright 8-bit RGB."""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from jobs import memory
from jobs.errors import InvalidInput
from jobs.pictures import colour, jpeg, panorama, raw
from jobs.pictures.exif import LONGEST, Tags, camera, focal_length, is_panorama, is_stitched, read_tags, taken
from jobs.selection import Header

if TYPE_CHECKING:
    from PIL.Image import Image

    from jobs.geometry import Floats

__all__ = [
    "DUAL_FISHEYE",
    "MAX_PIXELS",
    "Photo",
    "bytes_to_decode",
    "grey",
    "light_and_sharpness",
    "look",
    "pillow",
    "read",
    "read_header",
    "read_mask",
    "xmp",
]

DUAL_FISHEYE = "dual fisheye: export it as equirectangular with the camera's own program"
"""Why a picture with two fisheyes side by side is not used."""

MAX_PIXELS = 1_000_000_000
"""Larger pictures are treated as decompression bombs and refused unread."""

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF", "BMP")  # by content; no other decoder is ever used
_JPEG = ("JPEG", "MPO")
_FLAT = 2.0  # grey levels, by which a photo varies that shows too little to be compared with others
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Args:
        image: upright, 8-bit RGB.
        model: the camera's model from EXIF, or "".
        focal: the focal length as a multiple of the picture's diagonal, from EXIF; None if unknown.
        verbatim: the file itself is this picture: an upright 8-bit RGB JPEG, which needs no second encoding.
        mask: grey, of the same size, black where the picture is not to be used; None to use all of it.
        orientation: EXIF's, as the file was before it was turned upright.
        tags: where it was taken from, and how the camera was held.
        panorama: it is equirectangular, and shows 360° by 180°.
    """

    image: Image
    model: str = ""
    focal: float | None = None
    verbatim: bool = False
    mask: Image | None = None
    orientation: int = 1
    tags: Tags = field(default_factory=Tags)
    panorama: bool = False


@functools.cache
def pillow() -> Any:
    """Return `PIL.Image`, with HEIC registered and our limit of size (Pillow refuses at twice its own figure)."""
    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener()
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # they name broken tags, but not their file
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    return Image


def read_header(stream: BinaryIO, suffix: str) -> Header:
    """Read a photo's header.

    Args:
        stream: the open file.
        suffix: the ending of its name, in lower case, which tells raw photos from others.

    Raises:
        InvalidInput: the file is not a picture, or damaged; the message is the reason, without the file's name.
    """
    try:
        if suffix in raw.SUFFIXES and os.fstat(stream.fileno()).st_size:
            width, height = raw.size(stream)
            if width * height > MAX_PIXELS:
                raise InvalidInput(f"more than {MAX_PIXELS // 10**6} megapixels")
            return Header(width, height, bytes_per_pixel=24)
        with pillow().open(stream, formats=_FORMATS) as image:
            if max(image.size) > LONGEST * min(image.size):
                raise InvalidInput(
                    f"more than {LONGEST} times as long as wide: a stitched panorama or a long screenshot"
                )
            if is_stitched(image, xmp(image)):
                raise InvalidInput("a panorama that the camera stitched, which no lens can have seen")
            # The decoded picture, its RGB, that turned upright, and the written one; deep samples become floats.
            deep = image.mode == "F" or image.mode.startswith("I") or _hdr(image) is not None
            needed = 40 if deep else 4 * len(image.getbands()) + 8
            single = len(image.getbands()) == 1
            return Header(image.width, image.height, single, deep, bytes_per_pixel=needed, taken=taken(image))
    except InvalidInput:
        raise
    except Exception as error:  # Pillow's plugins raise any exception on a broken header
        raise InvalidInput(_reason(os.fstat(stream.fileno()).st_size, error)) from error


def _developed(file: Path) -> Photo:
    from PIL import ExifTags

    image = raw.develop(file)
    try:
        with file.open("rb") as stream:
            exif = raw.exif(stream)
            model, focal = camera(exif), focal_length(exif.get_ifd(ExifTags.IFD.Exif), image.size)
            tags = read_tags(exif, _packet(exif.get(ExifTags.Base.XMLPacket)), image.size)
    except Exception:  # the picture is whole; Pillow's parser raises any exception on broken tags
        return Photo(image)
    return Photo(image, model=model, focal=focal, tags=tags)


def _reason(size: int, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if size == 0:
        return "empty file"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} megapixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    return f"damaged: {error}"


def read(file: Path) -> Photo:
    """Decode a photo of any accepted kind to upright 8-bit sRGB.

    The EXIF orientation and the colour profile are applied, and HDR is tone-mapped. 16-bit and floating-point samples
    are scaled to 8 bits, not clipped; grey, palette and CMYK are converted; transparent pixels become white, and are
    masked.

    Raises:
        InvalidInput: the file is not a picture, damaged, cut off, or larger than the memory; the text is the reason.
    """
    from PIL import ExifTags

    memory.check(bytes_to_decode(file))
    try:
        if file.suffix.lower() in raw.SUFFIXES:
            return _developed(file)
        with pillow().open(file, formats=_FORMATS) as image:
            if image.format in _JPEG:
                _check_scans(file)
            image.load()
            exif = image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            upright = orientation not in range(2, 9)
            rgb, converted = _to_srgb(image, file)
            if panorama.is_dual_fisheye(rgb):
                raise InvalidInput(DUAL_FISHEYE)
            mask = _opacity(image)
            if not upright:
                rgb, mask = _turned(rgb, orientation), mask and _turned(mask, orientation)
            return Photo(
                image=rgb,
                model=camera(exif),
                focal=focal_length(exif.get_ifd(ExifTags.IFD.Exif), rgb.size),
                verbatim=image.format in _JPEG and image.mode == "RGB" and upright and not converted,
                mask=mask,
                orientation=1 if upright else orientation,
                tags=read_tags(exif, xmp(image), rgb.size),
                panorama=(rgb.width == 2 * rgb.height and is_panorama(xmp(image))) or panorama.wraps(rgb),
            )
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:  # decoders raise any exception, too
        raise InvalidInput(_reason(file.stat().st_size, error)) from error


def _check_scans(file: Path) -> None:
    with file.open("rb") as stream:
        if jpeg.has_endless_scans(stream):
            raise InvalidInput("a JPEG of hundreds of scans or thousands of segments, which can take hours to decode")


def read_mask(file: Path, decoded: Photo) -> Image:
    """Read the mask of a photo: grey, of the photo's size, 0 where the photo is not to be used and 255 elsewhere.

    A mask that is drawn for the photo as stored is turned upright with it. A mask of another size is resized.

    Raises:
        InvalidInput: the mask cannot be read or has another shape than the photo; the text is the reason.
    """
    try:
        stored = read(file)
    except InvalidInput as error:
        raise InvalidInput(f"its mask {file.name} cannot be read: {error}") from error
    mask, size = stored.image.convert("L"), decoded.image.size
    if not Header(*mask.size).like(Header(*size)):
        raise InvalidInput(
            f"its mask {file.name} has another shape: {mask.width} x {mask.height}, the photo {size[0]} x {size[1]}"
        )
    if (mask.width > mask.height) != (size[0] > size[1]):
        mask = _turned(mask, decoded.orientation)
    if mask.size != size:
        mask = mask.resize(size, _resampling().NEAREST)
    return _black_or_white(mask)


def _black_or_white(mask: Image) -> Image:
    """Return a grey picture with 255 where it is brighter than half of its brightest pixel, and 0 elsewhere."""
    brightest = max(value for value, number in enumerate(mask.histogram()) if number)
    limit = max(1, (brightest + 1) // 2)  # some programs write 0 and 1
    return mask.point([0] * limit + [255] * (256 - limit))


def bytes_to_decode(file: Path) -> int:
    """Estimate from a photo's header how much memory `read` and writing the photo take at most.

    Raises:
        InvalidInput: the header cannot be read; the message is the reason, without the file's name.
    """
    with file.open("rb") as stream:
        header = read_header(stream, file.suffix.lower())
    return header.width * header.height * header.bytes_per_pixel


def grey(image: Image, longest: int) -> Image:
    """Return a photo as structure from motion reads it: grey, its longer side at most `longest` px."""
    from PIL.Image import Resampling

    scale = min(1.0, longest / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shades = image.convert("L")
    return shades if size == image.size else shades.resize(size, Resampling.LANCZOS, reducing_gap=2.0)


def look(file: Path, side: int) -> Floats | None:
    """Return a photo as a small grey picture of mean 0 and norm 1, to be compared with others by their products.

    The photo is decoded at a lower resolution, if its format allows that.

    Args:
        file: the photo.
        side: the longer side of the small picture, px. The shorter is three quarters of it.

    Returns:
        The pixels (rows, columns), upright; None if the photo is raw, cannot be read, or is of one colour.
    """
    import numpy as np
    from PIL import ExifTags

    try:
        memory.check(bytes_to_decode(file))
        if file.suffix.lower() in raw.SUFFIXES:
            return None
        with pillow().open(file, formats=_FORMATS) as image:
            if image.format in _JPEG:
                _check_scans(file)
            image.draft("RGB", (4 * side, 4 * side))
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            rgb, _ = _to_srgb(image, file)
        upright = _turned(rgb, orientation) if orientation in range(2, 9) else rgb
        size = (side, 3 * side // 4) if upright.width >= upright.height else (3 * side // 4, side)
        shades = np.asarray(upright.resize(size, _resampling().BILINEAR).convert("L"), float)
    except Exception:  # as in `read`, which gives the reason
        return None
    apart = shades - shades.mean()
    return apart / np.linalg.norm(apart) if apart.std() > _FLAT else None


def light_and_sharpness(shades: Image, mask: Image | None) -> tuple[float, float]:
    """Return the mean of a grey picture, 0 to 255, and how much its pixels differ from their neighbours.

    The second figure is in terms of the contrast of the whole picture, along the axis with less of it, as motion blurs
    one direction. A blurred picture and a wall without texture have little of it. Masked pixels do not count.
    """
    import numpy as np

    values = np.asarray(shades, np.float32)
    used = np.ones(values.shape, bool)
    if mask is not None:
        used = np.asarray(mask.resize(shades.size, _resampling().NEAREST)) > 0
    if min(values.shape) < 3 or not used[1:-1, 1:-1].any():
        return 128.0, 1.0
    inner = used[1:-1, 1:-1]
    across = (values[1:-1, 1:-1] - values[1:-1, :-2])[inner].std()
    down = (values[1:-1, 1:-1] - values[:-2, 1:-1])[inner].std()
    return float(values[used].mean()), float(min(across, down) / max(values[used].std(), 1.0))


def xmp(image: Image) -> bytes:
    """Return the XMP packet of an opened picture; b"" if there is none."""
    return _packet(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))


def _packet(content: Any) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content or b"")


def _resampling() -> Any:
    return pillow().Resampling


def _turned(image: Image, orientation: int) -> Image:
    """Return a picture turned upright, as EXIF's orientation says."""
    from PIL import ExifTags, ImageOps

    image.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _opacity(image: Image) -> Image | None:
    """Return a mask of a picture's transparent pixels; None if there are none."""
    if image.mode not in _TRANSPARENT and "transparency" not in image.info:
        return None
    mask = _black_or_white(image.convert("RGBA").getchannel("A"))
    return mask if mask.histogram()[0] else None


def _to_srgb(image: Image, file: Path) -> tuple[Image, bool]:
    """Return an opened picture as 8-bit sRGB of the same size, and whether its colours were others."""
    if tags := _hdr(image):
        import numpy as np
        from pillow_heif import open_heif

        deep = np.asarray(open_heif(file, convert_hdr_to_8bit=False))
        return colour.tone_mapped(deep[..., :3], *tags), True
    rgb = _to_rgb(image)
    return rgb, "RGB" in image.mode and colour.apply_profile(rgb, image.info.get("icc_profile") or b"")


def _hdr(image: Image) -> tuple[int, int] | None:
    """Return the code points of an HDR photo's transfer function and primaries; None for any other picture."""
    tags = image.info.get("nclx_profile") or {}
    transfer = int(tags.get("transfer_characteristics", 0))
    deep = image.format == "HEIF" and image.mode == "RGB" and image.info.get("bit_depth", 8) > 8
    return (transfer, int(tags["color_primaries"])) if deep and colour.is_hdr(transfer) else None


def _to_rgb(image: Image) -> Image:
    """Return the picture as 8-bit RGB of the same size."""
    if image.mode == "F" or image.mode.startswith("I"):  # one channel of more than 8 bits
        import numpy as np

        samples = np.asarray(image, dtype=np.float64)
        peak = float(samples.max(initial=0.0))
        limit = 65535.0 if image.mode.startswith("I;16") else next((m for m in (1, 255, 65535) if peak <= m), peak)
        image = pillow().fromarray(np.clip(samples * (255 / limit) + 0.5, 0, 255).astype(np.uint8))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        opaque = pillow().new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert("RGB")
