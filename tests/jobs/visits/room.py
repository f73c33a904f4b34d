"""A room under a glass roof, photographed twice from its middle, with the true depths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.demo.raster import Patch
from jobs.demo.shapes import Shapes, X, Y, Z
from jobs.visits.views import View
from tests.jobs.visits.yard import photographed

_WIDE, _DEEP, _HIGH = 5.0, 4.0, 2.6
_PHOTOS = 24
_LAMPS = ((0.1, 0.0, 1.0), (0.5, 0.5, 1.0), (-0.5, 0.5, 1.0), (0.5, -0.5, 1.0), (-0.5, -0.5, 1.0))  # above a glass roof

MORNING, EVENING = (-0.5, -0.8, 0.45), (0.6, -0.7, 0.35)
"""Directions to the sun, which shines over the walls."""


def base() -> list[Patch]:
    """Return walls with a row of windows, and a floor."""
    shapes = Shapes(60, 5)
    x, y = _WIDE / 2, _DEEP / 2
    plaster, brick, floor = (
        shapes.plaster((0.8, 0.75, 0.65)),
        shapes.brick((0.7, 0.5, 0.4)),
        shapes.planks((0.6, 0.45, 0.3)),
    )
    for corner, right, down, material in (
        ((-x, y, _HIGH), _WIDE * X, -_HIGH * Z, plaster),
        ((x, y, _HIGH), -_DEEP * Y, -_HIGH * Z, brick),
        ((-x, -y, _HIGH), _DEEP * Y, -_HIGH * Z, brick),
        ((x, -y, 0.8), -_WIDE * X, -0.8 * Z, plaster),
        ((x, -y, _HIGH), -_WIDE * X, -0.4 * Z, plaster),
        ((-x, y, 0.0), _WIDE * X, -_DEEP * Y, floor),
    ):
        shapes.face(np.array(corner), right, down, material, two_sided=True)
    return shapes.patches


def picture(colour: tuple[float, float, float]) -> list[Patch]:
    """Return a picture of one colour on the wall opposite the windows, 1.2 x 0.8 m."""
    shapes = Shapes(60, 6)
    shapes.box((-0.2, _DEEP / 2 - 0.04, 1.1), (1.0, _DEEP / 2, 1.9), shapes.plain(colour), "flrtb")
    return shapes.patches


def cupboard(left: float) -> list[Patch]:
    """Return a cupboard at the same wall."""
    shapes = Shapes(60, 7)
    shapes.box((left, _DEEP / 2 - 0.5, 0.0), (left + 0.7, _DEEP / 2, 1.0), shapes.planks((0.15, 0.35, 0.4)), "flrt")
    return shapes.patches


def visit(patches: Sequence[Patch], sun: tuple[float, float, float], turn: float, name: str) -> list[View]:
    """Photograph the room all around, each time across its middle."""
    stands = []
    for angle in np.arange(_PHOTOS) * 2 * np.pi / _PHOTOS + turn:
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        stands.append((-1.1 * out + 1.4 * Z, 2.0 * out + 1.2 * Z))
    return photographed(patches, sun, name, stands, _LAMPS)
