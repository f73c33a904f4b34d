"""The photos of a visit as small pinhole views in linear light, each with the depths of the visit's model.

Positions are in the scene frame. Cameras have OpenCV's axes: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.errors import InvalidInput
from jobs.metric.cameras import Camera, Cameras

__all__ = ["BEHIND", "Array", "Bools", "Pinhole", "View", "photograph", "pinholes", "sampled"]

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]

BEHIND = 0.05
"""Tolerance of depths, as a fraction of the distance: a surface this far behind what a view sees is the same one."""

_BLUR = 0.8  # px of the reduced photo, against what is left of aliasing and grain
_DARKEST = 0.002  # of linear light; below, the logarithm would show the photo's noise


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion, with its principal point in the middle of the picture.

    Args:
        pose: (3, 4) camera to scene.
        focal: px.
        width, height: px.
    """

    pose: Array
    focal: float
    width: int
    height: int

    @cached_property
    def rays(self) -> Array:
        """Return the directions (H, W, 3), of length 1, through the pixels' centres."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / self.focal
        y = (np.arange(self.height, dtype=np.float32) + 0.5 - self.height / 2) / self.focal
        local = np.stack(np.broadcast_arrays(x[None, :], y[:, None], np.float32(1)), axis=-1)
        rays: Array = (local / np.linalg.norm(local, axis=-1, keepdims=True)) @ self.pose[:, :3].T
        return rays.astype(np.float32)

    def points(self, depths: Array) -> Array:
        """Return the points (H, W, 3) at distances (H, W) from the camera."""
        points: Array = self.pose[:, 3] + self.rays * depths[..., None]
        return points

    def project(self, points: Array) -> tuple[Array, Array, Array]:
        """Return the column and the row, px, where points (…, 3) are seen, and their distances from the camera.

        The distance is negative for points behind the camera.
        """
        local = (points - self.pose[:, 3]) @ self.pose[:, :3]
        ahead = np.maximum(local[..., 2], 1e-9)
        column = self.focal * local[..., 0] / ahead + self.width / 2
        row = self.focal * local[..., 1] / ahead + self.height / 2
        distance = np.where(local[..., 2] > 0, np.linalg.norm(local, axis=-1), -1)
        return column, row, distance.astype(np.float32)


@dataclass(frozen=True)
class View:
    """A photo as a pinhole view.

    Args:
        name: the photo's.
        camera: its pinhole camera.
        light: (H, W, 3) the natural logarithm of the linear colours; NaN outside the photo and where it is masked.
        depths: (H, W) the distances of the surfaces that the model of the same visit shows; 0 if there is none.
    """

    name: str
    camera: Pinhole
    light: Array
    depths: Array

    @cached_property
    def points(self) -> Array:
        """Return the points (H, W, 3) of the surfaces; those without a surface are at the camera."""
        return self.camera.points(self.depths)


def pinholes(dataset: Path, most: int, long_side: int) -> list[tuple[Camera, Pinhole]]:
    """Return the cameras of a dataset, at most so many and spread evenly, each with a small pinhole.

    Raises:
        InvalidInput: the cameras cannot be read, or are neither perspective ones nor fisheyes.
    """
    every = Cameras(dataset).all
    chosen = np.unique(np.linspace(0, len(every) - 1, min(len(every), most)).round().astype(int))
    found = []
    for camera in (every[index] for index in chosen):
        scale = long_side / max(camera.size)
        width, height = (max(16, round(side * scale)) for side in camera.size)
        found.append(
            (camera, Pinhole(camera.pose.astype(np.float32), float(camera.focal.mean() * scale), width, height))
        )
    return found


def photograph(dataset: Path, camera: Camera, pinhole: Pinhole) -> Array:
    """Return a photo as the pinhole sees it: the `light` of a `View`.

    Raises:
        InvalidInput: the picture is missing or damaged.
    """
    picture = _read(dataset / camera.file, "RGB")
    shrink = min(1.0, 2 * pinhole.width / picture.shape[1])  # area means first, so that nothing aliases
    size = tuple(max(1, round(side * shrink)) for side in picture.shape[1::-1])
    linear = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255) ** np.float32(2.2)
    matrix = np.array([[camera.focal[0], 0, camera.centre[0]], [0, camera.focal[1], camera.centre[1]], [0, 0, 1]])
    matrix[:2] *= (np.array(size) / camera.size)[:, None]
    matrix[:2, 2] -= 0.5  # OpenCV's first pixel centre is at 0
    wanted = np.array(
        [[pinhole.focal, 0, pinhole.width / 2 - 0.5], [0, pinhole.focal, pinhole.height / 2 - 0.5], [0, 0, 1]]
    )
    shape = pinhole.width, pinhole.height
    if camera.fisheye:
        maps = cv2.fisheye.initUndistortRectifyMap(matrix, camera.distortion, np.eye(3), wanted, shape, cv2.CV_32FC1)
    else:
        maps = cv2.initUndistortRectifyMap(matrix, camera.distortion, None, wanted, shape, cv2.CV_32FC1)
    linear = cv2.GaussianBlur(linear, (0, 0), _BLUR)
    if camera.mask:
        linear[cv2.resize(_read(dataset / camera.mask, "L"), size, interpolation=cv2.INTER_AREA) < 255] = np.nan
    outside = (float("nan"),) * 3
    warped = cv2.remap(linear, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)
    light: Array = np.log(np.maximum(warped, np.float32(_DARKEST)))
    return np.where(np.isnan(warped), np.float32("nan"), light)


def _read(file: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(mode))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}. Prepare the dataset again.") from error


def sampled(picture: Array, column: Array, row: Array, nearest: bool = False) -> Array:
    """Return the values of a picture (H, W) or (H, W, C) at pixel positions; NaN outside it."""
    at = (column - 0.5).astype(np.float32), (row - 0.5).astype(np.float32)
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    outside = (float("nan"),) * 3
    found: Array = cv2.remap(picture, *at, how, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)
    return found
