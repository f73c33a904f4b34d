"""Recognise leaves that only have another colour, as plants have by the season.

They are green in one visit at least, and of no colour with much blue in either. Unlike a painted surface, they have no
even surface, so photos of one visit differ from each other there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.visits.find import Patch, Surfaces
from jobs.visits.moved import kind_of

__all__ = ["without_leaves"]

_GREEN = 0.1  # logarithm of green light divided by red and by blue
_BLUE = 0.7  # logarithm of green light divided by blue: leaves of any colour take up blue light
_UNEVEN = 1.8  # standard deviations of light by which photos of one visit differ; 0.5 to 1 on walls


def without_leaves(patches: Sequence[Patch], then: Surfaces, now: Surfaces) -> tuple[list[Patch], float]:
    """Return the patches that are not leaves in another colour, and the area of those that are, in square units."""
    leaves = [_are_leaves(patch, then, now) for patch in patches]
    kept = [patch for patch, left_out in zip(patches, leaves, strict=True) if not left_out]
    return kept, sum(patch.area for patch, left_out in zip(patches, leaves, strict=True) if left_out)


def _are_leaves(patch: Patch, then: Surfaces, now: Surfaces) -> bool:
    if kind_of(patch) != "changed" or not len(patch.then) or not len(patch.now):
        return False
    seen = ((then, patch.then), (now, patch.now))
    if min(float(np.median(surfaces.noise[inside])) for surfaces, inside in seen) < _UNEVEN:
        return False
    colours = [np.median(surfaces.colours[inside], axis=0) for surfaces, inside in seen]
    green = any(colour[1] - max(colour[0], colour[2]) > _GREEN for colour in colours)
    return green and all(colour[1] - colour[2] > _BLUE for colour in colours)
