"""Find out whether wide lenses are fisheyes.

In a fisheye, the distance from the middle of the picture grows with the angle to the view direction; in other lenses,
with its tangent. Up to about 90° across, the terms of distortion make one from the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pycolmap

from jobs.colmap import Shown
from jobs.sfm.layout import with_cameras
from jobs.sfm.refinement import adjust
from jobs.sfm.shared import observations

__all__ = ["GUESS", "MODELS", "WIDE", "focal_lengths", "wide"]

MODELS = (pycolmap.CameraModelId.OPENCV_FISHEYE, pycolmap.CameraModelId.SIMPLE_RADIAL_FISHEYE)
"""The models of fisheyes that are used."""

GUESS = 0.32
"""The focal length of a fisheye that shows 180° across its diagonal, as a multiple of the diagonal: 1 / π."""

WIDE = 0.5
"""Focal length below which a lens can be a fisheye, as a multiple of the diagonal: it shows 90° or more across."""

_BETTER = 0.97  # largest change of the reprojection error at which a lens is taken for a fisheye
_LEAST_OBSERVATIONS = 200  # of a camera


def focal_lengths(model: pycolmap.Reconstruction, threads: int) -> dict[int, float] | None:
    """Return each camera's focal length as a fisheye, as a multiple of the diagonal; None if fisheyes fit no better.

    Both kinds of lenses are adjusted to the same observations and have as many parameters, so errors are compared.

    Args:
        model: a reconstruction with other lenses. It is not changed.
        threads: number of threads of the solver.
    """
    if not wide(model):
        return None
    photos = {image.camera_id for image in model.images.values() if image.has_pose}
    seen = observations(model)
    fisheyes = {number: _as_fisheye(model, seen, number) for number in photos}
    plain = with_cameras(model, lambda image: (model.cameras[image.camera_id], 0))
    other = with_cameras(model, lambda image: (fisheyes[image.camera_id], 0))
    errors = []
    for each in (plain, other):
        adjust(each, threads)
        errors.append(float(each.compute_mean_reprojection_error()))
    if not errors[1] < _BETTER * errors[0]:
        return None
    return {number: _per_diagonal(other.cameras[number]) for number in photos}


def wide(model: pycolmap.Reconstruction | None) -> bool:
    """Return whether a camera of a model shows so much that it may be a fisheye."""
    cameras = {image.camera_id for image in model.images.values() if image.has_pose} if model else set()
    return any(_per_diagonal(model.cameras[number]) < WIDE for number in cameras if model)


def _as_fisheye(model: pycolmap.Reconstruction, seen: Mapping[int, Shown], number: int) -> pycolmap.Camera:
    """Return the fisheye that fits best to where a camera's photos show the points, with the poses as they are."""
    given = model.cameras[number]
    centre = np.array([given.principal_point_x, given.principal_point_y])
    angles, distances = [np.empty(0)], [np.empty(0)]
    for image in model.images.values():
        if image.camera_id == number and image.has_pose:
            shown = seen[image.image_id]
            xyz = np.array([model.points3D[number].xyz for number in shown.points.tolist()]).reshape(-1, 3)
            local = xyz @ image.cam_from_world().rotation.matrix().T + image.cam_from_world().translation
            angles.append(np.arctan2(np.linalg.norm(local[:, :2], axis=1), local[:, 2]))
            distances.append(np.linalg.norm(shown.pixels - centre, axis=1))
    angle, distance = np.concatenate(angles), np.concatenate(distances)
    focal, k1 = given.mean_focal_length(), 0.0
    if len(angle) >= _LEAST_OBSERVATIONS:
        first, third = np.linalg.lstsq(np.column_stack([angle, angle**3]), distance, rcond=None)[0]
        if first > 0:
            focal, k1 = float(first), float(third / first)
    simple = given.model == pycolmap.CameraModelId.SIMPLE_RADIAL
    camera = pycolmap.Camera.create_from_model_name(
        number, "SIMPLE_RADIAL_FISHEYE" if simple else "OPENCV_FISHEYE", focal, given.width, given.height
    )
    params = list(camera.params)
    for place, value in zip(camera.principal_point_idxs(), centre, strict=True):
        params[place] = float(value)
    params[camera.extra_params_idxs()[0]] = k1
    camera.params = params
    return camera


def _per_diagonal(camera: pycolmap.Camera) -> float:
    return float(camera.mean_focal_length() / np.hypot(camera.width, camera.height))
