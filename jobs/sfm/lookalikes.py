"""Find places that structure from motion confused: identical fronts, and places joined by chance matches.

Pictures from nearly the same pose show the same points. Pictures of two places that look alike share only the points of
what looks alike. Around it, each shows other points where those of the other should be. Such conflicting observations
are the idea of Heinly et al., "Correcting for Duplicate Scene Structure in Sparse 3D
Reconstruction", ECCV 2014.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import pycolmap
from numpy.typing import NDArray

from jobs.colmap import Shown
from jobs.geometry import Floats
from jobs.sfm.machine import threads
from jobs.sfm.shared import (
    grid_cells,
    in_sight,
    most_shared,
    observations,
    registered_images,
    shared_by_name,
    shared_points,
)

__all__ = ["loosely_joined", "places"]

_GRID = 8  # cells along each side of a picture
_FEW = 4  # points: cells with fewer are not compared
_CHANCE = 0.02  # greatest probability that no point of a cell is found again by chance
_LEAST_SHARED = 15  # points that two pictures show: COLMAP's least number of inlier matches
_ANGLE = 15.0  # degrees between the rays to a point: features are not found again from other directions
_ZOOM = 1.35  # factor between the distances to a point: nor are they from other distances
_USUAL = 0.08  # share of conflicting cells. Measured: at most 0.03 of neighbours in one place, 0.1 to 0.4 across two
_COMPARED = 8  # cells: a pair with fewer is not judged
_LEAST_CELLS = 40  # of two groups of pictures that are compared
_LEAST_PART = 3  # pictures
_LEAST_PAIRS = 3
_WIDE = 24  # cells: a pair with this many shows mostly the same
_CLEAN = 0.02  # share of conflicting cells of such a pair in one place, at most
_BRIDGE = 0.2  # share of such pairs that shows two groups to be of one place. Measured: at most 0.1 across two
_NEIGHBOURS = 40  # pictures with which one is compared: those that show most of the same points

Cells = NDArray[np.int64]


class _Comparison(NamedTuple):
    """How many cells of two pictures were compared, and in how many of them the observations conflict."""

    cells: int
    conflicts: int


@dataclass(frozen=True)
class _Seen:
    """The n points that a picture shows.

    Args:
        points: (n,) rows of the points among all points of the model, sorted.
        cells: (n,) the cell of the picture in which each point is.
        rays: (n, 3) unit vectors from the camera to the points.
        distances: (n,) of the points from the camera.
    """

    points: NDArray[np.int64]
    cells: Cells
    rays: Floats
    distances: Floats


def places(model: pycolmap.Reconstruction) -> list[set[str]]:
    """Return the pictures of each place in a reconstruction by name, the largest place first. Usually, there is one."""
    images = registered_images(model)
    names = [str(image.name) for image in images]
    comparisons = _compare(model, images)
    groups = _grouped(len(images), comparisons)
    group_of = {member: number for number, group in enumerate(groups) for member in group}
    between: dict[tuple[int, int], list[_Comparison]] = defaultdict(list)
    for (i, j), comparison in comparisons.items():
        a, b = sorted((group_of[i], group_of[j]))
        between[a, b].append(comparison)
    conflicting = {(a, b) for (a, b), found in between.items() if a != b and _conflict(found)}
    return sorted(
        ({names[member] for member in group} for group in _joined(groups, conflicting, between)),
        key=lambda group: (-len(group), min(group)),
    )


def loosely_joined(model: pycolmap.Reconstruction) -> list[set[str]]:
    """Return the parts of a reconstruction that chance matches may have joined, largest first. Usually, there is one.

    Pictures of different parts share fewer points than COLMAP's minimum of matches per pair. Single pictures and pairs
    count as members of the largest part.
    """
    parts = [{str(image.name)} for image in model.images.values() if image.has_pose]
    for pair, number in shared_by_name(model).items():
        if number >= _LEAST_SHARED:
            joined = [part for part in parts if part & pair]
            parts = [part for part in parts if not part & pair] + [set().union(*joined)]
    parts.sort(key=lambda part: (-len(part), min(part)))
    if not parts:
        return []
    small = [part for part in parts[1:] if len(part) < _LEAST_PART]
    return [parts[0].union(*small), *(part for part in parts[1:] if part not in small)]


def _conflict(found: list[_Comparison]) -> bool:
    """Return whether two groups of pictures show two places, by the comparisons of their pairs.

    If a part of one place changed between two visits, pictures of the same visit still agree without conflicts.
    """
    cells, conflicts = (sum(side) for side in zip(*found, strict=True))
    wide = [pair for pair in found if pair.cells >= _WIDE]
    clean = sum(pair.conflicts <= _CLEAN * pair.cells for pair in wide)
    return (
        cells >= _LEAST_CELLS
        and conflicts > _USUAL * cells
        and sum(pair.conflicts > _USUAL * pair.cells for pair in found) >= _LEAST_PAIRS
        and (clean < _LEAST_PAIRS or clean < _BRIDGE * len(wide))
    )


def _compare(model: pycolmap.Reconstruction, images: list[pycolmap.Image]) -> dict[tuple[int, int], _Comparison]:
    """Compare pairs of pictures that show the same points. The keys are the positions of both among the images."""
    numbers = np.array(sorted(model.points3D), np.int64)
    xyz = np.array([model.points3D[number].xyz for number in numbers.tolist()]).reshape(-1, 3)
    cameras = [model.cameras[image.camera_id] for image in images]
    shown = observations(model)
    seen = [
        _seen(image, shown[image.image_id], camera, numbers, xyz) for image, camera in zip(images, cameras, strict=True)
    ]
    pairs = most_shared(shared_points(shown, images), _NEIGHBOURS, _LEAST_SHARED)
    compared_with: dict[int, list[int]] = defaultdict(list)
    for i, j in pairs:
        compared_with[i].append(j)
        compared_with[j].append(i)

    def ways_to(there: int) -> dict[tuple[int, int], _Comparison]:
        others = compared_with[there]
        found = _compare_with(seen[there], [seen[here] for here in others], images[there], cameras[there], xyz)
        return {(here, there): comparison for here, comparison in zip(others, found, strict=True)}

    with ThreadPoolExecutor(threads()) as pool:
        ways = dict(chain.from_iterable(found.items() for found in pool.map(ways_to, compared_with)))
    result = {}
    for i, j in pairs:
        both = ways[i, j], ways[j, i]
        if min(both).cells >= _COMPARED:
            # A sharper or wider picture has points that the other cannot show, so the side with fewer conflicts counts.
            result[i, j] = min(both, key=lambda way: way.conflicts / max(way.cells, 1))
    return result


def _compare_with(
    there: _Seen, others: list[_Seen], image: pycolmap.Image, camera: pycolmap.Camera, xyz: Floats
) -> list[_Comparison]:
    """Compare what a picture shows with what it should show of the points of other pictures.

    Args:
        there: what the picture shows.
        others: what each of the k other pictures shows.
        image, camera: of the picture.
        xyz: (n, 3) all points of the model.

    Returns:
        k comparisons.
    """
    numbers = np.concatenate([other.points for other in others])
    points = np.unique(numbers)
    row = np.empty(len(xyz), np.int64)
    row[points] = np.arange(len(points))
    row = row[numbers]
    rays, distances = _rays(xyz[points], image)
    cells = _cells_of(image, camera, xyz[points])
    found = np.isin(points, there.points, assume_unique=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearer = distances[row] / np.concatenate([other.distances for other in others])
    cosines = np.einsum("ij,ij->i", rays[row], np.concatenate([other.rays for other in others]))
    alike = (cosines > np.cos(np.radians(_ANGLE))) & (nearer < _ZOOM) & (nearer > 1 / _ZOOM) & (cells[row] >= 0)
    row, other_of = row[alike], np.repeat(np.arange(len(others)), [len(other.points) for other in others])[alike]

    def per_cell(chosen: NDArray[np.bool_] | slice) -> NDArray[np.int64]:
        cell = other_of[chosen] * _GRID**2 + cells[row[chosen]]
        return np.bincount(cell, minlength=len(others) * _GRID**2).reshape(len(others), _GRID**2)

    wanted, again = per_cell(slice(None)), per_cell(found[row])
    own = np.bincount(there.cells, minlength=_GRID**2)
    # If light or leaves have changed, few points are found again anywhere, so a cell without any proves nothing.
    share = again.sum(axis=1) / np.maximum(wanted.sum(axis=1), 1)
    compared = (wanted >= _FEW) & (own >= _FEW) & ((1 - share[:, None]) ** wanted < _CHANCE)
    conflicts = compared & (again == 0)
    counts = np.stack([compared.sum(axis=1), conflicts.sum(axis=1)], axis=1)
    return [_Comparison(*each) for each in counts.tolist()]


def _seen(
    image: pycolmap.Image, shown: Shown, camera: pycolmap.Camera, numbers: NDArray[np.int64], xyz: Floats
) -> _Seen:
    points, first = np.unique(np.searchsorted(numbers, shown.points), return_index=True)
    return _Seen(points, grid_cells(shown.pixels[first], camera, _GRID), *_rays(xyz[points], image))


def _rays(xyz: Floats, image: pycolmap.Image) -> tuple[Floats, Floats]:
    """Return the unit vectors from a camera to points (n, 3), and their distances (n,)."""
    rays = xyz - image.projection_center()
    distances = np.sqrt(np.einsum("ij,ij->i", rays, rays))
    with np.errstate(divide="ignore", invalid="ignore"):
        return rays / distances[:, None], distances


def _cells_of(image: pycolmap.Image, camera: pycolmap.Camera, xyz: Floats) -> Cells:
    """Return the cell of a picture in which each point (n, 3) should be; -1 outside of the picture."""
    cells = np.full(len(xyz), -1)
    inside, at = in_sight(image, camera, xyz)
    cells[inside] = grid_cells(at, camera, _GRID)
    return cells


def _grouped(number: int, comparisons: Mapping[tuple[int, int], _Comparison]) -> list[set[int]]:
    """Join pictures into groups, the surest pairs first, while fewer cells than usual conflict.

    This is greedy additive edge contraction (Keuper et al., "Efficient Decomposition of Image and Mesh Graphs by Lifted
    Multicuts", ICCV 2015).
    """
    weights: dict[int, dict[int, float]] = {member: {} for member in range(number)}
    for (i, j), (cells, conflicts) in comparisons.items():
        weights[i][j] = weights[j][i] = _USUAL * cells - conflicts
    groups = {member: {member} for member in range(number)}
    while True:
        best = max(
            ((weight, -i, -j) for i, others in weights.items() for j, weight in others.items() if i < j),
            default=(0.0, 0, 0),
        )
        if best[0] <= 0:
            return list(groups.values())
        i, j = -best[1], -best[2]
        groups[i] |= groups.pop(j)
        for other, weight in weights.pop(j).items():
            del weights[other][j]
            if other != i:
                weights[i][other] = weights[other][i] = weights[i].get(other, 0.0) + weight


def _joined(
    groups: list[set[int]], conflicting: set[tuple[int, int]], between: Mapping[tuple[int, int], object]
) -> list[set[int]]:
    """Join groups that do not conflict, preferably those that were compared, the largest first."""
    order = sorted(range(len(groups)), key=lambda number: -len(groups[number]))
    joined: list[set[int]] = []
    for number in order:
        pairs = [{(min(number, other), max(number, other)) for other in each} for each in joined]
        fitting = [each for each, its in zip(joined, pairs, strict=True) if not its & conflicting]
        compared = [each for each, its in zip(joined, pairs, strict=True) if each in fitting and its & between.keys()]
        if fitting:
            (compared or fitting)[0].add(number)
        else:
            joined.append({number})
    return [set().union(*(groups[number] for number in each)) for each in joined]
