"""The cameras and points of a dataset, in the frame of a model that was trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median_high
from typing import Any

import numpy as np

from jobs.errors import InvalidInput
from jobs.path.capture import Array, Capture, unit

__all__ = ["model_to_dataset", "photo_shape", "read_capture", "read_points"]

_PLY_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1"}


def read_capture(dataset: Path, model: Path) -> Capture:
    """The cameras of a dataset, in the frame of a model that was trained on it.

    Raises:
        InvalidInput: a file is missing or holds no camera.
    """
    file, meta, way = _opened(dataset, model)
    frames = meta.get("frames", [])
    if not frames:
        raise InvalidInput(f"{file} has no frames: prepare the dataset again.")
    rotation, scale, shift = way
    poses = np.array([frame["transform_matrix"] for frame in frames], dtype=np.float64)
    centres = scale * (poses[:, :3, 3] @ rotation.T + shift)
    looks = unit(-poses[:, :3, 2] @ rotation.T)
    half_fields = [_half_field(meta | frame) for frame in frames]
    horizontal, vertical = np.median(half_fields, axis=0)
    points, _ = _points(file, meta, way)
    depth = _typical_depth(centres, looks, points, max(horizontal, vertical))
    return Capture(centres, looks, depth, (float(horizontal), float(vertical)), points, photo_shape(meta))


def photo_shape(transforms: dict[str, Any]) -> float:
    """Return the width of most photos divided by their height; 16:9 where they show all round or name no size.

    Args:
        transforms: the content of a dataset's `transforms.json`.
    """
    photos = [transforms | frame for frame in transforms.get("frames", [])]
    shapes = [
        photo["w"] / photo["h"]
        for photo in photos
        if photo.get("w") and photo.get("h") and photo.get("camera_model") != "EQUIRECTANGULAR"
    ]
    return float(median_high(shapes)) if shapes else 16 / 9


def read_points(dataset: Path, model: Path) -> tuple[Array, Array]:
    """(N, 3) the sparse points of a dataset in the frame of a model, and (N, 3) their colours, 0 to 255.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    return _points(*_opened(dataset, model))


def model_to_dataset(dataset: Path, model: Path) -> tuple[Array, float, Array]:
    """Rotation (3, 3), scale and shift (3,) with which `scale * (rotation @ p + shift)` leads from a model's frame to
    that of its dataset's `transforms.json`: the identity for datasets of `jobs.prepare`.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    _, _, (rotation, scale, shift) = _opened(dataset, model)
    return rotation.T, 1 / scale, -scale * (shift @ rotation)


def _dataset_to_model(meta: dict[str, Any], saved: dict[str, Any]) -> tuple[Array, float, Array]:
    """Rotation (3, 3), scale and shift (3,) with which `scale * (rotation @ p + shift)` leads to the model's frame.

    nerfstudio saves the way from the frame before `applied_transform` and `applied_scale`
    (`nerfstudio_dataparser.py`); the poses in `transforms.json` are in the one after them.
    """
    applied, transform = np.eye(4), np.eye(4)
    applied[:3] = meta.get("applied_transform", applied[:3])
    transform[:3] = saved["transform"]
    transform = transform @ np.linalg.inv(applied)
    return transform[:3, :3], float(saved["scale"]) / float(meta.get("applied_scale", 1.0)), transform[:3, 3]


def _half_field(camera: dict[str, Any]) -> tuple[float, float]:
    """Tangents of half the horizontal and vertical field of view of a camera of `transforms.json`."""
    if "fl_x" not in camera or camera.get("camera_model") == "EQUIRECTANGULAR":
        return 1.0, 1.0
    half = np.array([camera["w"] / 2 / camera["fl_x"], camera["h"] / 2 / camera.get("fl_y", camera["fl_x"])])
    if "FISHEYE" in camera.get("camera_model", ""):
        half = np.tan(np.minimum(half, np.radians(50)))  # its angle grows with the distance from the centre
    return float(half[0]), float(half[1])


def _typical_depth(centres: Array, looks: Array, points: Array, half_field: float) -> float:
    """The median distance, along its axis, of the points before a camera; the capture's extent where there are none."""
    extent = float(np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())) or 1.0
    points = points[:: max(1, len(points) // 2000)]
    some = slice(None, None, 1 + len(centres) // 1000)  # so that memory does not grow with the photos
    centres, looks = centres[some], looks[some]
    offsets = points[None] - centres[:, None]
    depths = np.einsum("npi,ni->np", offsets, looks)
    seen = depths > np.linalg.norm(offsets, axis=2) / np.hypot(1, half_field)
    return float(np.median(depths[seen])) if seen.sum() >= 10 else extent


def _read_ply(file: Path) -> tuple[Array, Array]:
    """(N, 3) the vertices of a PLY file, text or little endian, as nerfstudio and COLMAP write it, and (N, 3) their
    colours, 0 to 255, grey where there are none; no points without a file."""
    if not file.is_file():
        return np.empty((0, 3)), np.empty((0, 3))
    with file.open("rb") as stream:
        header = []
        while (words := stream.readline(200).decode("ascii", "replace").split()) not in ([], ["end_header"]):
            header.append(words)
        count = next(int(words[2]) for words in header if words[:2] == ["element", "vertex"])
        layout = [(words[2], _PLY_TYPES[words[1]]) for words in header if words[:1] == ["property"] and len(words) == 3]
        if ["format", "ascii", "1.0"] in header:
            table = np.loadtxt(stream, max_rows=count, ndmin=2, usecols=range(len(layout)))
            columns = {name: table[:, index] for index, (name, _) in enumerate(layout)}
        else:
            vertices = np.frombuffer(stream.read(count * np.dtype(layout).itemsize), dtype=layout)
            columns = {name: vertices[name].astype(np.float64) for name, _ in layout}
    grey = np.full(count, 128.0)
    colours = [columns.get(name, grey) for name in ("red", "green", "blue")]
    return np.stack([columns[axis] for axis in "xyz"], axis=1), np.stack(colours, axis=1)


def _opened(dataset: Path, model: Path) -> tuple[Path, dict[str, Any], tuple[Array, float, Array]]:
    """The JSON file of a dataset, given as a folder or as that file, its content, and the way to a model's frame."""
    file = dataset if dataset.suffix == ".json" else dataset / "transforms.json"
    meta = _read_json(file)
    return file, meta, _dataset_to_model(meta, _read_json(model / "dataparser_transforms.json"))


def _points(file: Path, meta: dict[str, Any], way: tuple[Array, float, Array]) -> tuple[Array, Array]:
    """What `read_points` gives, of an opened dataset."""
    rotation, scale, shift = way
    points, colours = _read_ply(file.parent / meta.get("ply_file_path", "."))
    return scale * (points @ rotation.T + shift), colours


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: is this a whole dataset or model? ({error})") from error
