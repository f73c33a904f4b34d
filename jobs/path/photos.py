"""The cameras of a dataset's photos in the model frame, and upright camera poses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InvalidInput

__all__ = [
    "OFF",
    "STRICTER",
    "Array",
    "PosedPhotos",
    "goes_back",
    "longest_run",
    "looking_ahead",
    "panoramas",
    "together",
    "unit",
    "upright",
    "weighted",
]

Array = NDArray[np.float64]

OFF = 0.5
"""The greatest distance of a generated path from the nearest photo with a similar view direction, in typical depths."""
STRICTER = 0.9
"""A share of `OFF` that applies to the samples of a path, because it may be farther off between them."""

_VIEWS = 3  # of a 360° photo, at least
_ONE_CENTRE = 1e-5  # of the capture's size: cameras that are not views of one photo are farther from each other


@dataclass(frozen=True)
class PosedPhotos:
    """The cameras of a dataset's photos, in the model frame.

    Args:
        centres: (N, 3) camera centres.
        directions: (N, 3) view directions, of length 1.
        depth: the typical distance from a camera to the surfaces it sees.
        half_field: the tangents of half the horizontal and half the vertical field of view of the photos.
        points: (P, 3) the sparse points of the dataset.
        colours: (P, 3) the colours of the points, 0 to 255.
        shape: see `jobs.path.reading.photo_shape`.
    """

    centres: Array
    directions: Array
    depth: float
    half_field: tuple[float, float]
    points: Array = field(default_factory=lambda: np.empty((0, 3)))
    colours: Array = field(default_factory=lambda: np.empty((0, 3)))
    shape: float = 16 / 9

    @property
    def focus(self) -> Array:
        """Return the point (3,) that the cameras look at: the least-squares intersection of the optical axes.

        If the axes are parallel, it is at the typical depth in front of the middle camera.
        """
        across = np.eye(3) - self.directions[:, :, None] * self.directions[:, None, :]
        ahead = np.median(self.centres + self.depth * self.directions, axis=0)
        weight = 0.05 * np.eye(3)
        right = np.einsum("nij,nj->i", across, self.centres) / len(across)
        focus: Array = np.linalg.solve(across.mean(axis=0) + weight, right + weight @ ahead)
        return focus

    def largest_part(self) -> PosedPhotos:
        """Return the largest group of connected photos, without other groups, other sides and outliers.

        Two photos are connected if a camera half-way between them is near both.
        """
        left, best = np.arange(len(self.centres)), np.empty(0, dtype=int)
        while len(left) > len(best):
            edge, part = [int(left[0])], []
            left = left[1:]
            while edge:
                at = edge.pop()
                part.append(at)
                apart = np.linalg.norm(self.centres[left] - self.centres[at], axis=1)
                near = (apart <= 2 * OFF * self.depth) & (self.directions[left] @ self.directions[at] >= 0)
                edge.extend(left[near].tolist())
                left = left[~near]
            best = np.sort(part) if len(part) > len(best) else best
        return replace(self, centres=self.centres[best], directions=self.directions[best])


def upright(centres: Array, directions: Array) -> Array:
    """Return camera poses (F, 4, 4) without roll, at `centres` (F, 3) and with view directions `directions` (F, 3)."""
    directions = unit(directions)
    # For cameras that look straight down, such as a drone's, roll about +Z is undefined. Then +Y is up in the picture.
    up = np.array([0.0, 0.0, 1.0] if np.abs(directions[:, 2]).max() < 0.98 else [0.0, 1.0, 0.0])
    right = unit(np.cross(directions, up))
    poses = np.tile(np.eye(4), (len(directions), 1, 1))
    poses[:, :3] = np.stack([right, np.cross(right, directions), -directions, centres], axis=2)
    return poses


def weighted(weights: Array, values: Array) -> Array:
    """Return the sums (S, …) of values (N, …) with weights (S, N).

    All machines and processes must generate the same path. BLAS is avoided, because the last digits of its products
    depend on the number of its threads.
    """
    sums: Array = np.einsum("sn,n...->s...", weights, values)
    return sums


def unit(vectors: Array) -> Array:
    """Scale vectors (…, 3) to length 1."""
    units: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
    return units


def together(photos: PosedPhotos) -> PosedPhotos:
    """Return the largest part of the photos.

    Raises:
        InvalidInput: it has fewer than two photos.
    """
    part = photos.largest_part()
    if len(part.centres) < 2:
        raise InvalidInput("The photos are too far apart for a path along them. Choose the spiral instead.")
    return part


def panoramas(centres: Array) -> list[NDArray[np.intp]]:
    """Return the numbers of the views of each 360° photo, in the order of the photos; empty if there are none.

    The views into which a photo was cut have one centre (see `jobs.pictures.panorama`). Those of a dataset that also
    has many single photos do not count.

    Args:
        centres: (N, 3) of the cameras.
    """
    grid = _ONE_CENTRE * (float(np.ptp(centres, axis=0).max()) or 1.0)
    _, first, photo = np.unique(np.round(centres / grid), axis=0, return_index=True, return_inverse=True)
    if len(first) < 2 or _VIEWS * len(first) > len(centres):
        return []
    return [np.flatnonzero(photo.ravel() == number) for number in np.argsort(first)]


def looking_ahead(capture: PosedPhotos) -> PosedPhotos:
    """Return a capture of 360° photos as that of a camera that looks where it is carried; others as they are.

    The views of such photos look all ways at once, also into the sky. A path along them would do so, too.
    """
    photos = panoramas(capture.centres)
    if not photos:
        return capture
    centres = capture.centres[[views[0] for views in photos]]
    padded = np.pad(centres, ((2, 2), (0, 0)), mode="edge")
    smooth = weighted(np.array([[1, 2, 3, 2, 1]]) / 9, np.stack([padded[k : k + len(centres)] for k in range(5)]))[0]
    return replace(capture, centres=centres, directions=unit(np.gradient(smooth, axis=0) * [1, 1, 0]))


def goes_back(at: NDArray[Any]) -> bool:
    """Return whether positions along a path tend to decrease in the order of the photos."""
    return bool(np.polyfit(np.arange(len(at)), at, 1)[0] < 0)


def longest_run(seen: NDArray[np.bool_]) -> slice:
    """Return the longest run of true values. It is empty if there is none."""
    edges = np.flatnonzero(np.diff(seen.astype(int), prepend=0, append=0)).reshape(-1, 2)
    if not len(edges):
        return slice(0, 0)
    first, last = edges[np.diff(edges, axis=1).argmax()].tolist()
    return slice(first, last)
