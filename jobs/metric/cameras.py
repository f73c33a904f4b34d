"""The cameras of a dataset.

Positions are in the scene frame, that of the dataset's `transforms.json`. Pixels are those of the dataset's pictures;
the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jobs.errors import InvalidInput
from jobs.geometry import Floats
from jobs.metric import accuracy as limits

__all__ = ["Camera", "Cameras", "Untriangulated"]


class Untriangulated(Exception):
    """A point cannot be triangulated. The text says why, as the rest of a sentence about the point."""


@dataclass(frozen=True)
class Camera:
    """A picture's camera.

    Args:
        name: the photo that the picture was made from.
        file: the picture, relative to the dataset's folder.
        pose: (3, 4) camera to scene, with OpenCV's axes: x right, y down, z forward.
        size: width and height, px.
        focal, centre: (2,) px, in x and y.
        distortion: (4,) k1, k2, p1 and p2, as in OpenCV; k1 to k4 of a fisheye.
        scale: pixels of the picture per pixel of the photo.
        mask: a picture that is white where the photo counts, relative to the dataset's folder; "" without a mask.
        fisheye: whether the lens is a fisheye, as in OpenCV.
    """

    name: str
    file: str
    pose: Floats
    size: tuple[int, int]
    focal: Floats
    centre: Floats
    distortion: Floats
    scale: float = 1.0
    mask: str = ""
    fisheye: bool = False

    @property
    def position(self) -> Floats:
        """Return the camera's centre (3,), in the scene frame."""
        return self.pose[:, 3]

    def project(self, points: Floats) -> Floats:
        """Return the pixels (n, 2) where points (n, 3) are seen."""
        local = (points - self.position) @ self.pose[:, :3]
        return self._distorted(local[:, :2] / local[:, 2:]) * self.focal + self.centre

    def ray(self, pixel: Floats) -> Floats:
        """Return the direction (3,), of length 1, in which a pixel (2,) looks."""
        wanted = (pixel - self.centre) / self.focal
        if self.fisheye:
            off = float(np.linalg.norm(wanted))
            angle = off
            for _ in range(20):  # Newton's method
                angle -= (float(self._bent(np.array(angle))) - off) / float(self._slope(angle))
            local = np.array([*(wanted * np.sin(angle) / max(off, 1e-12)), np.cos(angle)])
            towards: Floats = self.pose[:, :3] @ local
            return towards
        flat = wanted
        for _ in range(20):  # fixed-point iteration, as in OpenCV's undistortPoints
            flat = flat - (self._distorted(flat[None])[0] - wanted)
        direction = self.pose[:, :3] @ np.array([*flat, 1.0])
        unit: Floats = direction / np.linalg.norm(direction)
        return unit

    def depth(self, point: Floats) -> float:
        """Return how far in front of the camera a point (3,) is."""
        return float((point - self.position) @ self.pose[:, 2])

    def _bent(self, angle: Floats) -> Floats:
        """Return how far from the principal point, in focal lengths, a fisheye shows rays at angles to its axis."""
        square = angle**2
        powers = square[..., None] ** np.arange(1, 5)
        bent: Floats = angle * (1 + powers @ self.distortion)
        return bent

    def _slope(self, angle: float) -> float:
        powers = angle ** (2 * np.arange(1, 5)) * (2 * np.arange(1, 5) + 1)
        return max(0.1, 1 + float(powers @ self.distortion))

    def _distorted(self, flat: Floats) -> Floats:
        if self.fisheye:
            radius = np.hypot(flat[:, 0], flat[:, 1])
            bent = self._bent(np.arctan(radius)) / np.maximum(radius, 1e-12)
            shown: Floats = flat * bent[:, None]
            return shown
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
        InvalidInput: a file is missing or damaged, or the cameras are neither perspective ones nor fisheyes.
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
            raise InvalidInput(f"dataset {dataset} cannot be read ({error!r}). Prepare it again.") from error
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
        """Return the scene's size in scene units: the diagonal of the box about the camera centres."""
        return float(np.linalg.norm(np.ptp([camera.position for camera in self.all], axis=0)))

    @cached_property
    def pose_error(self) -> float:
        """Return the standard error that inexact poses add to the distance of two points, relative to their distance.

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
    model = frame.get("camera_model", "OPENCV")
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV_FISHEYE"):
        raise ValueError(f"{model} cameras are not supported")
    fisheye = model == "OPENCV_FISHEYE"
    names = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2")
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
        distortion=np.array([frame.get(name, 0.0) for name in names], float),
        scale=scale,
        mask=frame.get("mask_path") or "",
        fisheye=fisheye,
    )
