"""Find places that structure from motion merged into one, although GPS says that they are apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pycolmap
from scipy.spatial.distance import cdist

from jobs.geometry import Floats
from jobs.sfm.shared import registered_images

__all__ = ["places"]

_METRES = 111_195.0  # in a degree of latitude
_NEAR = 0.15  # of the usual distance between cameras: nearer ones were taken from the same spot
_FAR = 0.6  # of the usual distance between GPS positions: farther ones cannot be of one spot
_ERROR = 25.0  # metres: the greatest error of the distance of two GPS positions under the open sky
_REACH = 1.3  # of half the distance between two places: how far from its first photo photos of a place were taken
_COMPACT = 0.35  # of half the distance between two places: how far from its middle photos of a place were taken
_BETWEEN = 0.2  # greatest share of photos at the same spot that are of neither place: scattered positions have more
_LEAST = 3  # photos of a place, at as many positions: a phone without a fix repeats an old position
_LEAST_SHARE = 0.5  # of the photos that must have a position


def places(model: pycolmap.Reconstruction, positions: Mapping[str, tuple[float, float] | None]) -> list[set[str]]:
    """Return the photos of two places that a model merged into one, the larger place first; empty if there are none.

    Cameras at the same spot of the model whose GPS positions are far apart belong to two places. This finds places that
    look identical in all photos, and the front and the back of a house, if they are farther apart than the error of
    GPS. Scattered positions, as indoors, are not used. Photos in between belong to neither place.

    Args:
        model: a reconstruction.
        positions: latitude and longitude of each picture in degrees, by its name; None if unknown.
    """
    images = registered_images(model)
    known = [image for image in images if positions.get(str(image.name))]
    if len(known) < max(2 * _LEAST, _LEAST_SHARE * len(images)):
        return []
    degrees = np.array([positions[str(image.name)] for image in known], float)
    metres = (degrees - degrees[0]) * _METRES * [1, np.cos(np.radians(degrees[0, 0]))]
    centers = np.array([image.projection_center() for image in known])
    there, here = cdist(metres, metres), cdist(centers, centers)
    upper = np.triu_indices(len(known), 1)
    same_spot = here < _NEAR * np.median(here[upper])
    apart = same_spot & (there > max(_ERROR, _FAR * np.median(there[upper])))
    if not apart.any():
        return []
    first = int(np.argmax(apart.sum(axis=1)))
    second = int(np.argmax(np.where(apart[first], apart.sum(axis=1), -1)))
    middle = there[first, second] / 2
    nearer = there[first] < there[second]
    sides = [
        np.flatnonzero(own & (there[seed] < _REACH * middle)) for own, seed in ((nearer, first), (~nearer, second))
    ]
    across = apart[np.ix_(*sides)]
    if min(across.any(axis=1).sum(), across.any(axis=0).sum()) < _LEAST:
        return []
    if min(len(np.unique(degrees[side], axis=0)) for side in sides) < _LEAST:
        return []
    if max(_radius(metres[side]) for side in sides) > _COMPACT * middle:
        return []
    members = np.concatenate(sides)
    of_neither = np.delete(same_spot[members], members, axis=1).sum()
    if of_neither > _BETWEEN * same_spot[members].sum():
        return []
    found = [{str(known[member].name) for member in side} for side in sides]
    return sorted(found, key=lambda place: (-len(place), min(place)))


def _radius(points: Floats) -> float:
    return float(np.median(np.linalg.norm(points - points.mean(axis=0), axis=1)))
