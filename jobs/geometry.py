"""Similarities and rotations.

Nothing but numpy is imported with this module, because the scheduler reads camera paths with it. The functions that
need scipy import it themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jobs.errors import InvalidInput

__all__ = ["Y_UP", "Floats", "Similarity", "fit_similarity", "rotation_angles", "rotation_between"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """The map x -> scale * rotation @ x + translation; the identity by default.

    Args:
        scale: positive.
        rotation: (3, 3), with determinant 1.
        translation: (3,) in units of the target frame.
    """

    scale: float = 1.0
    rotation: Floats = field(default_factory=lambda: np.eye(3))
    translation: Floats = field(default_factory=lambda: np.zeros(3))

    def points(self, points: ArrayLike) -> Floats:
        """Return points (…, 3) of the source frame in the target frame."""
        return self.scale * np.asarray(points, float) @ self.rotation.T + self.translation

    def poses(self, poses: ArrayLike) -> Floats:
        """Return camera-to-world poses (…, 4, 4) of the source frame in the target frame.

        Their rotations contain no scale.
        """
        poses = np.array(poses, float)
        poses[..., :3, 3] = self.points(poses[..., :3, 3])
        poses[..., :3, :3] = self.rotation @ poses[..., :3, :3]
        return poses

    def inverse(self) -> Similarity:
        """Return the map from the target frame to the source frame."""
        return Similarity(1 / self.scale, self.rotation.T, -self.rotation.T @ self.translation / self.scale)


Y_UP = Similarity(rotation=np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
"""From axes with +Z up, which scenes have, to axes with +Y up, which glTF, SPZ and browsers have."""


def fit_similarity(source: ArrayLike, target: ArrayLike) -> Similarity:
    """Return the similarity that maps `source` (n, 3) closest to `target` (n, 3), in the least-squares sense.

    Raises:
        InvalidInput: there are fewer than three points, or they (nearly) lie on one line.
    """
    from scipy.spatial.transform import Rotation

    source, target = np.asarray(source, float), np.asarray(target, float)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise ValueError(f"expected two arrays (n, 3), got {source.shape} and {target.shape}")
    if len(source) < 3:
        raise InvalidInput(f"An alignment needs at least 3 points that both sides have; there are {len(source)}.")
    # pycolmap.estimate_sim3d (4.2) is no alternative: it returns None for points on a plane through the origin.
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    _, second, _ = np.linalg.svd(b.T @ a, compute_uv=False)
    if second <= 1e-9 * max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(float).tiny):
        raise InvalidInput("An alignment needs points that do not all lie on one line.")
    rotation = Rotation.align_vectors(b, a)[0].as_matrix()
    scale = float(np.sum(b * (a @ rotation.T)) / np.sum(a**2))
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def rotation_between(source: ArrayLike, target: ArrayLike) -> Floats:
    """Return the smallest rotation (3, 3) that turns the direction `source` (3,) to the direction `target` (3,)."""
    from scipy.spatial.transform import Rotation

    rotation: Floats = Rotation.align_vectors(np.asarray(target, float), np.asarray(source, float))[0].as_matrix()
    return rotation


def rotation_angles(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the angles (n,), in degrees, between rotations `first` and `second`, (n, 3, 3) each."""
    # |A - B| = 2 sqrt(2) sin(angle / 2) is precise for small angles. The arc cosine of the trace is not.
    distance = np.linalg.norm(np.asarray(first, float) - np.asarray(second, float), axis=(-2, -1))
    angles: Floats = np.degrees(2 * np.arcsin(np.clip(distance / np.sqrt(8), 0, 1)))
    return angles
