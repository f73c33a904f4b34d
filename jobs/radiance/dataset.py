"""What training has to know of a dataset before nerfstudio reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from jobs import manifest, model
from jobs.errors import InvalidInput

__all__ = ["Dataset", "read_dataset"]


class Dataset(NamedTuple):
    """What training needs to know of a dataset before nerfstudio reads it."""

    path: Path
    """The folder, or the JSON file itself where it isn't called transforms.json."""
    images: int
    longest_side: int
    """px, of the largest image at full size."""
    pyramid: tuple[int, ...]
    """Factors at which every image exists in an `images_<factor>` folder, 1 included."""
    in_scene_frame: bool
    """The poses are already oriented, centred and scaled."""
    has_depth: bool
    has_masks: bool
    checksum: str
    """SHA-256 of the transforms."""


def read_dataset(path: Path) -> Dataset:
    """Look at a dataset's `transforms.json` and pyramid.

    Raises:
        InvalidInput: it cannot be trained on; the text names the file and key.
    """
    file = model.transforms_file(path)
    try:
        content = json.loads(file.read_text())
        frames = content["frames"]
        sides = [max(int(frame.get("w", content.get("w"))), int(frame.get("h", content.get("h")))) for frame in frames]
        poses = [value for frame in frames for row in frame["transform_matrix"] for value in row]
        names = [Path(frame["file_path"]) for frame in frames]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{file} is not a nerfstudio dataset: {error!r}; make it with jobs.prepare") from error
    if len(frames) < 2:
        raise InvalidInput(f"{file} has {len(frames)} photos; at least 2 are needed, one of them to hold out")
    if not all(math.isfinite(value) for value in poses):
        raise InvalidInput(f"{file} holds a pose that is not finite; prepare the dataset again")
    if missing := [name for name in names if not (file.parent / name).is_file()]:
        raise InvalidInput(f"{file} names {len(missing)} photos that are not there, the first: {missing[0]}")
    pyramid = [f for f in (2, 4, 8, 16) if all((file.parent / f"images_{f}" / name.name).is_file() for name in names)]
    return Dataset(
        path=path,
        images=len(frames),
        longest_side=max(sides),
        pyramid=(1, *pyramid),
        in_scene_frame="applied_scale" in content,
        has_depth="depth_file_path" in frames[0],
        has_masks="mask_path" in frames[0],
        checksum=manifest.checksum(file),
    )
