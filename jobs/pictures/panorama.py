"""Equirectangular pictures, which show 360° by 180°, cut into perspective views."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from jobs.pictures.exif import Tags

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["ROTATIONS", "TAGS", "cut", "is_dual_fisheye", "wraps"]

Rotation = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

ROTATIONS: tuple[Rotation, ...] = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
)
"""From each view to the first one, with OpenCV's axes: ahead, right, behind, left, up; each is 90° wide and high.

The view down is left out: it shows the tripod, or who carries the camera.
"""

TAGS = (*(Tags(pitch=0.0, roll=0.0),) * 4, Tags(pitch=90.0, roll=0.0))
"""How each view is held: 360° cameras level their pictures."""

_LIKE_NEIGHBOURS = 2.0  # times the usual difference of neighbouring columns, by which the outermost two may differ
_FISHEYES = (1.7, 2.1)  # proportions of a picture with two fisheyes side by side
_BLACK, _LIT = 20, 40  # grey values: beside the circles of fisheyes at most, and inside them at least
_POLE = 0.25  # of the variation along the middle row: the topmost row shows a single point


def cut(image: Image) -> list[Image]:
    """Return the views of an equirectangular picture, as sharp as it is in the middle."""
    import cv2
    import numpy as np
    from PIL import Image

    picture = np.asarray(image)
    padded = np.concatenate([picture[:, -1:], picture, picture[:, :1]], axis=1)  # it goes on beyond its sides
    between = cv2.INTER_NEAREST if picture.ndim == 2 else cv2.INTER_LINEAR  # a mask has no values between
    return [
        Image.fromarray(cv2.remap(padded, x, y, between, borderMode=cv2.BORDER_REPLICATE))
        for x, y in _maps(image.width, image.height)
    ]


def wraps(image: Image) -> bool:
    """Return whether a picture without a tag is equirectangular: twice as wide as high, joined at its sides."""
    import numpy as np

    if image.width != 2 * image.height or image.height < 16:
        return False
    grey = np.asarray(image.convert("L"), float)
    beside = np.abs(np.diff(grey, axis=1)).mean()
    joined = np.abs(grey[:, 0] - grey[:, -1]).mean() <= _LIKE_NEIGHBOURS * beside + 1
    return bool(joined and grey[0].std() <= _POLE * grey[len(grey) // 2].std())


def is_dual_fisheye(image: Image) -> bool:
    """Return whether a picture shows the circles of two fisheyes side by side, as a 360° camera records them."""
    import numpy as np

    if not _FISHEYES[0] * image.height <= image.width <= _FISHEYES[1] * image.height or image.height < 16:
        return False
    small = np.asarray(image.convert("L").resize((128, round(128 * image.height / image.width))), float)
    down, across = np.indices((len(small), 64)) - np.array([(len(small) - 1) / 2, 31.5])[:, None, None]
    distance = np.hypot(down, across) / 32
    for half in (small[:, :64], small[:, 64:]):
        if np.mean(half[distance > 1.12] <= _BLACK) < 0.95 or half[distance < 0.8].mean() < _LIT:
            return False
    return True


@functools.lru_cache(maxsize=4)
def _maps(width: int, height: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return, for each view, the column (in the padded picture) and row that each of its pixels shows."""
    import numpy as np

    side = max(16, round(width / np.pi / 2) * 2)
    middle = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(middle, middle)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    maps = []
    for rotation in ROTATIONS:
        right, down, ahead = np.moveaxis(rays @ np.array(rotation, float).T, -1, 0)
        longitude = np.arctan2(right, ahead)
        latitude = np.arctan2(-down, np.hypot(right, ahead))
        column = (longitude / (2 * np.pi) + 0.5) * width - 0.5 + 1
        row = (0.5 - latitude / np.pi) * height - 0.5
        maps.append((column.astype(np.float32), row.astype(np.float32)))
    return maps
