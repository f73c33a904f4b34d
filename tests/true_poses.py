"""Compare camera poses with true ones, after fitting the similarity between both frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.errors import InvalidInput
from jobs.geometry import Floats, Similarity, fit_similarity, rotation_angles

__all__ = ["PoseErrors", "compare_poses", "compare_poses_in_frame_of"]


@dataclass(frozen=True)
class PoseErrors:
    """The errors of estimated poses, after the best similarity.

    Args:
        names: the n photos compared.
        positions: (n,) distances between the camera centres, as a fraction of the scene's size, which is the diagonal
            of the box around the true camera centres.
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
        photos: the photo's name in `truth` by the file name in `transforms`, where they differ. Folders are ignored.
            Photos that `truth` does not list are left out.

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
    similarity = fit_similarity(found[:, :3, 3], expected[:, :3, 3])
    size = float(np.linalg.norm(np.ptp(np.stack(list(true.values()))[:, :3, 3], axis=0)))
    return _errors(names, expected, found, similarity, size)


def compare_poses_in_frame_of(
    known: PoseErrors, truth: Path, transforms: Path, photos: Mapping[str, str] | None = None
) -> PoseErrors:
    """Compare the poses of a dataset with true ones by the similarity of another dataset in the same frame.

    Args:
        known: the errors of that other dataset. Its similarity and size are used, and nothing is fitted.
        truth, transforms, photos: see `compare_poses`. All photos must be in the truth.
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
    """Return poses by the names of the original photos, without the poses of others."""
    if photos is None:
        return poses
    known = {Path(name).name: Path(photo).name for name, photo in photos.items()}
    return {known[name]: pose for name, pose in poses.items() if name in known}


def _poses(file: Path) -> dict[str, Floats]:
    """Return camera-to-world poses (4, 4) by file name."""
    try:
        frames = json.loads(file.read_text())["frames"]
        poses = {Path(f["file_path"]).name: np.array(f["transform_matrix"], float) for f in frames}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file} is not a readable transforms.json: {type(error).__name__}: {error}") from error
    for name, pose in poses.items():
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise InvalidInput(f"{file}: the transform_matrix of {name} is not a finite 4 x 4 matrix.")
    return poses
