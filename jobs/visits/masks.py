"""Show changes: as masks of photos, on the photos themselves, and as points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs import ply
from jobs.visits.find import Patch, Surfaces
from jobs.visits.fusion import voxels
from jobs.visits.record import Kind
from jobs.visits.views import Array, Bools, View

__all__ = ["COLOURS", "draw", "mask", "write_points"]

COLOURS: dict[Kind, tuple[int, int, int]] = {"new": (46, 160, 67), "gone": (214, 40, 57), "changed": (240, 150, 20)}
_GREY = (150, 150, 150)
_EVEN = 2.0  # times light and noise: a pixel that differs by less has not changed
_BEHIND = 0.05  # share of a distance by which a surface that is gone may be behind what the photo shows


def mask(view: View, then: Surfaces, now: Surfaces, patch: Patch) -> Bools:
    """Return where (H, W) a photo of now shows a change, or the place of what is gone."""
    inside = np.zeros(len(now.cells.numbers), bool)
    inside[patch.now] = True
    index, known = now.cells.at(voxels(view.points.reshape(-1, 3), now.size))
    index, known = index.reshape(view.depths.shape), known.reshape(view.depths.shape)
    # A voxel at the edge of a change is larger than what changed. Its own pixels show where the edge is.
    even = now.off[view.name] < _EVEN * (1 + now.noise[index])
    found = known & inside[index] & (view.depths > 0) & ~even
    column, row, distance = view.camera.project(then.cells.points[patch.then])
    gone = np.zeros(view.depths.shape, np.uint8)
    for x, y, away in zip(column.tolist(), row.tolist(), distance.tolist(), strict=True):
        if away <= 0 or not (0 <= x < view.camera.width and 0 <= y < view.camera.height):
            continue
        seen = float(view.depths[int(y), int(x)])
        if seen == 0 or away < seen * (1 + _BEHIND):
            half = then.size * view.camera.focal / away / 2
            cv2.rectangle(gone, (round(x - half), round(y - half)), (round(x + half), round(y + half)), 1, cv2.FILLED)
    both = (found | ((gone > 0) & ~even)).astype(np.uint8)
    closed: Bools = cv2.morphologyEx(both, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    return closed


def draw(light: Array, masks: Sequence[tuple[Kind, Bools]], file: Path) -> None:
    """Write a photo (H, W, 3), with the changes tinted and outlined by kind.

    Args:
        light: of the photo; see `View`.
        masks: of any size.
        file: a JPEG file to write.
    """
    picture = (np.nan_to_num(np.exp(light)).clip(0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    height, width = picture.shape[:2]
    for kind, shape in masks:
        large = cv2.resize(shape.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) > 0.5
        colour = np.array(COLOURS[kind])
        picture[large] = (0.65 * picture[large] + 0.35 * colour).astype(np.uint8)
        lines, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, lines, -1, colour.tolist(), max(1, round(width / 400)), cv2.LINE_AA)
    Image.fromarray(picture).save(file, quality=88, optimize=True)


def write_points(file: Path, then: Surfaces, now: Surfaces, patches: Sequence[Patch], kinds: Sequence[Kind]) -> None:
    """Write the compared surfaces of now as grey points, and changes in the colours of their kinds."""
    grey = np.full((len(now.cells.points), 3), _GREY, np.uint8)
    points, colours = [now.cells.points], [grey]
    for patch, kind in zip(patches, kinds, strict=True):
        grey[patch.now] = COLOURS[kind]
        points.append(then.cells.points[patch.then])
        colours.append(np.full((len(patch.then), 3), COLOURS[kind], np.uint8))
    at: NDArray[np.float32] = np.concatenate(points).astype(np.float32)
    shown = np.concatenate(colours)
    columns = {name: at[:, axis] for axis, name in enumerate("xyz")}
    ply.write_vertices(
        file, {**columns, **{name: shown[:, axis] for axis, name in enumerate(("red", "green", "blue"))}}
    )
