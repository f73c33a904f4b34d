"""Inspect a dataset before nerfstudio reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from jobs import light, manifest, model
from jobs.errors import InvalidInput
from jobs.names import within

__all__ = ["Dataset", "read_dataset"]


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
