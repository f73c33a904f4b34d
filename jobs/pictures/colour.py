"""The colours of photos and frames as sRGB: HDR is tone-mapped, wide gamuts are converted, missing tags are guessed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from av import VideoFrame
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

__all__ = ["apply_profile", "is_hdr", "linear", "to_rgb", "tone_mapped"]

# Code points of ITU-T H.273.
_PQ, _HLG = 16, 18
_UNKNOWN = (0, 2)
_BT709, _BT2020 = 1, 9

_TO_BT709 = {
    _BT2020: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730)),
    12: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),  # Display P3
}
"""Linear light of other primaries to that of BT.709, by the primaries' code point (ITU-R BT.2087 for BT.2020)."""

_WHITE = 203.0  # cd/m²: what a white page has in HDR (ITU-R BT.2408)
_PEAK = 1000.0  # cd/m²: of the display that HLG is mastered for, with a system gamma of 1.2 (ITU-R BT.2100)
_GAMMA = 1.2
_LIKE_SRGB = 3  # levels: by so much, versions of sRGB's profile differ
_BAND = 16  # rows that are converted together: they fit into the cache, which halves the time
_KNEE = 0.85  # of white: highlights above are compressed, colours below stay as they are


def to_rgb(frame: VideoFrame) -> Image:
    """Return a frame as 8-bit sRGB, not yet turned upright.

    A frame without tags is taken for BT.709 if it is HD, else for BT.601, as video players do.
    """
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    hdr = is_hdr(transfer)
    matrix = _matrix(frame, hdr)
    if not hdr and primaries not in _TO_BT709:
        plain: Any = frame.reformat(format="rgb24", src_colorspace=matrix)
        image: Image = plain.to_image()
        return image
    return tone_mapped(_sixteen_bits(frame, matrix), transfer, primaries)


def is_hdr(transfer: int) -> bool:
    """Return whether a transfer function, by its code point, is PQ or HLG."""
    return transfer in (_PQ, _HLG)


def apply_profile(image: Image, profile: bytes) -> bool:
    """Convert an RGB picture to sRGB in place; return whether that changed its colours.

    Phones write Display P3 and cameras Adobe RGB: taken for sRGB, they are dull.

    Args:
        image: RGB.
        profile: its ICC profile. A profile of other pictures than RGB, and a damaged one, is ignored.
    """
    from PIL import ImageCms

    conversion = _conversion(profile)
    if conversion is None:
        return False
    ImageCms.applyTransform(image, conversion, inPlace=True)
    image.info.pop("icc_profile", None)
    return True


@functools.lru_cache(maxsize=16)
def _conversion(profile: bytes) -> ImageCmsTransform | None:
    """Return the conversion from an ICC profile to sRGB; None if it would hardly change a colour, or cannot be."""
    import io

    import numpy as np
    from PIL import Image, ImageCms

    steps = np.linspace(0, 255, 6).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(6, 36, 3)
    try:
        conversion = ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except ImageCms.PyCMSError:
        return None
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), conversion))
    return conversion if np.abs(converted.astype(int) - colours).max() > _LIKE_SRGB else None


def _matrix(frame: VideoFrame, hdr: bool) -> Any:
    """Return how luminance and colour differences become RGB."""
    from av.video.reformatter import Colorspace

    tagged = int(frame.colorspace)
    if tagged not in _UNKNOWN:
        return Colorspace.BT2020 if tagged in (_BT2020, 10) else None  # swscale reads the frame's own tag
    if hdr:
        return Colorspace.BT2020
    return Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601


def _sixteen_bits(frame: VideoFrame, matrix: Any) -> NDArray[np.uint16]:
    """Return the frame's RGB, (h, w, 3), with its own transfer function and primaries."""
    import numpy as np

    deep = frame.reformat(format="rgb48le", src_colorspace=matrix)
    pixels: NDArray[np.uint16] = np.asarray(deep.to_ndarray(), np.uint16)
    return pixels


def tone_mapped(signal: NDArray[np.uint16], transfer: int, primaries: int) -> Image:
    """Return a picture of 16-bit RGB, (h, w, 3), as 8-bit sRGB.

    Args:
        signal: with its own transfer function and primaries.
        transfer, primaries: code points of ITU-T H.273.
    """
    import numpy as np
    from PIL import Image

    bands = np.split(signal, range(_BAND, len(signal), _BAND))
    return Image.fromarray(np.concatenate([_tone_mapped(band, transfer, primaries) for band in bands]))


def _tone_mapped(signal: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    import numpy as np

    if is_hdr(transfer) and primaries in _UNKNOWN:
        primaries = _BT2020
    light = _linear(transfer)[signal]  # 1 is white
    if transfer == _HLG:  # from the light of the scene to that of the display
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (_PEAK / _WHITE) * np.maximum(luminance, 1e-6)[..., None] ** (_GAMMA - 1)
    if primaries in _TO_BT709:
        light = light @ np.array(_TO_BT709[primaries], np.float32).T
    light = np.maximum(light, 0)
    if is_hdr(transfer):
        brightest = light.max(axis=2, keepdims=True)
        over = np.maximum(brightest - _KNEE, 0)
        compressed = _KNEE + (1 - _KNEE) * (1 - np.exp(-over / (1 - _KNEE)))
        light *= np.where(over > 0, compressed / np.maximum(brightest, 1e-6), 1)
    return _srgb()[(np.minimum(light, 1) * 65535 + 0.5).astype(np.uint16)]


def linear(srgb: NDArray[Any]) -> NDArray[Any]:
    """Return the light of sRGB values, both from 0 to 1."""
    import numpy as np

    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


@functools.cache
def _linear(transfer: int) -> NDArray[np.float32]:
    """Return the light of each 16-bit value: PQ's on the display, HLG's in the scene (ITU-R BT.2100), SDR's."""
    import numpy as np

    value = np.linspace(0, 1, 65536)
    if transfer == _PQ:
        power = value ** (1 / 78.84375)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        light *= 10_000 / _WHITE
    elif transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    else:
        light = linear(value)
    return np.asarray(light, np.float32)


@functools.cache
def _srgb() -> NDArray[np.uint8]:
    """Return the 8-bit sRGB value of each 16-bit amount of light."""
    import numpy as np

    light = np.linspace(0, 1, 65536)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * value + 0.5).astype(np.uint8)
