"""Find the lenses of photos that do not name their camera: photos of one size can be of several cameras or zooms."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pycolmap

from jobs.sfm.layout import with_cameras
from jobs.sfm.refinement import adjust

__all__ = ["by_focal_length", "focal_lengths"]

_APART = 0.08  # share by which the focal lengths of two lenses differ at least
_SAME = 0.04  # share by which the medians of two sizes of one lens differ at most
_TIMES_SCATTER = 4.0  # the gap between two lenses in terms of the scatter within each
_LEAST_PHOTOS = 2  # of a lens


def focal_lengths(model: pycolmap.Reconstruction, names: Collection[str], threads: int) -> dict[str, float]:
    """Return the focal length of each photo, estimated per photo, as a multiple of the picture's diagonal.

    Args:
        model: a reconstruction in which photos can share a camera. It is not changed.
        names: the photos whose focal lengths are estimated.
        threads: number of threads of the solver.
    """
    apart = _apart(model, names)
    adjust(apart, threads)
    found = {}
    for image in apart.images.values():
        camera = apart.cameras[image.camera_id]
        if image.name in names:
            found[str(image.name)] = float(camera.mean_focal_length() / np.hypot(camera.width, camera.height))
    return found


def by_focal_length(focals: Mapping[str, float], cameras: Mapping[str, str] | None = None) -> list[list[str]]:
    """Group photos by lens, if their focal lengths differ clearly. Otherwise, return one group.

    Args:
        focals: the focal length of each photo, estimated per photo.
        cameras: a key of each photo's camera, for example its size. Photos of different cameras share a lens only if
            the medians of their focal lengths agree.
    """
    order = sorted(focals, key=lambda name: (focals[name], name))
    values = np.log([focals[name] for name in order])
    gaps = np.diff(values)
    limit = max(float(np.log1p(_APART)), _TIMES_SCATTER * float(np.median(gaps)) if len(gaps) else 0.0)
    groups: list[list[str]] = []
    for number, name in enumerate(order):
        if number == 0 or gaps[number - 1] > limit:
            groups.append([])
        groups[-1].append(name)
    groups = groups if all(len(group) >= _LEAST_PHOTOS for group in groups) else [order]
    return [lens for group in groups for lens in (_agreeing(group, focals, cameras) if cameras else [group])]


def _agreeing(group: Sequence[str], focals: Mapping[str, float], cameras: Mapping[str, str]) -> list[list[str]]:
    """Return the photos of the cameras that agree with the most frequent one, then those of each other camera."""
    of_camera: dict[str, list[str]] = {}
    for name in group:
        of_camera.setdefault(cameras[name], []).append(name)
    first, *others = sorted(of_camera.values(), key=len, reverse=True)
    usual = float(np.median([focals[name] for name in first]))
    same, apart = list(first), []
    for its in others:
        if abs(float(np.median([focals[name] for name in its])) / usual - 1) < _SAME:
            same += its
        else:
            apart.append(its)
    return [same, *apart]


def _apart(model: pycolmap.Reconstruction, names: Collection[str]) -> pycolmap.Reconstruction:
    """Return a copy of a model in which each of these photos has a separate camera."""
    cameras: dict[str | int, pycolmap.Camera] = {}

    def camera_of(image: pycolmap.Image) -> tuple[pycolmap.Camera, int]:
        given, number = model.cameras[image.camera_id], len(cameras) + 1
        if image.name not in names:
            camera = pycolmap.Camera(
                camera_id=number, model=given.model, width=given.width, height=given.height, params=given.params
            )
            return cameras.setdefault(image.camera_id, camera), 0
        camera = pycolmap.Camera.create_from_model_name(  # a single photo cannot determine more parameters
            number, "SIMPLE_RADIAL", given.mean_focal_length(), given.width, given.height
        )
        return cameras.setdefault(image.name, camera), 0

    return with_cameras(model, camera_of)
