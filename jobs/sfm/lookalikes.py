"""Find places that structure from motion confused: identical fronts, and places joined by chance matches.

In pictures from nearly the same pose, what one shows is found in the other, too. In pictures of two places that look
alike, only what is alike is found in both. Around it, each has features of its own where the other's should be. Such
conflicting observations are the idea of Heinly et al., "Correcting for Duplicate Scene Structure in Sparse 3D
Reconstruction", ECCV 2014.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pycolmap
from numpy.typing import NDArray

from jobs.geometry import Floats
from jobs.sfm.shared import in_sight, most_shared, observations, shared_by_name, shared_points

__all__ = ["loosely_joined", "places"]

_GRID = 8  # cells along each side of a picture
_FEW = 4  # points: a cell with fewer says nothing
_CHANCE = 0.02  # probability that no point of a cell is found again, if it is as likely there as elsewhere
_LEAST_SHARED = 15  # points that two pictures show: COLMAP's least number of inlier matches
_ANGLE = 15.0  # degrees between the rays to a point: features are not found again from other directions
_ZOOM = 1.35  # of the distances to a point, likewise
_USUAL = 0.08  # share of conflicting cells. Measured: at most 0.03 of neighbours in one place, 0.1 to 0.4 across two
_COMPARED = 8  # cells: pictures with fewer in common are too different for a verdict
_LEAST_CELLS = 40  # of two groups of pictures that are compared
_LEAST_PART = 3  # pictures
_LEAST_PAIRS = 3
_WIDE = 24  # cells: a pair with as many sees much the same
_CLEAN = 0.02  # share of conflicting cells of such a pair in one place, at most
_BRIDGE = 0.2  # share of such pairs that shows two groups to be of one place. Measured: at most 0.1 across two
_NEIGHBOURS = 40  # pictures with which one is compared: those that show most of the same points

Cells = NDArray[np.int64]


@dataclass(frozen=True)
class _Seen:
    """What a picture shows, and what of that looks the same from elsewhere.

    Args:
        points: the rows of its n points, sorted.
        cells: (n,) the cell of the picture in which each is.
        rays: (n, 3) unit vectors from the camera to the points.
        distances: (n,) of the points from the camera.
    """

    points: NDArray[np.int64]
    cells: Cells
    rays: Floats
    distances: Floats


def places(model: pycolmap.Reconstruction) -> list[set[str]]:
    """Return the pictures of each place in a reconstruction by name, the largest first. Usually, there is one."""
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: str(image.name))
    names = [str(image.name) for image in images]
    tests = _tests(model, images)
    groups = _grouped(len(images), tests)
    group_of = {member: number for number, group in enumerate(groups) for member in group}
    between: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for (i, j), test in tests.items():
        a, b = sorted((group_of[i], group_of[j]))
        between[a, b].append(test)
    conflicting = {(a, b) for (a, b), found in between.items() if a != b and _conflict(found)}
    return sorted(
        ({names[member] for member in group} for group in _joined(groups, conflicting, between)),
        key=lambda group: (-len(group), min(group)),
    )


def loosely_joined(model: pycolmap.Reconstruction) -> list[set[str]]:
    """Return the parts of a reconstruction that chance matches may have joined, largest first. Usually, there is one.

    Pictures of different parts share fewer points than COLMAP's minimum of matches per pair. Single pictures and pairs
    are not parts, and count with the largest.

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


def _conflict(found: list[tuple[int, int]]) -> bool:
    """Return whether two groups of pictures are of two places, by the cells compared and in conflict of each pair.

    If a part of one place changed between two visits, pictures of the same visit still agree without any conflict.
    """
    cells, conflicts = (sum(side) for side in zip(*found, strict=True))
    wide = [test for test in found if test[0] >= _WIDE]
    clean = sum(conflicts <= _CLEAN * cells for cells, conflicts in wide)
    return (
        cells >= _LEAST_CELLS
        and conflicts > _USUAL * cells
        and sum(conflicts > _USUAL * cells for cells, conflicts in found) >= _LEAST_PAIRS
        and (clean < _LEAST_PAIRS or clean < _BRIDGE * len(wide))
    )


