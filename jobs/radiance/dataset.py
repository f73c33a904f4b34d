"""Inspect a dataset before nerfstudio reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobs import light, manifest, model, ply
from jobs.errors import InvalidInput
from jobs.names import within

__all__ = ["Dataset", "nearest_content", "read_dataset"]

_FEW = 20  # points that may float in front of a camera by mistake
_FILES = {"file_path", "mask_path", "depth_file_path", "ply_file_path"}
"""The members of `transforms.json` that name a file. A dataset from elsewhere may name any file of this machine."""


class Dataset(NamedTuple):
    """The properties of a dataset that training depends on."""

    path: Path
    """The folder, or the JSON file itself if it has another name than transforms.json."""
    images: int
    """The number of photos."""
    longest_side: int
    """Of the largest photo at full size, in px."""
    pyramid: tuple[int, ...]
    """The factors for which every photo exists in an `images_<factor>` folder, including 1."""
    in_scene_frame: bool
    """Whether the poses are already oriented, centred and scaled."""
    has_depth: bool
    checksum: str
    """SHA-256 of the JSON file."""
    light: light.Light | None = None
    """How the light differs between the photos; None if it was not measured."""


def read_dataset(path: Path) -> Dataset:
    """Inspect a dataset's `transforms.json` and its image pyramid.

    Raises:
        InvalidInput: the dataset cannot be trained on. The text names the file and the problem.
    """
    file = model.transforms_file(path)
    try:
        content = json.loads(file.read_text())
        frames = content["frames"]
        sides = [max(int(frame.get("w", content.get("w"))), int(frame.get("h", content.get("h")))) for frame in frames]
        poses = [value for frame in frames for row in frame["transform_matrix"] for value in row]
        names = [Path(frame["file_path"]) for frame in frames]
        for each in (content, *frames):
            for key in _FILES & each.keys():
                within(file.parent, each[key])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{file} is not a nerfstudio dataset: {error!r}. Prepare the dataset again.") from error
    if len(frames) < 2:
        raise InvalidInput(f"{file} has {len(frames)} photos. Training needs at least 2, because one is held out.")
    if not all(math.isfinite(value) for value in poses):
        raise InvalidInput(f"{file} contains a pose that is not finite. Prepare the dataset again.")
    if missing := [name for name in names if not (file.parent / name).is_file()]:
        raise InvalidInput(
            f"{file} lists {len(missing)} photos that do not exist, for example {missing[0]}. Prepare it again."
        )
    pyramid = [f for f in (2, 4, 8, 16) if all((file.parent / f"images_{f}" / name.name).is_file() for name in names)]
    return Dataset(
        path=path,
        images=len(frames),
        longest_side=max(sides),
        pyramid=(1, *pyramid),
        in_scene_frame="applied_scale" in content,
        has_depth="depth_file_path" in frames[0],
        checksum=manifest.checksum(file),
        light=light.of_dataset(file.parent),
    )


def nearest_content(dataset: Dataset) -> float | None:
    """Return how far the nearest things are from a typical camera, in units of the scene frame.

    Returns:
        The median over the cameras of the distance to the nearest points of structure from motion, except the very
        nearest; None if the dataset has no scene frame or too few points.

    Raises:
        InvalidInput: the file of the points is damaged.
    """
    from scipy.spatial import cKDTree

    file = model.transforms_file(dataset.path)
    content = json.loads(file.read_text())
    cloud = file.parent / content.get("ply_file_path", ".")
    if not dataset.in_scene_frame or not cloud.is_file():
        return None
    points, _ = ply.parse_points(cloud.read_bytes(), str(cloud))
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 2 * _FEW:
        return None
    cameras = np.array([frame["transform_matrix"] for frame in content["frames"]], dtype=float)[:, :3, 3]
    return float(np.median(cKDTree(points).query(cameras, _FEW)[0][:, -1]))
