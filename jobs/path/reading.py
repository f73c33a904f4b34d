"""Read the cameras and points of a dataset, in the frame of a model that was trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median_high
from typing import Any, NamedTuple

import numpy as np

from jobs import ply
from jobs.errors import InvalidInput
from jobs.geometry import Similarity
from jobs.path.capture import Array, Capture, unit

__all__ = ["model_to_dataset", "photo_shape", "read_capture", "read_points"]


class _Opened(NamedTuple):
    """A dataset, and where it lies in the frame of a model."""

    file: Path
    """The dataset's `transforms.json`."""
    transforms: dict[str, Any]
    """The content of that file."""
    to_model: Similarity
    """From the frame of that file to the model's frame."""

    def points(self) -> tuple[Array, Array]:
        """Return what `read_points` returns."""
        points, colours = ply.read_points(self.file.parent / self.transforms.get("ply_file_path", "."))
        return self.to_model.points(points), colours


def read_capture(dataset: Path, model: Path) -> Capture:
    """Return the cameras of a dataset, in the frame of a model that was trained on it.

    Args:
        dataset: folder with `transforms.json`, or such a file.
        model: folder with `dataparser_transforms.json`.

    Raises:
        InvalidInput: a file is missing or holds no camera.
    """
    opened = _open(dataset, model)
    photos = opened.transforms.get("frames", [])
    if not photos:
        raise InvalidInput(f"{opened.file} lists no photos. Prepare the dataset again.")
    poses = opened.to_model.poses([photo["transform_matrix"] for photo in photos])
    centres, directions = poses[:, :3, 3].copy(), unit(-poses[:, :3, 2])
    half_fields = [_half_field(opened.transforms | photo) for photo in photos]
    horizontal, vertical = np.median(half_fields, axis=0)
    points, _ = opened.points()
    depth = _typical_depth(centres, directions, points, max(horizontal, vertical))
    shape = photo_shape(opened.transforms)
    return Capture(centres, directions, depth, (float(horizontal), float(vertical)), points, shape)


def photo_shape(transforms: dict[str, Any]) -> float:
    """Return the width of most photos divided by their height; 16:9 for panoramas and photos of unknown size.

    Args:
        transforms: the content of a dataset's `transforms.json`.
    """
    photos = [transforms | photo for photo in transforms.get("frames", [])]
    shapes = [
        photo["w"] / photo["h"]
        for photo in photos
        if photo.get("w") and photo.get("h") and photo.get("camera_model") != "EQUIRECTANGULAR"
    ]
    return float(median_high(shapes)) if shapes else 16 / 9


def read_points(dataset: Path, model: Path) -> tuple[Array, Array]:
    """Return the sparse points (N, 3) of a dataset in the frame of a model, and their colours (N, 3), 0 to 255.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    return _open(dataset, model).points()


def model_to_dataset(dataset: Path, model: Path) -> Similarity:
    """Return the map from a model's frame to the frame of its dataset's `transforms.json`.

    It is the identity for datasets that `jobs.prepare` wrote.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    return _open(dataset, model).to_model.inverse()


def _open(dataset: Path, model: Path) -> _Opened:
    file = dataset if dataset.suffix == ".json" else dataset / "transforms.json"
    transforms = _read_json(file)
    return _Opened(file, transforms, _dataset_to_model(transforms, _read_json(model / "dataparser_transforms.json")))


def _dataset_to_model(transforms: dict[str, Any], saved: dict[str, Any]) -> Similarity:
    """Return the map from the frame of `transforms.json` to the model's frame.

    nerfstudio saves the map from the frame before `applied_transform` and `applied_scale`
    (`nerfstudio_dataparser.py`). The poses in `transforms.json` are in the frame after them.
    """
    applied, transform = np.eye(4), np.eye(4)
    applied[:3] = transforms.get("applied_transform", applied[:3])
    transform[:3] = saved["transform"]
    transform = transform @ np.linalg.inv(applied)
    scale = float(saved["scale"]) / float(transforms.get("applied_scale", 1.0))
    return Similarity(scale, transform[:3, :3], scale * transform[:3, 3])


def _half_field(camera: dict[str, Any]) -> tuple[float, float]:
    """Return the tangents of half the horizontal and vertical field of view of a camera of `transforms.json`."""
    if "fl_x" not in camera or camera.get("camera_model") == "EQUIRECTANGULAR":
        return 1.0, 1.0
    half = np.array([camera["w"] / 2 / camera["fl_x"], camera["h"] / 2 / camera.get("fl_y", camera["fl_x"])])
    if "FISHEYE" in camera.get("camera_model", ""):
        half = np.tan(np.minimum(half, np.radians(50)))  # a fisheye's angle grows with the distance from the centre
    return float(half[0]), float(half[1])


def _typical_depth(centres: Array, directions: Array, points: Array, half_field: float) -> float:
    """Return the median depth of the points that the cameras see, or the capture's extent where there are none."""
    extent = float(np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())) or 1.0
    points = points[:: max(1, len(points) // 2000)]
    some = slice(None, None, 1 + len(centres) // 1000)  # bounds the memory for large captures
    centres, directions = centres[some], directions[some]
    offsets = points[None] - centres[:, None]
    depths = np.einsum("npi,ni->np", offsets, directions)
    seen = depths > np.linalg.norm(offsets, axis=2) / np.hypot(1, half_field)
    return float(np.median(depths[seen])) if seen.sum() >= 10 else extent


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}. Is the dataset or model complete?") from error
