"""The cameras of a capture and what they saw, in the model's frame, and the poses of cameras that stand upright."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InvalidInput

__all__ = ["OFF", "STRICTER", "Array", "Capture", "goes_back", "longest_run", "together", "unit", "upright"]

Array = NDArray[np.float64]

OFF = 0.5
"""How far a generated path may be from the nearest photo that looks about the same way, by the typical depth."""
STRICTER = 0.9
"""The bound where a way is laid out, for between its samples it may be a little farther off."""


@dataclass(frozen=True)
class Capture:
    """Where the photos of a dataset were taken, in the model's frame.

    Args:
        centres: (N, 3) camera centres.
        looks: (N, 3) unit vectors of the optical axes.
        depth: the typical distance from a camera to what it sees.
        half_field: tangents of half the horizontal and half the vertical field of view of the photos.
        points: (P, 3) what the photos show, sparsely.
        shape: see `jobs.path.reading.photo_shape`.
    """

    centres: Array
    looks: Array
    depth: float
    half_field: tuple[float, float]
    points: Array = field(default_factory=lambda: np.empty((0, 3)))
    shape: float = 16 / 9

    @property
    def focus(self) -> Array:
        """(3,) the point that the cameras look at: nearest to all optical axes, in the sense of least squares.

        Where the axes are parallel, it is at the typical depth before the middle camera.
        """
        across = np.eye(3) - self.looks[:, :, None] * self.looks[:, None, :]
        ahead = np.median(self.centres + self.depth * self.looks, axis=0)
        weight = 0.05 * np.eye(3)
        right = np.einsum("nij,nj->i", across, self.centres) / len(across)
        focus: Array = np.linalg.solve(across.mean(axis=0) + weight, right + weight @ ahead)
        return focus

    def largest_part(self) -> Capture:
        """The capture without the photos that are apart from most, as groups elsewhere, other sides, and outliers are.

        Two photos are together where a camera half-way between them is near both.
        """
        left, best = np.arange(len(self.centres)), np.empty(0, dtype=int)
        while len(left) > len(best):
            edge, part = [int(left[0])], []
            left = left[1:]
            while edge:
                at = edge.pop()
                part.append(at)
                apart = np.linalg.norm(self.centres[left] - self.centres[at], axis=1)
                near = (apart <= 2 * OFF * self.depth) & (self.looks[left] @ self.looks[at] >= 0)
                edge.extend(left[near].tolist())
                left = left[~near]
            best = np.sort(part) if len(part) > len(best) else best
        return replace(self, centres=self.centres[best], looks=self.looks[best])


def upright(centres: Array, looks: Array) -> Array:
    """(F, 4, 4) rigid poses at `centres`, looking along `looks` (each (F, 3)), with no roll."""
    looks = unit(looks)
    # A capture that looks straight down, as a drone's, has no roll about +Z; there +Y is up in the picture.
    up = np.array([0.0, 0.0, 1.0] if np.abs(looks[:, 2]).max() < 0.98 else [0.0, 1.0, 0.0])
    right = unit(np.cross(looks, up))
    poses = np.tile(np.eye(4), (len(looks), 1, 1))
    poses[:, :3] = np.stack([right, np.cross(right, looks), -looks, centres], axis=2)
    return poses


def unit(vectors: Array) -> Array:
    """Vectors (…, 3), each 1 long."""
    units: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
    return units


def together(capture: Capture) -> Capture:
    """The largest part of a capture, of two photos at least."""
    part = capture.largest_part()
    if len(part.centres) < 2:
        raise InvalidInput("The photos are too far from each other for a way along them; take the spiral instead.")
    return part


def goes_back(at: NDArray[Any]) -> bool:
    """Whether places along a path, in the order of the photos, fall on the whole: it began where the capture ended."""
    return bool(np.polyfit(np.arange(len(at)), at, 1)[0] < 0)


def longest_run(seen: NDArray[np.bool_]) -> slice:
    """The longest stretch of true values; an empty one where there is none."""
    edges = np.flatnonzero(np.diff(seen.astype(int), prepend=0, append=0)).reshape(-1, 2)
    if not len(edges):
        return slice(0, 0)
    first, last = edges[np.diff(edges, axis=1).argmax()].tolist()
    return slice(first, last)
