"""The cameras of a capture and what they saw, in the model's frame, and the poses of cameras that stand upright."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["OFF", "Array", "Capture", "unit", "upright"]

Array = NDArray[np.float64]

OFF = 0.5
"""How far a generated path may be from the nearest photo that looks about the same way, by the typical depth."""


@dataclass(frozen=True)
class Capture:
    """Where the photos of a dataset were taken, in the model's frame.

    Args:
        centres: (N, 3) camera centres.
        looks: (N, 3) unit vectors of the optical axes.
        depth: the typical distance from a camera to what it sees.
        half_field: tangents of half the horizontal and half the vertical field of view of the photos.
        points: (P, 3) what the photos show, sparsely.
        shape: see `jobs.path.trajectory.photo_shape`.
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
