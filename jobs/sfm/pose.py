"""Camera poses that come with the photos: lenses and poses with their checks, and which photo each belongs to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from jobs.geometry import Floats

__all__ = ["FAR", "Lens", "Pose", "belonging_to", "by_lens", "checked", "rigid"]

FAR = 1e9
"""The greatest distance from the origin, in units, at which computations are safe."""

_FOCALS = (0.05, 50.0)  # in terms of the picture's width: what a lens can have
_SKEW = 0.01  # of a rotation: by which its columns may miss length 1 and right angles
_SAME_LENS = 0.02  # of the focal length and of the picture's width: by which photos of one lens may differ


@dataclass(frozen=True)
class Lens:
    """The intrinsics of a camera, independent of the size of its pictures.

    Args:
        focal: focal lengths in terms of the picture's width and height; the second is None for square pixels.
        centre: the principal point in terms of width and height.
        distortion: k1, k2, p1, p2 as in OpenCV; k1 to k4 of a fisheye.
        fisheye: whether the projection is that of OpenCV's fisheye.
        shape: width divided by height of the pictures; None if unknown.
        by_longer_side: whether the focal length, and the principal point's distance from the middle, are in terms of
            the longer side instead, because the files do not say which one that is.
    """

    focal: tuple[float, float | None]
    centre: tuple[float, float] = (0.5, 0.5)
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    fisheye: bool = False
    shape: float | None = None
    by_longer_side: bool = False

    def params(self, width: int, height: int) -> list[float]:
        """Return COLMAP's parameters of OPENCV or OPENCV_FISHEYE for pictures of a size in px."""
        across, down = self.focal
        if self.by_longer_side:
            side = max(width, height)
            middle = [size / 2 + (place - 0.5) * side for size, place in zip((width, height), self.centre, strict=True)]
            return [across * side, across * side, *middle, *self.distortion]
        focal = across * width, across * width if down is None else down * height
        return [*focal, self.centre[0] * width, self.centre[1] * height, *self.distortion]


@dataclass(frozen=True)
class Pose:
    """A camera as a file gives it.

    Args:
        name: the photo's path, as the file has it.
        matrix: (3, 4) camera to world, with OpenCV's axes: x right, y down, z forward.
        lens: its intrinsics.
    """

    name: str
    matrix: Floats
    lens: Lens


def belonging_to(poses: Sequence[Pose], photos: Collection[str], base: PurePosixPath) -> dict[str, Pose]:
    """Return the pose of each photo that has one, by the photo's path.

    A photo is found by its path. If files were moved since, the end of the path is enough, if only one photo and one
    pose have it.

    Args:
        poses: the poses in the file.
        photos: paths relative to the capture's folder.
        base: the folder of the file, relative to the capture's folder.
    """
    ends: dict[tuple[str, ...], set[str]] = {}
    for photo in photos:
        for key in _ends(PurePosixPath(photo).parts):
            ends.setdefault(key, set()).add(photo)
    found: dict[str, list[Pose]] = {}
    for pose in poses:
        parts = [part for part in (*base.parts, *PurePosixPath(pose.name.replace("\\", "/")).parts) if part != "."]
        matches = [ends[key] for key in _ends(tuple(parts)) if key in ends]
        if matches and len(matches[0]) == 1:
            found.setdefault(next(iter(matches[0])), []).append(pose)
    return {photo: its[0] for photo, its in found.items() if len(its) == 1}


def by_lens(lenses: Mapping[str, Lens]) -> dict[str, tuple[int, Lens]]:
    """Return the number of each photo's lens, and that lens. Photos with nearly the same intrinsics share a lens.

    Phones give intrinsics for every photo, which differ by a few tenths of a percent.
    """
    groups: list[list[str]] = []
    for photo in sorted(lenses, key=lambda photo: (lenses[photo].focal[0], photo)):
        like = (group for group in groups if _nearly_same(lenses[photo], lenses[group[0]]))
        if (group := next(like, None)) is None:
            groups.append(group := [])
        group.append(photo)
    return {photo: (n, lenses[group[len(group) // 2]]) for n, group in enumerate(groups) for photo in group}


def _nearly_same(lens: Lens, other: Lens) -> bool:
    return (
        lens.fisheye == other.fisheye
        and lens.focal[0] <= (1 + _SAME_LENS) * other.focal[0]
        and max(abs(a - b) for a, b in zip(lens.centre, other.centre, strict=True)) <= _SAME_LENS
    )


def _ends(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the ends of a path, the longest first, each with the last name's suffix and then without."""
    for start in range(max(0, len(parts) - 32), len(parts)):
        whole = parts[start:]
        yield whole
        yield (*whole[:-1], PurePosixPath(whole[-1]).stem, "")


def checked(lens: Lens) -> Lens:
    """Return a lens unchanged.

    Raises:
        ValueError: no lens has such intrinsics.
    """
    focal = [value for value in lens.focal if value is not None]
    values = [*focal, *lens.centre, *lens.distortion, lens.shape or 1.0]
    if (
        not all(map(math.isfinite, values))
        or not all(_FOCALS[0] < value < _FOCALS[1] for value in focal)
        or not all(-0.5 < value < 1.5 for value in lens.centre)
        or max(map(abs, lens.distortion)) > 100
    ):
        raise ValueError("it holds a focal length, principal point or distortion that no lens has")
    return lens


def rigid(pose: Floats) -> Floats:
    """Return a pose (3, 4) whose rotation is exact.

    Raises:
        ValueError: it is not a pose.
    """
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all() or np.abs(pose).max() > FAR:
        raise ValueError("it holds a transform_matrix that is no 4 x 4 matrix of finite numbers")
    u, sizes, vt = np.linalg.svd(pose[:3, :3])
    if np.abs(sizes - 1).max() > _SKEW or np.linalg.det(pose[:3, :3]) < 0:
        raise ValueError("it holds a transform_matrix whose rotation is scaled, skewed or mirrored")
    return np.column_stack([u @ vt, pose[:3, 3]])