def _tests(model: pycolmap.Reconstruction, images: list[pycolmap.Image]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return, for pairs of pictures that show the same points, how many cells were compared and how many conflict."""
    numbers = np.array(sorted(model.points3D), np.int64)
    xyz = np.array([model.points3D[number].xyz for number in numbers.tolist()]).reshape(-1, 3)
    cameras = [model.cameras[image.camera_id] for image in images]
    seen = [_seen(image, camera, numbers, xyz) for image, camera in zip(images, cameras, strict=True)]
    pairs = most_shared(shared_points(model, images), _NEIGHBOURS, _LEAST_SHARED)
    compared_with: dict[int, list[int]] = defaultdict(list)
    for i, j in pairs:
        compared_with[i].append(j)
        compared_with[j].append(i)
    row_of = np.empty(len(numbers), np.int64)
    ways: dict[tuple[int, int], tuple[int, int]] = {}
    for there, others in compared_with.items():
        # Everything that is the same for all others is computed once.
        points = np.unique(np.concatenate([seen[here].points for here in others]))
        row_of[points] = np.arange(len(points))
        rays, distances = _rays(xyz[points], images[there])
        cells = _cells_of(images[there], cameras[there], xyz[points])
        found = np.isin(points, seen[there].points, assume_unique=True)
        own = np.bincount(seen[there].cells, minlength=_GRID**2)
        for here in others:
            row = row_of[seen[here].points]
            with np.errstate(divide="ignore", invalid="ignore"):
                nearer = distances[row] / seen[here].distances
            alike = np.einsum("ij,ij->i", rays[row], seen[here].rays) > np.cos(np.radians(_ANGLE))
            row = row[alike & (nearer < _ZOOM) & (nearer > 1 / _ZOOM) & (cells[row] >= 0)]
            again = found[row]
            wanted = np.bincount(cells[row], minlength=_GRID**2)
            # If light or leaves have changed, few points are found again anywhere, so a cell without any proves
            # nothing.
            share = again.mean() if len(again) else 0.0
            compared = (wanted >= _FEW) & (own >= _FEW) & ((1 - share) ** wanted < _CHANCE)
            none = np.bincount(cells[row[again]], minlength=_GRID**2) == 0
            ways[here, there] = int(compared.sum()), int((compared & none).sum())
    result = {}
    for i, j in pairs:
        both = ways[i, j], ways[j, i]
        if min(both)[0] >= _COMPARED:
            # A sharper or wider picture has points that the other cannot show, so the side with fewer conflicts counts.
            result[i, j] = min(both, key=lambda test: test[1] / max(test[0], 1))
    return result


def _seen(image: pycolmap.Image, camera: pycolmap.Camera, numbers: NDArray[np.int64], xyz: Floats) -> _Seen:
    shown, at = observations(image)
    points, first = np.unique(np.searchsorted(numbers, shown), return_index=True)
    return _Seen(points, _cells(at[first], camera), *_rays(xyz[points], image))


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
    cells[inside] = _cells(at, camera)
    return cells


def _cells(at: Floats, camera: pycolmap.Camera) -> Cells:
    if not len(at):
        return np.empty(0, np.int64)
    place = np.clip(at / [camera.width, camera.height] * _GRID, 0, _GRID - 1).astype(np.int64)
    cells: Cells = place[:, 1] * _GRID + place[:, 0]
    return cells


def _grouped(number: int, tests: Mapping[tuple[int, int], tuple[int, int]]) -> list[set[int]]:
    """Join pictures into groups, the surest first, as long as less than the usual share of their cells conflict.

    This is greedy additive edge contraction (Keuper et al., "Efficient Decomposition of Image and Mesh Graphs by Lifted
    Multicuts", ICCV 2015).
    """
    weights: dict[int, dict[int, float]] = {member: {} for member in range(number)}
    for (i, j), (cells, conflicts) in tests.items():
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
    """Join the groups that do not conflict, if possible with those that they were compared with, the largest first."""
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
