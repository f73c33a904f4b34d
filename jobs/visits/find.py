"""Find what changed in a scene between the photos of two visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs import report
from jobs.visits.evidence import Evidence, Light, compare_view
from jobs.visits.fusion import Cells, fuse, voxels
from jobs.visits.views import Array, Bools, View

__all__ = ["Patch", "Settings", "SurfacePair", "Surfaces", "compared_share", "examine", "find_patches"]

_WHOLE = 0.5  # share of a change's median score; a voxel below it is mostly outside the change


@dataclass(frozen=True)
class Settings:
    """Settings of the search for changes.

    Args:
        window: the size in px of a window in which the light of a photo is even.
        compared: the number of photos of the other visit that a photo is compared with.
        least_photos: the least number of photos that must show a place.
        pixels: the side of a voxel in pixels, at the typical distance.
        certain, likely: the scores above which a voxel starts a change, and belongs to it.
        least_voxels: the least number of voxels of a change.
    """

    window: int = 5
    compared: int = 3
    least_photos: int = 3
    pixels: float = 2.5
    certain: float = 3.5
    likely: float = 2.5
    least_voxels: int = 12


@dataclass(frozen=True)
class Surfaces:
    """The surfaces of one visit, compared with the photos of the other one.

    Args:
        cells: voxels with six values: score, air, noise, and the logarithms of red, green and blue light.
        size: the side of a voxel in scene units.
        light: what differs between the light of both visits.
        off: by the view's name, how many standard deviations of light each pixel (H, W) differs.
    """

    cells: Cells
    size: float
    light: Light
    off: dict[str, Array]

    @property
    def score(self) -> Array:
        """Return the difference (N,) of each voxel, as a multiple of the differences that light and noise cause."""
        return self.cells.values[:, 0]

    @property
    def noise(self) -> Array:
        """Return by how many standard deviations of light (N,) the photos of one visit differ from each other."""
        return self.cells.values[:, 2]

    @property
    def air(self) -> Array:
        """Return the share (N,) of the other visit's photos that see through each voxel."""
        return self.cells.values[:, 1]

    @property
    def colours(self) -> Array:
        """Return the logarithms of the light (N, 3) that the photos show of each voxel."""
        return self.cells.values[:, 3:]


class SurfacePair(NamedTuple):
    """The surfaces of both visits."""

    then: Surfaces
    now: Surfaces


def examine(then: Sequence[View], now: Sequence[View], settings: Settings) -> SurfacePair:
    """Compare the surfaces of each visit with the photos of the other.

    The noise of a voxel is the difference between photos of its own visit, caused by inexact depths, leaves, mirrors
    and blur.
    """
    meter = report.Meter("changes:compare", 2 * (len(then) + len(now)))

    def against(views: Sequence[View], others: Sequence[View]) -> list[Evidence]:
        found = []
        for view in views:
            found.append(compare_view(view, others, settings.window, settings.compared))
            meter.advance()
        return found

    forward, backward = against(now, then), against(then, now)
    light = Light.learn([*(each.ratio for each in forward), *(-each.ratio for each in backward)])
    distances = [
        float(np.median(view.depths[view.depths > 0])) / view.camera.focal for view in now if view.depths.any()
    ]
    size = settings.pixels * float(np.median(distances or [1.0]))
    own_now, own_then = against(now, now), against(then, then)
    return SurfacePair(
        _surfaces(then, [light.unlikely(-each.ratio) for each in backward], backward, light, own_then, size, settings),
        _surfaces(now, [light.unlikely(each.ratio) for each in forward], forward, light, own_now, size, settings),
    )


def _surfaces(
    views: Sequence[View],
    off: Sequence[Array],
    found: Sequence[Evidence],
    light: Light,
    own: Sequence[Evidence],
    size: float,
    settings: Settings,
) -> Surfaces:
    noise = [light.unlikely(each.ratio, same_light=True) for each in own]
    shown = [np.dstack([a, b.air, view.light]) for a, b, view in zip(off, found, views, strict=True)]
    between = _fused(views, shown, size, settings)
    within = _fused(views, [each[..., None] for each in noise], size, settings)
    index, known = within.at(between.numbers)
    cells = between.chosen(known)
    floor = within.values[index[known], 0]
    score = cells.values[:, 0] / (1 + floor)
    cells = Cells(
        cells.numbers,
        np.column_stack([score, cells.values[:, 1], floor, cells.values[:, 2:]]),
        cells.photos,
        cells.points,
    )
    return Surfaces(cells, size, light, {view.name: each for view, each in zip(views, off, strict=True)})


