"""Read the points that structure from motion triangulated, and where photos show each: the tracks of a dataset.

The format is COLMAP's `images.bin` and `points3D.bin`. The scheduler makes the page for measuring, so pycolmap is not
needed here.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobs.colmap import read_images
from jobs.geometry import Floats
from jobs.metric.cameras import Camera

__all__ = ["Track", "read_tracks"]

_MOST_TRACKS = 20_000
_MOST_PHOTOS = 8  # of a track: more would hardly make it more exact
_LEAST_PHOTOS = 3
_LEAST_ANGLE = 2.0  # degrees between two of its rays
_MOST_ERROR = 2.0  # px of a photo, by which a track may miss its point

_POINT = struct.Struct("<Q3d3BdQ")


class Track(NamedTuple):
    """A triangulated point.

    Args:
        position: (3,) scene units.
        colour: red, green and blue, 0 to 255.
        seen: the number of a camera, and the pixel of its picture that shows the point; at least three.
    """

    position: Floats
    colour: tuple[int, int, int]
    seen: list[tuple[int, Floats]]


def read_tracks(dataset: Path, cameras: Sequence[Camera]) -> list[Track]:
    """Return tracks that at least three of the cameras agree on, evenly chosen if there are many.

    Args:
        dataset: a folder that `jobs.prepare` wrote. Without COLMAP's files, it has no tracks.
        cameras: some of the dataset's.

    Raises:
        ValueError: a file is damaged.
    """
    folder = dataset / "colmap" / "sparse" / "0"
    if not (folder / "images.bin").is_file() or not (folder / "points3D.bin").is_file():
        return []
    try:
        points = _points((folder / "points3D.bin").read_bytes())
        seen = _seen((folder / "images.bin").read_bytes(), points, cameras)
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise ValueError(f"{folder} is damaged: {error}") from error
    chosen = []
    for point, places in sorted(seen.items()):
        if len(places) < _LEAST_PHOTOS:
            continue
        kept = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, _MOST_PHOTOS).round().astype(int))]
        position, colour = points[point]
        rays = position - np.array([cameras[number].position for number, _ in kept])
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        if (rays @ rays.T).min() <= np.cos(np.radians(_LEAST_ANGLE)):
            chosen.append(Track(position, colour, kept))
    return [chosen[k] for k in np.unique(np.linspace(0, len(chosen) - 1, _MOST_TRACKS).astype(int))] if chosen else []


def _points(content: bytes) -> dict[int, tuple[Floats, tuple[int, int, int]]]:
    """Return the position and colour of each point in `points3D.bin`, by its number."""
    [count] = struct.unpack_from("<Q", content)
    at = 8
    found = {}
    for _ in range(count):
        number, x, y, z, red, green, blue, _, length = _POINT.unpack_from(content, at)
        at += _POINT.size + 8 * length
        position = np.array([x, y, z])
        if np.isfinite(position).all():
            found[number] = position, (red, green, blue)
    if at != len(content):
        raise ValueError("points3D.bin has another length than it says")
    return found


def _seen(
    content: bytes, points: dict[int, tuple[Floats, tuple[int, int, int]]], cameras: Sequence[Camera]
) -> dict[int, list[tuple[int, Floats]]]:
    """Return which cameras see each point, and where, from `images.bin`. Observations that miss it are left out."""
    numbers = {camera.file: number for number, camera in enumerate(cameras)}
    seen: dict[int, list[tuple[int, Floats]]] = defaultdict(list)
    for shown in read_images(content):
        number = numbers.get(f"images/{shown.name}")
        known = [place for place, point in enumerate(shown.points.tolist()) if point in points]
        if number is None or not known:
            continue
        camera, positions = cameras[number], np.array([points[int(point)][0] for point in shown.points[known]])
        off = np.linalg.norm(camera.project(positions) - shown.pixels[known], axis=1)
        for place in np.array(known)[off <= _MOST_ERROR * camera.scale].tolist():
            seen[int(shown.points[place])].append((number, shown.pixels[place]))
    return {point: sorted(cameras_of, key=lambda each: each[0]) for point, cameras_of in seen.items()}
