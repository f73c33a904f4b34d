"""The cameras of a dataset, and points that are triangulated from where photos show them.

Positions are in the frame of the dataset's `transforms.json`, which is the scene frame; pixels are those of the
dataset's pictures, with (0.5, 0.5) as the centre of the first one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from jobs.errors import InvalidInput
from jobs.geometry import Floats
from jobs.metric import accuracy as limits

__all__ = ["Camera", "Cameras", "Point", "Untriangulated", "triangulate"]


class Untriangulated(Exception):
    """A point cannot be triangulated. The text says why, as the rest of a sentence about the point."""


@dataclass(frozen=True)
class Camera:
    """A picture's camera.

    Args:
        name: of the photo that the picture was made of.
        file: the picture, relative to the dataset's folder.
        pose: (3, 4) camera to scene, with OpenCV's axes: x right, y down, z forward.
        size: width and height, px.
        focal, centre: (2,) px, in x and y.
        distortion: (4,) k1, k2, p1 and p2, as in OpenCV.
        scale: pixels of the picture per pixel of the photo.
    """

    name: str
    file: str
    pose: Floats
    size: tuple[int, int]
    focal: Floats
    centre: Floats
    distortion: Floats
    scale: float = 1.0

    @property
    def position(self) -> Floats:
        """The camera's centre (3,)."""
        return self.pose[:, 3]

    def project(self, points: Floats) -> Floats:
        """Return the pixels (n, 2) where points (n, 3) are seen."""
        local = (points - self.position) @ self.pose[:, :3]
        return self._distorted(local[:, :2] / local[:, 2:]) * self.focal + self.centre

    def ray(self, pixel: Floats) -> Floats:
        """Return the direction (3,), of length 1, in which a pixel (2,) looks."""
        wanted = (pixel - self.centre) / self.focal
        flat = wanted
        for _ in range(20):  # fixed-point iteration, as in OpenCV's undistortPoints
            flat = flat - (self._distorted(flat[None])[0] - wanted)
        direction = self.pose[:, :3] @ np.array([*flat, 1.0])
        unit: Floats = direction / np.linalg.norm(direction)
        return unit

    def depth(self, point: Floats) -> float:
        """Return how far in front of the camera a point (3,) is."""
        return float((point - self.position) @ self.pose[:, 2])

    def _distorted(self, flat: Floats) -> Floats:
        k1, k2, p1, p2 = self.distortion
        x, y = flat[:, 0], flat[:, 1]
        r2 = x**2 + y**2
        radial = 1 + k1 * r2 + k2 * r2**2
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
                y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
            ],
            axis=1,
        )


class Cameras:
    """The cameras of a dataset that `jobs.prepare` wrote.

    Args:
        dataset: its folder, with `transforms.json` and `dataset.json`.

    Raises:
        InvalidInput: a file is missing or damaged, or the cameras are no perspective ones.
    """

    def __init__(self, dataset: Path) -> None:
        try:
            transforms = json.loads((dataset / "transforms.json").read_text())
            manifest = dataset / "dataset.json"
            self.about: dict[str, Any] = json.loads(manifest.read_text()) if manifest.is_file() else {}
            images = {image["file"]: image for image in self.about.get("images", [])}
            scale = 1 / self.about.get("options", {}).get("downscale_factor", 1)
            frames = [transforms | frame for frame in transforms["frames"]]
            self.all = [_camera(frame, images.get(frame["file_path"], {}), scale) for frame in frames]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"dataset {dataset} cannot be read: {type(error).__name__}: {error}") from error
        if not self.all:
            raise InvalidInput(f"dataset {dataset} has no photos. Prepare it again.")
        self.tags: dict[str, dict[str, float]] = {
            image["file"]: image["tags"] for image in images.values() if image.get("tags")
        }

    @cached_property
    def _by_name(self) -> dict[str, list[Camera]]:
        found = defaultdict(list)
        for camera in self.all:
            for name in {camera.name, camera.name.rpartition("/")[2]}:
                found[name].append(camera)
        return found

    @cached_property
    def size(self) -> float:
        """The scene's size in scene units: the diagonal of the box about the camera centres."""
        return float(np.linalg.norm(np.ptp([camera.position for camera in self.all], axis=0)))

    @cached_property
    def pose_error(self) -> float:
        """The standard error that inexact poses add to the distance of two points, relative to their distance.

        It grows no more beyond their distance from the cameras. It is 0 if the dataset does not say how well its poses
        explain the photos, as one with true poses.
        """
        focals = [float(camera.focal.mean()) for camera in self.all]
        return limits.pose_error(float(self.about.get("reprojection_error_px", 0.0)), focals)

    def find(self, photo: str) -> Camera | None:
        """Return the camera of a photo, by its path or file name; None if the photo was not registered.

        Raises:
            Untriangulated: the photo was cut into several views, in which picks have no meaning.
        """
        found = self._by_name.get(photo, [])
        if len(found) > 1:
            raise Untriangulated(f"is picked in {photo}, which became {len(found)} pictures: pick it in other photos")
        return found[0] if found else None


