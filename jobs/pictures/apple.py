"""The gravity that iPhones write into their photos, in Apple's maker note, which Pillow does not read."""

from __future__ import annotations

import math
import struct

__all__ = ["held"]

_SIGNATURE = b"Apple iOS\0"
_GRAVITY, _FRACTIONS = 8, 10  # the tag, and its type in TIFF: signed fractions
_STILL = (0.9, 1.1)  # g: a phone that is moved measures more or less than gravity
_STEEP = 0.7  # of gravity along the view: a phone's photos are upright in any direction then


def held(note: bytes, size: tuple[int, int]) -> tuple[float, float] | None:
    """Return how the main camera was held: the pitch of the view and the roll, in degrees, as `Tags` has them.

    The note has gravity in the frame of the phone: x to the right of its screen, y to the top, z towards its user. The
    longer side of a photo is along y. Which way it was turned follows from gravity itself, as editors that turn the
    pixels keep the note.

    Args:
        note: the maker note.
        size: width and height of the photo as it is shown.

    Returns:
        None if there is no gravity, or if it does not fit the photo, which was moved, turned by hand or made square.
    """
    try:
        x, y, z = _gravity(note)
    except (struct.error, ZeroDivisionError, ValueError):
        return None
    width, height = size
    length = math.hypot(x, y, z)
    if width == height or not _STILL[0] <= length <= _STILL[1]:
        return None
    across, up = (y, -x) if width > height else (-x, -y)
    if up < 0:
        across, up = -across, -up
    if abs(across) > up and abs(z) < _STEEP * length:
        return None
    return math.degrees(math.asin(z / length)), math.degrees(math.atan2(-across, up))


def _gravity(note: bytes) -> tuple[float, ...]:
    if not note.startswith(_SIGNATURE):
        raise ValueError("no maker note of Apple's")
    (number,) = struct.unpack_from(">H", note, 14)
    for entry in range(number):
        tag, kind, count, offset = struct.unpack_from(">HHII", note, 16 + 12 * entry)
        if (tag, kind, count) == (_GRAVITY, _FRACTIONS, 3):
            parts = struct.unpack_from(">6i", note, offset)
            return tuple(parts[i] / parts[i + 1] for i in (0, 2, 4))
    raise ValueError("no gravity")
