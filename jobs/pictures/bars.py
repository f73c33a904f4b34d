"""Find the black bars of letterboxed pictures: they are no part of the scene, and must not be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Bars", "boxes", "common", "measure"]

_BLACK = 16  # grey level: compression adds a few
_EDGE = 40  # grey levels, by which the brightest pixel next to a bar is brighter than the bar, in most pictures
_LEAST_PICTURES = 6
_LEAST = 0.01  # of the side: narrower ones are the seams of editors
_MARGIN = 0.005  # of the longer side, beyond a bar: compression blurs its edge

Bars = tuple[int, int, int, int]
"""The widths of black bars: left, top, right and bottom, in px."""


def measure(shades: Image) -> Bars:
    """Return the black bars of a grey picture. Those that fade into the picture, as a night sky does, do not count."""
    values = np.asarray(shades)
    columns, rows = values.max(axis=0), values.max(axis=1)
    return _bar(columns), _bar(rows), _bar(columns[::-1]), _bar(rows[::-1])


def _bar(brightest: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
    """Return how many rows from the edge are black, by the brightest pixel of each row."""
    bright = np.flatnonzero(brightest > _BLACK)
    if not len(bright) or bright[0] < _LEAST * len(brightest):
        return 0
    beyond = brightest[bright[0] : bright[0] + max(3, len(brightest) // 50)]
    return int(bright[0]) if beyond.max() > _BLACK + _EDGE else 0


def common(bars: Sequence[Bars], size: tuple[int, int]) -> Bars:
    """Return the bars that nearly all pictures of one size have, (0, 0, 0, 0) if there are none.

    A bar is as wide as in the pictures where it is narrowest, but for one in ten, which may be black there by chance.
    """
    if len(bars) < _LEAST_PICTURES:
        return (0, 0, 0, 0)
    left, top, right, bottom = np.percentile(np.array(bars), 10, axis=0, method="lower").astype(int).tolist()
    margin = max(1, round(_MARGIN * max(size)))
    left, top, right, bottom = (width + margin if width else 0 for width in (left, top, right, bottom))
    return left, top, right, bottom


def boxes(bars: Bars, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the bars as boxes: left, top, right and bottom in px of a picture of this size."""
    (width, height), (left, top, right, bottom) = size, bars
    edges = [
        (0, 0, left, height),
        (0, 0, width, top),
        (width - right, 0, width, height),
        (0, height - bottom, width, height),
    ]
    return [box for box, wide in zip(edges, bars, strict=True) if wide]
