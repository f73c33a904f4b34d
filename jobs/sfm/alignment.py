"""Reconstructions of one place differ by a similarity (scale, rotation, translation): find it, and what is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jobs.errors import InvalidInput

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """The map x -> scale * rotation @ x + translation.

    Args:
        scale: > 0.
        rotation: (3, 3), determinant 1.
        translation: (3,), in units of the target.
    """

    scale: float
    rotation: Floats
    translation: Floats

    def points(self, points: ArrayLike) -> Floats:
        """Points (…, 3) of the source in the target's frame."""
        return self.scale * np.asarray(points, float) @ self.rotation.T + self.translation

    def poses(self, poses: ArrayLike) -> Floats:
        """Camera-to-world poses (…, 4, 4) of the source in the target's frame; their rotations stay free of scale."""
        poses = np.array(poses, float)
        poses[..., :3, 3] = self.points(poses[..., :3, 3])
        poses[..., :3, :3] = self.rotation @ poses[..., :3, :3]
        return poses

    def inverse(self) -> Similarity:
        """The map from the target back to the source."""
        return Similarity(1 / self.scale, self.rotation.T, -self.rotation.T @ self.translation / self.scale)


def umeyama(source: ArrayLike, target: ArrayLike) -> Similarity:
    """The similarity that brings `source` (n, 3) nearest to `target` (n, 3) in the sense of least squares.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4).

    Raises:
        InvalidInput: fewer than three points, or points (nearly) on one line, which leave a turn about it open.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise ValueError(f"two arrays (n, 3) are needed, not {source.shape} and {target.shape}")
    if len(source) < 3:
        raise InvalidInput(f"An alignment needs at least 3 points that both have; there are {len(source)}.")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(b.T @ a / len(a))
    if singular[1] <= 1e-9 * max(singular[0], np.finfo(float).tiny):
        raise InvalidInput("An alignment needs points that do not all lie on one line.")
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float(singular @ sign / (a**2).sum(axis=1).mean())
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def rotation_angles(first: ArrayLike, second: ArrayLike) -> Floats:
    """(n,) angles in degrees between rotations `first` and `second`, (n, 3, 3) each."""
    # |A - B| = 2 sqrt(2) sin(angle / 2), precise for small angles, where the arc cosine of the trace is not.
    distance = np.linalg.norm(np.asarray(first, float) - np.asarray(second, float), axis=(-2, -1))
    angles: Floats = np.degrees(2 * np.arcsin(np.clip(distance / np.sqrt(8), 0, 1)))
    return angles


@dataclass(frozen=True)
class PoseErrors:
    """How far estimated poses are from the truth, after the best similarity.

    Args:
        names: the n photos compared.
        positions: (n,) distances of the camera centres, as a fraction of the scene's size: the diagonal of the
            box about the true camera centres.
        rotations: (n,) degrees.
        size: the scene's size in units of the truth (metres).
        similarity: from the estimate's frame to the truth's.
    """

    names: tuple[str, ...]
    positions: Floats
    rotations: Floats
    size: float
    similarity: Similarity


def compare_poses(truth: Path, transforms: Path, photos: Mapping[str, str] | None = None) -> PoseErrors:
    """Compare the poses of a dataset with true ones, both in nerfstudio's transforms.json format.

    Args:
        truth: file with the true poses.
        transforms: file with the estimated poses, in any frame and scale.
        photos: from a file name of `transforms` to the photo's name in `truth`, where they differ. Only file names
            count, folders do not. Names that `truth` does not have are left out of the comparison.

    Raises:
        InvalidInput: a file is not in that format, or fewer than three poses can be compared.
    """
    true, estimated = _poses(truth), _named(_poses(transforms), photos)
    names = tuple(sorted(true.keys() & estimated.keys()))
    if len(names) < 3:
        raise InvalidInput(
            f"{transforms}: only {len(names)} of its {len(estimated)} photos are in {truth}; 3 are needed."
        )
    expected, found = (np.stack([poses[name] for name in names]) for poses in (true, estimated))
    similarity = umeyama(found[:, :3, 3], expected[:, :3, 3])
    size = float(np.linalg.norm(np.ptp(np.stack(list(true.values()))[:, :3, 3], axis=0)))
    return _errors(names, expected, found, similarity, size)


def compare_poses_in_frame_of(
    known: PoseErrors, truth: Path, transforms: Path, photos: Mapping[str, str] | None = None
) -> PoseErrors:
    """Compare the poses of a dataset with true ones in the frame of another dataset: nothing is fitted.

    Args:
        known: how that other dataset compares with the truth; its similarity and size are taken.
        truth, transforms, photos: see `compare_poses`; all photos must be in the truth.
    """
    true, estimated = _poses(truth), _named(_poses(transforms), photos)
    expected, found = (np.stack([poses[name] for name in estimated]) for poses in (true, estimated))
    return _errors(tuple(estimated), expected, found, known.similarity, known.size)


def _errors(names: tuple[str, ...], expected: Floats, found: Floats, similarity: Similarity, size: float) -> PoseErrors:
    aligned = similarity.poses(found)
    distances = np.linalg.norm(aligned[:, :3, 3] - expected[:, :3, 3], axis=1)
    angles = rotation_angles(aligned[:, :3, :3], expected[:, :3, :3])
    return PoseErrors(names, distances / size, angles, size, similarity)


def _named(poses: dict[str, Floats], photos: Mapping[str, str] | None) -> dict[str, Floats]:
    """Poses by the names of the photos that pictures were made of."""
    if photos is None:
        return poses
    known = {Path(name).name: Path(photo).name for name, photo in photos.items()}
    return {known[name]: pose for name, pose in poses.items() if name in known}


def _poses(file: Path) -> dict[str, Floats]:
    """Camera-to-world poses (4, 4) by file name."""
    try:
        frames = json.loads(file.read_text())["frames"]
        poses = {Path(f["file_path"]).name: np.array(f["transform_matrix"], float) for f in frames}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file} is not a readable transforms.json: {type(error).__name__}: {error}") from error
    for name, pose in poses.items():
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise InvalidInput(f"{file}: the transform_matrix of {name} is not a finite 4 x 4 matrix.")
    return poses
