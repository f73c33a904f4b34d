"""Show changes: as masks of photos, on the photos themselves, and as points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs import ply
from jobs.visits.find import Patch, Surfaces
from jobs.visits.fusion import voxels
from jobs.visits.record import Kind
from jobs.visits.views import BEHIND, Array, View

__all__ = ["COLOURS", "Labels", "draw", "label", "tint", "write_points"]

Labels = NDArray[np.int16]

COLOURS: dict[Kind, tuple[int, int, int]] = {
    "new": (46, 160, 67),
    "gone": (214, 40, 57),
    "moved": (40, 110, 230),
    "changed": (240, 150, 20),
}
_GREY = (150, 150, 150)
_EVEN = 2.0  # times light and noise: a pixel that differs by less has not changed


def label(view: View, then: Surfaces, now: Surfaces, patches: Sequence[Patch]) -> Labels:
    """Return which change each pixel (H, W) of a photo of now shows: 1 for the first patch, and so on; 0 for none.

    What is gone is shown at its place.
    """
    changed = np.zeros(len(now.cells.numbers), np.int16)
    for number, patch in enumerate(patches, 1):
        changed[patch.now] = number
    index, known = now.cells.at(voxels(view.points.reshape(-1, 3), now.size))
    index, known = index.reshape(view.depths.shape), known.reshape(view.depths.shape)
    labels = np.where(known & (view.depths > 0), changed[index], 0)
    for number, patch in enumerate(patches, 1):
        column, row, distance = view.camera.project(then.cells.points[patch.then])
        for x, y, away in zip(column.tolist(), row.tolist(), distance.tolist(), strict=True):
            if away <= 0 or not (0 <= x < view.camera.width and 0 <= y < view.camera.height):
                continue
            seen = float(view.depths[int(y), int(x)])
            if seen == 0 or away < seen * (1 + BEHIND):
                half = then.size * view.camera.focal / away / 2
                corners = (round(x - half), round(y - half)), (round(x + half), round(y + half))
                cv2.rectangle(labels, *corners, number, cv2.FILLED)
    # A voxel at the edge of a change is larger than what changed. Its own pixels show where the edge is.
    labels[now.off[view.name] < _EVEN * (1 + now.noise[index])] = 0
    closed: Labels = cv2.morphologyEx(labels, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return closed


def draw(light: Array, labels: Labels, kinds: Sequence[Kind], file: Path) -> None:
    """Write a photo (H, W, 3), with the changes tinted and outlined by kind.

    Args:
        light: of the photo; see `View`.
        labels: see `label`; of any size.
        kinds: of the changes.
        file: a JPEG file to write.
    """
    picture = (np.nan_to_num(np.exp(light)).clip(0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    tint(picture, labels, kinds)
    Image.fromarray(picture).save(file, quality=88, optimize=True)


def tint(picture: NDArray[np.uint8], labels: Labels, kinds: Sequence[Kind]) -> None:
    """Tint and outline changes in a picture (H, W, 3), by kind. See `draw`."""
    height, width = picture.shape[:2]
    for number in np.unique(labels[labels > 0]):
        shape = (labels == number).astype(np.float32)
        large = cv2.resize(shape, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5
        colour = np.array(COLOURS[kinds[number - 1]])
        picture[large] = (0.65 * picture[large] + 0.35 * colour).astype(np.uint8)
        lines, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, lines, -1, colour.tolist(), max(1, round(width / 400)), cv2.LINE_AA)


def write_points(
    file: Path,
    then: Surfaces,
    now: Surfaces,
    patches: Sequence[Patch],
    kinds: Sequence[Kind],
    listed: Sequence[int],
) -> None:
    """Write the compared surfaces of now as grey points, and changes in the colours of their kinds.

    Args:
        file: a PLY file. Its property `change` is the place in the list of changes, from 1; 0 for what is unchanged.
        then, now: the surfaces.
        patches, kinds: the parts that changed.
        listed: the place of each patch in the list of changes, from 0.
    """
    grey = np.full((len(now.cells.points), 3), _GREY, np.uint8)
    number = np.zeros(len(grey), np.uint16)
    points, colours, numbers = [now.cells.points], [grey], [number]
    for patch, kind, place in zip(patches, kinds, listed, strict=True):
        grey[patch.now], number[patch.now] = COLOURS[kind], place + 1
        points.append(then.cells.points[patch.then])
        colours.append(np.full((len(patch.then), 3), COLOURS[kind], np.uint8))
        numbers.append(np.full(len(patch.then), place + 1, np.uint16))
    at: NDArray[np.float32] = np.concatenate(points).astype(np.float32)
    shown = np.concatenate(colours)
    columns: dict[str, NDArray[Any]] = {name: at[:, axis] for axis, name in enumerate("xyz")}
    columns |= {name: shown[:, axis] for axis, name in enumerate(("red", "green", "blue"))}
    ply.write_vertices(file, {**columns, "change": np.concatenate(numbers)})
