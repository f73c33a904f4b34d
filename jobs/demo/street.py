"""The street of the built-in capture `facade`: three old houses with bays, columns and balconies, and a tree.

World frame: metres, +X along the street to the right, +Y into the houses, +Z up. The front of the middle house is at
y = -0.3. Everything is drawn from one seed, and no two windows are alike, so that structure from motion cannot confuse
them. The street changes between visits: at visit 2, the bookshop has become a bakery. At visit 3, the street is longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from jobs.demo.houses import Houses
from jobs.demo.raster import Floats, Light, Patch, Scene

__all__ = ["Visit", "light", "surfaces"]

Visit = Literal["1", "2", "3", "elsewhere"]
"""The occasion of the photos: one of three days in the same street, or another street."""

_SEED = 7
_SUNS = {  # the direction to the sun and its strength, by visit
    "1": ((-0.62, -0.70, 0.80), 1.0),
    "2": ((0.50, -0.75, 0.95), 0.8),
    "3": ((-0.30, -0.80, 0.95), 0.9),
    "elsewhere": ((-0.62, -0.70, 0.80), 1.0),
}


def surfaces(texels_per_metre: float, visit: Visit = "1") -> list[Patch]:
    """Build the street at a visit, with textures of `texels_per_metre`."""
    street = Houses(texels_per_metre, _SEED)
    if visit == "elsewhere":
        street.rng = np.random.default_rng([_SEED, 4])
        street.ground(-16.0, 16.0)
        for x0, x1 in ((-14.0, -7.6), (-7.6, -2.2), (-2.2, 4.9), (4.9, 9.4), (9.4, 14.0)):
            street.row_house(x0, x1)
        street.lamp(3.6, -3.1)
        return street.patches
    street.ground(-16.0, 16.0)
    street.left_house()
    street.middle_house()
    street.right_house()
    street.tree(2.9, -3.5)
    street.lamp(-4.6, -3.0)
    street.bench(-7.2, -2.6)
    # Changes between visits come last and have their own seeds, so that the rest of the street stays the same.
    if visit == "2":
        street.rng = np.random.default_rng([_SEED, 2])
        street.bakery()
    if visit == "3":
        street.rng = np.random.default_rng([_SEED, 3])
        street.ground(16.0, 32.0)
        for x0, x1 in ((13.5, 19.2), (19.2, 24.0), (24.0, 30.0)):
            street.row_house(x0, x1)
        street.lamp(12.4, -3.1)
    return street.patches


def light(patches: Sequence[Patch], visit: Visit = "1") -> Scene:
    """Light the street on a bright day, by the sky and by the sun of the visit."""
    rng = np.random.default_rng(_SEED)
    sun, strength = np.array(_SUNS[visit][0]), _SUNS[visit][1]
    color = np.array([1.75, 1.52, 1.16]) / 4 * strength
    suns = [_light(sun + rng.normal(0, 0.012, 3), color) for _ in range(4)]
    skies = []
    count = 20
    for k in range(count):  # a Fibonacci spiral over the half of the sky that the houses face
        z, turn = (k + 0.5) / count, k * np.pi * (3 - 5**0.5)
        blue = np.array([0.60, 0.78, 1.0]) * z + np.array([0.95, 0.97, 1.0]) * (1 - z)
        direction = np.array([np.cos(turn) * (1 - z * z) ** 0.5, -abs(np.sin(turn)) * (1 - z * z) ** 0.5, z])
        skies.append(_light(direction, blue * 2.0 / count))
    bounce = np.array([0.55, 0.51, 0.45])
    return Scene(patches, suns, skies, bounce, np.array([[0.84, 0.89, 0.94], [0.45, 0.64, 0.88]]))


def _light(direction: Floats, color: Floats) -> Light:
    return Light(direction / np.linalg.norm(direction), color)
