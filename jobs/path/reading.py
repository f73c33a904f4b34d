"""Read the cameras and points of a dataset, in the model frame."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median_high
from typing import Any

import numpy as np

from jobs import ply
from jobs.errors import InvalidInput
from jobs.geometry import Similarity
from jobs.names import within
from jobs.path.photos import Array, PosedPhotos, panoramas, unit

__all__ = ["model_to_dataset", "parse_photos", "photo_shape", "read_photos"]

_SAVED = "dataparser_transforms.json"


def read_photos(dataset: Path, model: Path) -> PosedPhotos:
    """Return the cameras of a dataset, in the model frame.

    Args:
        dataset: folder with `transforms.json`, or such a file.
        model: folder with `dataparser_transforms.json`.

    Raises:
        InvalidInput: a file is missing, or does not contain what it should.
    """
    file, transforms = _read_transforms(dataset)
    saved = _read_json(model / _SAVED)
    try:
        cloud = within(file.parent, transforms.get("ply_file_path", "."))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{file} names a wrong file of points: {error}. Prepare the dataset again.") from error
    return parse_photos(str(file), transforms, saved, cloud.read_bytes() if cloud.is_file() else b"")


def parse_photos(source: str, transforms: dict[str, Any], saved: dict[str, Any], cloud: bytes) -> PosedPhotos:
    """Return what `read_photos` returns, of the contents of the files.

    Args:
        source: what error messages call `transforms`.
        transforms: the content of the dataset's `transforms.json`.
        saved: the content of the model's `dataparser_transforms.json`.
        cloud: the content of the PLY file of sparse points, in the frame of `transforms`; empty without such a file.

    Raises:
        InvalidInput: `transforms` lists no photos, a key is missing or has a wrong value, or the PLY file is damaged.
    """
    photos = transforms.get("frames", [])
    if not photos:
        raise InvalidInput(f"{source} lists no photos. Prepare the dataset again.")
    try:
        to_model = _dataset_to_model(transforms, saved)
        poses = to_model.poses([photo["transform_matrix"] for photo in photos])
        half_fields = [_half_field(transforms | photo) for photo in photos]
        shape = photo_shape(transforms)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, np.linalg.LinAlgError) as error:
        raise InvalidInput(
            f"{source} or {_SAVED} of its model is damaged ({type(error).__name__}: {error}). "
            "Prepare the dataset and train the model again."
        ) from error
    centres, directions = poses[:, :3, 3].copy(), unit(-poses[:, :3, 2])
    horizontal, vertical = np.median(half_fields, axis=0)
    points, colours = ply.parse_points(cloud, f"the file of sparse points of {source}") if cloud else ply.NO_POINTS
    points = to_model.points(points)
    depth = _typical_depth(centres, directions, points, max(horizontal, vertical))
    return PosedPhotos(centres, directions, depth, (float(horizontal), float(vertical)), points, colours, shape)


def photo_shape(transforms: dict[str, Any]) -> float:
    """Return the width of most photos divided by their height; 16:9 for 360° photos and photos of unknown size.

    Args:
        transforms: the content of a dataset's `transforms.json`.
    """
    photos = [transforms | photo for photo in transforms.get("frames", [])]
    poses = np.array([photo["transform_matrix"] for photo in photos if "transform_matrix" in photo], float)
    if len(poses) and panoramas(poses.reshape(-1, 4, 4)[:, :3, 3]):
        return 16 / 9
    shapes = [
        photo["w"] / photo["h"]
        for photo in photos
        if photo.get("w") and photo.get("h") and photo.get("camera_model") != "EQUIRECTANGULAR"
    ]
    return float(median_high(shapes)) if shapes else 16 / 9


def model_to_dataset(dataset: Path, model: Path) -> Similarity:
    """Return the map from the model frame to the scene frame, that of `transforms.json`.

    It is the identity for datasets that `jobs.prepare` wrote.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    _, transforms = _read_transforms(dataset)
    return _dataset_to_model(transforms, _read_json(model / _SAVED)).inverse()


def _read_transforms(dataset: Path) -> tuple[Path, dict[str, Any]]:
    file = dataset if dataset.suffix == ".json" else dataset / "transforms.json"
    return file, _read_json(file)


def _dataset_to_model(transforms: dict[str, Any], saved: dict[str, Any]) -> Similarity:
    """Return the map from the scene frame, that of `transforms.json`, to the model frame.

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
    """Return the median depth of the points that the cameras see, or the photos' extent where there are none."""
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
