"""Find photos that were cropped off the middle after they were taken.

Their principal point is not in the middle of the picture. Structure from motion, which holds it there, turns and moves
such photos instead, and bends the model around them, with small residuals.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from jobs.geometry import Floats
from jobs.sfm.layout import with_cameras
from jobs.sfm.refinement import adjust, adjust_principal_points
from jobs.sfm.shared import observations, registered_images

__all__ = ["Crop", "find_crops", "gains"]

_POINTS = 200  # of a photo, which are compared
_LEAST_POINTS = 50
_GAIN = 0.06  # share of a photo's errors that another principal point removes, from which on it may be cropped
_STEPS = 4
_OFF_MIDDLE = 0.03  # of the diagonal: no lens has its principal point farther off
_SAME_FOCAL = 0.05  # by which focal lengths of photos of one lens differ at most
_ANOTHER_GAIN = 0.02  # once there are such photos
_OF_MOST = 0.5  # of the greatest gain: photos that gain less may only follow a bent model
_ROUNDS = 6


class Crop(NamedTuple):
    """The camera of a cropped photo: its focal length in diagonals of the picture, and its principal point.

    The principal point is in terms of width and height.
    """

    focal: float
    centre: tuple[float, float]


def find_crops(model: pycolmap.Reconstruction, threads: int) -> dict[str, Crop]:
    """Return the photos that are cropped off the middle, by name.

    Photos whose errors another principal point would reduce get separate cameras, a few at a time: the first ones bend
    the model, so that others show only when it is straight. In the end, those whose principal point is near the middle
    after all share their old camera again.

    Args:
        model: a reconstruction without rigs. It is not changed.
        threads: number of threads of the solver.
    """
    camera_of = {str(image.name): image.camera_id for image in registered_images(model)}
    apart: set[str] = set()
    for _ in range(_ROUNDS):
        left = {name: gain for name, gain in gains(model).items() if name not in apart}
        most = max(left.values(), default=0.0)
        if most < (least := _ANOTHER_GAIN if apart else _GAIN):
            break
        apart |= {name for name, gain in left.items() if gain > max(least, _OF_MOST * most)}
        model = _separated(model, apart, camera_of, threads)
    if apart:
        apart -= _whole(model, apart, camera_of)
        model = _separated(model, apart, camera_of, threads)
    return {
        str(image.name): _crop(model.cameras[image.camera_id])
        for image in registered_images(model)
        if image.name in apart
    }


def gains(model: pycolmap.Reconstruction) -> dict[str, float]:
    """Return which share of its errors each photo loses if its principal point is free, with all points as they are."""
    found: dict[str, float] = {}
    seen = observations(model)
    for image in registered_images(model):
        shown = seen[image.image_id]
        chosen = np.linspace(0, len(shown.points) - 1, min(_POINTS, len(shown.points))).round().astype(int)
        if len(chosen) >= _LEAST_POINTS:
            points = np.array([model.points3D[number].xyz for number in shown.points[chosen].tolist()])
            found[str(image.name)] = _gain(model.cameras[image.camera_id], image, points, shown.pixels[chosen])
    return found


def _gain(camera: pycolmap.Camera, image: pycolmap.Image, points: Floats, pixels: Floats) -> float:
    pose = image.cam_from_world()
    rotation, centre = pose.rotation.matrix(), pose.translation
    diagonal = float(np.hypot(camera.width, camera.height))
    middle = np.array([camera.width, camera.height]) / 2

    def errors(change: Floats) -> Floats:
        """Return residuals (2 n,) px for a change of the rotation, position, focal length and principal point."""
        local = points @ (Rotation.from_rotvec(change[:3]).as_matrix() @ rotation).T + centre + change[3:6]
        local[:, 2] = np.maximum(local[:, 2], 1e-9)
        at = np.asarray(camera.img_from_cam(local), float)
        moved: Floats = (at - middle) * np.exp(change[6]) + middle + change[7:] * diagonal
        return (moved - pixels).ravel()

    step = np.full(9, 1e-5)
    step[3:6] *= float(np.median((points @ rotation.T + centre)[:, 2]))

    def cost(free: int) -> float:
        """Return the robust sum of errors, with the first parameters free."""
        change = np.zeros(9)
        for _ in range(_STEPS):
            now = errors(change)
            rows = np.stack([(errors(change + step * unit) - now) / step[n] for n, unit in enumerate(np.eye(9)[:free])])
            weight = 1 / (1 + now**2)
            change[:free] -= np.linalg.lstsq((rows * weight) @ rows.T, (rows * weight) @ now, rcond=None)[0]
        return float(np.log1p(errors(change) ** 2).sum())

    return 1 - cost(9) / max(cost(7), 1e-12)


def _separated(
    model: pycolmap.Reconstruction, apart: Collection[str], camera_of: Mapping[str, int], threads: int
) -> pycolmap.Reconstruction:
    """Return an adjusted copy of a model in which some photos have separate cameras, with free principal points.

    Args:
        apart: the names of these photos.
        camera_of: the numbers of the cameras that the others share.
    """
    cameras: dict[str | int, pycolmap.Camera] = {}

    def chosen(image: pycolmap.Image) -> tuple[pycolmap.Camera, int]:
        given, name = model.cameras[image.camera_id], str(image.name)
        key: str | int = name if name in apart else camera_of[name]
        if key not in cameras:
            camera = pycolmap.Camera.create_from_model_name(
                len(cameras) + 1, "SIMPLE_RADIAL", given.mean_focal_length(), given.width, given.height
            )
            if name in apart:
                camera.principal_point_x, camera.principal_point_y = given.principal_point_x, given.principal_point_y
            cameras[key] = camera
        return cameras[key], 0

    other = with_cameras(model, chosen)
    shared = [camera.camera_id for key, camera in cameras.items() if key not in apart]
    adjust_principal_points(other, threads)
    for number in shared:
        camera = other.cameras[number]
        camera.principal_point_x, camera.principal_point_y = camera.width / 2, camera.height / 2
    adjust(other, threads)
    adjust_principal_points(other, threads, shared)
    return other


def _whole(model: pycolmap.Reconstruction, apart: Collection[str], camera_of: Mapping[str, int]) -> set[str]:
    """Return the separate photos that are not cropped: their lens is that of the photos that share a camera."""
    cameras = {str(image.name): model.cameras[image.camera_id] for image in registered_images(model)}
    shared = {camera_of[name]: _crop(camera).focal for name, camera in cameras.items() if name not in apart}
    found: set[str] = set()
    for name in apart:
        usual, off = shared.get(camera_of[name]), _off_middle(cameras[name])
        if usual is None:  # no other photo has this size
            whole = off < _OFF_MIDDLE / 2
        else:
            whole = off < _OFF_MIDDLE and abs(_crop(cameras[name]).focal / usual - 1) < _SAME_FOCAL
        if whole:
            found.add(name)
    return found


def _off_middle(camera: pycolmap.Camera) -> float:
    off = camera.principal_point_x - camera.width / 2, camera.principal_point_y - camera.height / 2
    return float(np.hypot(*off) / np.hypot(camera.width, camera.height))


def _crop(camera: pycolmap.Camera) -> Crop:
    focal = camera.mean_focal_length() / float(np.hypot(camera.width, camera.height))
    return Crop(focal, (camera.principal_point_x / camera.width, camera.principal_point_y / camera.height))
