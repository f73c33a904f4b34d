"""Two streets whose houses in the middle are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from jobs.demo.houses import Houses
from jobs.demo.raster import Camera, Patch
from jobs.demo.street import light

__all__ = ["photograph"]

_NEIGHBOURS = {5: (-8.6, 9.0), 6: (-9.5, 8.0)}
"""By the seed of a street: where its outer houses begin, in metres along it."""


def _street(seed: int) -> list[Patch]:
    middle = Houses(82, 7)
    middle.middle_house()
    others = Houses(82, seed)
    others.rng = np.random.default_rng([7, seed])
    others.ground(-16, 16)
    left, right = _NEIGHBOURS[seed]
    for x0, x1 in ((-13, left), (left, -4.7), (4.3, right), (right, 13)):
        others.row_house(x0, x1)
    return [*middle.patches, *others.patches]


def photograph(folder: Path, photos: dict[int, int]) -> None:
    """Take photos while walking past each street: `5_00.jpg` …

    Args:
        folder: gets the photos.
        photos: the number of photos by the street's seed.
    """
    for seed, number in photos.items():
        scene, rng = light(_street(seed)), np.random.default_rng(seed)
        for i, x in enumerate(np.linspace(-6.5, 6.5, number)):
            weave = [0, 0.6 * np.sin(1.1 * x), 0.25 * np.cos(0.8 * x)]
            center = np.array([x, -9.4, 1.65]) + weave + rng.normal(0, [0.12, 0.2, 0.06])
            target = np.array([0.55 * x, 0, 3.1]) + rng.normal(0, [0.35, 0, 0.15])
            camera = Camera.looking_at(center, target, 26 / 36 * 480, 480, 270, rng.normal(0, 0.02))
            exif = Image.Exif()
            exif[ExifTags.Base.Model] = "a camera"
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
            Image.fromarray(scene.photograph(camera)).save(folder / f"{seed}_{i:02}.jpg", quality=92, exif=exif)