def _camera(frame: dict[str, Any], image: dict[str, Any], scale: float) -> Camera:
    if frame.get("camera_model", "OPENCV") not in ("OPENCV", "PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        raise ValueError(f"{frame['camera_model']} cameras are not supported")
    pose = np.array(frame["transform_matrix"], float)[:3]
    pose[:, 1:3] *= -1  # OpenGL's axes to OpenCV's: y down, z forward
    if pose.shape != (3, 4) or not np.isfinite(pose).all():
        raise ValueError(f"the pose of {frame['file_path']} is no finite matrix")
    return Camera(
        name=image.get("source", frame["file_path"].rpartition("/")[2]),
        file=frame["file_path"],
        pose=pose,
        size=(int(frame["w"]), int(frame["h"])),
        focal=np.array([frame["fl_x"], frame.get("fl_y", frame["fl_x"])], float),
        centre=np.array([frame["cx"], frame["cy"]], float),
        distortion=np.array([frame.get(name, 0.0) for name in ("k1", "k2", "p1", "p2")], float),
        scale=scale,
    )


@dataclass(frozen=True)
class Point:
    """A triangulated point.

    Args:
        position: (3,) scene units.
        covariance: (3, 3) of the position, from the accuracy of its picks.
        left_out: photos whose picks contradict the others.
        distance: from the nearest of its cameras, scene units.
    """

    position: Floats
    covariance: Floats
    left_out: tuple[str, ...]
    distance: float

    @property
    def error(self) -> float:
        """The standard error of the position, scene units."""
        return float(np.sqrt(np.trace(self.covariance)))


def triangulate(cameras: Sequence[Camera], pixels: Floats, accuracy: Floats | float) -> Point:
    """Return the point that cameras see at pixels (n, 2), by least squares of the distances in pixels.

    If one of three picks or more is far off what the others show, it is left out.

    Args:
        cameras: n cameras.
        pixels: (n, 2).
        accuracy: standard deviation of each pick, px: (n,), or one number for all.

    Raises:
        Untriangulated: the picks do not determine a point.
    """
    accuracy = np.broadcast_to(np.asarray(accuracy, float), (len(pixels),))
    left_out: list[str] = []
    cameras = list(cameras)
    while True:
        position, residuals, jacobian = _solve(cameras, pixels, accuracy)
        worst = int(np.linalg.norm(residuals, axis=1).argmax())
        if np.linalg.norm(residuals[worst]) <= limits.WRONG:
            break
        if len(cameras) < 3:
            off = np.linalg.norm(residuals[worst]) * accuracy[worst]
            raise Untriangulated(f"is not the same point in its photos: the rays miss each other by {off:.0f} px")
        worst = _most_harmful(cameras, pixels, accuracy)
        left_out.append(cameras[worst].name)
        kept = [number for number in range(len(cameras)) if number != worst]
        cameras, pixels, accuracy = [cameras[k] for k in kept], pixels[kept], accuracy[kept]
    distance = min(float(np.linalg.norm(position - camera.position)) for camera in cameras)
    return Point(position, np.linalg.inv(jacobian.T @ jacobian), tuple(left_out), distance)


def _most_harmful(cameras: list[Camera], pixels: Floats, accuracy: Floats) -> int:
    """Return the pick without which the others agree best."""
    costs = []
    for left in range(len(cameras)):
        kept = [number for number in range(len(cameras)) if number != left]
        try:
            residuals = _solve([cameras[k] for k in kept], pixels[kept], accuracy[kept])[1]
        except Untriangulated:
            costs.append(np.inf)
        else:
            costs.append(float((residuals**2).sum()))
    return int(np.argmin(costs))


def _solve(cameras: list[Camera], pixels: Floats, accuracy: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the position, and the residuals (n, 2) and the Jacobian (2 n, 3) in standard deviations."""
    rays = np.array([camera.ray(pixel) for camera, pixel in zip(cameras, pixels, strict=True)])
    centres = np.array([camera.position for camera in cameras])
    angle = float(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1))))
    if angle < limits.LEAST_ANGLE:
        raise Untriangulated(f"is seen from one direction only ({angle:.1f}°): pick it in photos farther apart")
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    start = np.linalg.solve(across.sum(axis=0), np.einsum("nij,nj->i", across, centres))

    def errors(position: Floats) -> Floats:
        seen = np.concatenate([camera.project(position[None]) for camera in cameras])
        return ((seen - pixels) / accuracy[:, None]).ravel()

    if any(camera.depth(start) <= 0 for camera in cameras):
        raise Untriangulated("would be behind a camera: its picks do not belong together")
    # A Gauss-Newton step is scaled by the distance to the point, because scene units can be of any size.
    reach = float(np.linalg.norm(start - centres, axis=1).min())
    found = least_squares(errors, start, jac="3-point", method="lm", x_scale=np.full(3, reach), max_nfev=200)
    if any(camera.depth(found.x) <= 0 for camera in cameras) or not np.isfinite(found.x).all():
        raise Untriangulated("would be behind a camera: its picks do not belong together")
    return found.x, found.fun.reshape(-1, 2), found.jac
