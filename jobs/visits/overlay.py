"""Mark changes on the frames of a video along a camera path."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs import ply
from jobs.camera_path import CameraPath, Frame
from jobs.visits import masks
from jobs.visits.record import Changes
from jobs.visits.views import BEHIND, Pinhole

__all__ = ["Overlay"]

_LONG_SIDE = 320  # px, at which photos are compared, so that a voxel covers a few pixels
_WIDEST = 15  # px from the middle of a voxel to its edge, however near it is


class Overlay:
    """The changes between two visits, as frames of a camera path show them.

    Nothing is rendered: each pixel shows the nearest of the points in `changes.ply`, so a change behind an unchanged
    surface is not marked.

    Args:
        folder: a folder that `jobs.changes` wrote.
        path: in the frame of the newer model.
    """

    def __init__(self, folder: Path, path: CameraPath) -> None:
        record = Changes.model_validate_json((folder / "changes.json").read_text())
        columns = ply.read_columns(folder / "changes.ply")
        places = np.stack([columns[axis] for axis in "xyz"], axis=1)
        self._points = record.to_model.similarity.points(places).astype(np.float32)
        self._voxel = record.voxel * record.to_model.scale
        self._number = columns.get("change", np.zeros(len(places))).astype(np.int16)
        self._kinds = [change.kind for change in record.changes]
        self._path = path

    @property
    def is_empty(self) -> bool:
        """Return whether nothing has changed, or the path's projection cannot be marked."""
        return not self._number.any() or self._path.camera_type != "perspective"

    def labels(self, frame: Frame) -> masks.Labels:
        """Return which change each pixel of a small picture of a frame shows, from 1; 0 for none."""
        camera = self._camera(frame)
        column, row, distance = camera.project(self._points)
        half = self._voxel * camera.focal / np.maximum(distance, 1e-9) / 2
        seen = (distance > self._voxel) & (np.abs(column - camera.width / 2) < camera.width / 2 + half)
        seen &= np.abs(row - camera.height / 2) < camera.height / 2 + half
        # A change on a surface is as near as the surface, and in the same voxels.
        nearness = distance * np.where(self._number > 0, 1 - BEHIND / 2, 1)
        far_first = np.flatnonzero(seen)[np.argsort(-nearness[seen], kind="stable")]
        shown = np.zeros((camera.height, camera.width), np.int16)
        reach = half[far_first].round().clip(1, _WIDEST).astype(int)
        for x, y, r, number in zip(
            column[far_first].astype(int).tolist(),
            row[far_first].astype(int).tolist(),
            reach.tolist(),
            self._number[far_first].tolist(),
            strict=True,
        ):
            shown[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] = number
        closed: masks.Labels = cv2.morphologyEx(shown, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        return closed

    def mark(self, picture: NDArray[np.uint8], labels: masks.Labels) -> NDArray[np.uint8]:
        """Return a copy of a picture of that frame, with the changes tinted and outlined by kind."""
        picture = picture.copy()
        masks.tint(picture, labels, self._kinds)
        return picture

    def _camera(self, frame: Frame) -> Pinhole:
        width, height = self._path.even_size
        scale = min(1.0, _LONG_SIDE / max(width, height))
        small = max(1, round(width * scale)), max(1, round(height * scale))
        pose = np.array(frame.camera_to_world).reshape(4, 4)[:3] * [1, -1, -1, 1]  # OpenGL's axes to OpenCV's
        focal = small[1] / 2 / math.tan(math.radians(frame.fov) / 2)
        return Pinhole(pose.astype(np.float32), focal, *small)