def _fused(views: Sequence[View], values: Sequence[Array], size: float, settings: Settings) -> Cells:
    points, kept = [], []
    for view, value in zip(views, values, strict=True):
        known = np.isfinite(value).all(axis=-1) & (view.depths > 0)
        points.append(view.points[known])
        kept.append(value[known])
    return fuse(points, kept, size, settings.least_photos)


@dataclass(frozen=True)
class Patch:
    """A connected part of the scene that changed.

    Args:
        now, then: indices of the voxels of either visit's surfaces.
        area: in square scene units, as seen from the front.
        centre: (3,) of its voxels.
        low, high: (3,) the corners of its box.
        score: the median of its voxels' scores.
        photos: the median number of photos that show a voxel.
        new, gone: shares of its voxels of now that were in the air then, and of those of then that are in it now.
    """

    now: NDArray[np.int64]
    then: NDArray[np.int64]
    area: float
    centre: Array
    low: Array
    high: Array
    score: float
    photos: int
    new: float
    gone: float


def find_patches(then: Surfaces, now: Surfaces, settings: Settings) -> list[Patch]:
    """Return what changed, the largest first."""
    size = now.size
    points = np.concatenate([then.cells.points, now.cells.points])
    scores = np.concatenate([then.score, now.score])
    of_now = np.arange(len(points)) >= len(then.cells.points)
    likely = np.flatnonzero(scores > settings.likely)
    if not len(likely):
        return []
    patch = _connected(points[likely], size)
    found = []
    for number in np.unique(patch):
        inside = likely[patch == number]
        if (scores[inside] > settings.certain).sum() < settings.least_voxels / 2 or len(inside) < settings.least_voxels:
            continue
        found.append(_patch(inside, then, now, points, scores, of_now))
    return sorted(found, key=lambda each: -each.area)


def compared_share(views: Sequence[View], surfaces: Surfaces) -> float:
    """Return the share of the views' pixels whose surfaces both visits saw well enough to compare."""
    known = [surfaces.cells.at(voxels(view.points[view.depths > 0], surfaces.size))[1].sum() for view in views]
    return float(sum(known)) / sum(view.depths.size for view in views)


def _connected(points: Array, size: float) -> NDArray[np.int64]:
    """Return the number (N,) of the group of each point: neighbours are at most two voxels apart."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(points).query_pairs(2 * size, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), bool), pairs.T), shape=(len(points),) * 2)
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def _patch(
    inside: NDArray[np.int64], then: Surfaces, now: Surfaces, points: Array, scores: Array, of_now: Bools
) -> Patch:
    number = len(then.cells.points)
    of_then, mine = inside[~of_now[inside]], inside[of_now[inside]] - number
    at = points[inside]
    whole = scores[inside] > _WHOLE * np.median(scores[inside])
    areas = [_area(at[whole & (of_now[inside] == side)], now.size) for side in (False, True)]
    photos = np.concatenate([then.cells.photos[of_then], now.cells.photos[mine]])
    return Patch(
        mine, of_then, max(areas), at.mean(axis=0), at.min(axis=0), at.max(axis=0), float(np.median(scores[inside])),
        int(np.median(photos)),
        float(np.mean(now.air[mine])) if len(mine) else 0.0,
        float(np.mean(then.air[of_then])) if len(of_then) else 0.0,
    )  # fmt: skip


def _area(points: Array, size: float) -> float:
    """Return the area that voxels cover on the plane that fits them best."""
    if len(points) < 3:
        return len(points) * size**2
    _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    flat = np.floor((points - points.mean(axis=0)) @ axes[:2].T / size).astype(int)
    return len(np.unique(flat, axis=0)) * size**2
