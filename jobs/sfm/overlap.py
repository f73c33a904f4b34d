"""Measure by how much neighbouring photos overlap and differ in direction, and find where too few were taken."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import cKDTree

from jobs.colmap import Shown
from jobs.geometry import Floats
from jobs.sfm.shared import in_sight, most_shared, observations, registered_images, shared_points
from jobs.text import printable

__all__ = ["Overlap", "measure"]

_ANGLE = 45.0  # degrees between the rays to a point: from farther around, other sides of things are seen
_CANDIDATES = 20  # photos among which a photo's neighbours are sought: those that show most of the same points
_CELLS = 12  # of the grid, along each side of a picture
_LEAST_POINTS = 10  # a photo with fewer says nothing
_LITTLE = 0.5  # overlap of two neighbours, below which there is too little
_FAR = 20.0  # degrees between two neighbours, above which they are too far apart (benchmarks/captures.md)
_NAMED = 3


class _Pair(NamedTuple):
    """The overlap of two photos, 0 to 1, and the angle in degrees between their rays to what both show."""

    share: float
    degrees: float

    @property
    def likeness(self) -> float:
        return self.share * max(0.0, 1 - self.degrees / _ANGLE)


class Gap(NamedTuple):
    """Two neighbouring photos that overlap too little, or were taken too far apart; see `Overlap`."""

    first: str
    second: str
    share: float
    degrees: float

    def __str__(self) -> str:
        return f"{printable(self.first)} and {printable(self.second)} ({100 * self.share:.0f} %, {self.degrees:.0f}°)"


class Overlap(NamedTuple):
    """By how much neighbouring photos overlap, and how far apart they were taken.

    The neighbours are the pairs of the maximum spanning tree: they connect all photos with the greatest likeness.

    Args:
        median: the median overlap of neighbours, 0 to 1.
        degrees: the median angle between neighbours' rays to what both show.
        gaps: the neighbours between which photos are missing, the worst first.
    """

    median: float
    degrees: float
    gaps: tuple[Gap, ...]

    def figures(self) -> dict[str, Any]:
        """Return the figures for `dataset.json`."""
        gaps = [
            {"photos": [gap.first, gap.second], "overlap": round(gap.share, 3), "degrees": round(gap.degrees, 1)}
            for gap in self.gaps
        ]
        return {"median": round(self.median, 3), "degrees": round(self.degrees, 2), "gaps": gaps}

    def __str__(self) -> str:
        """Return what is wrong and what to do, in a sentence; "" if photos are near enough."""
        if not self.gaps:
            return ""
        named, more = ", ".join(map(str, self.gaps[:_NAMED])), len(self.gaps) - _NAMED
        return (
            f"Too few photos between {named}{f', and {more} more such gaps' * (more > 0)} (overlap, and the angle "
            f"between them; usual here: {100 * self.median:.0f} %, {self.degrees:.0f}°): take more photos there, or "
            "more frames of a video (prepare.num_frames)."
        )


def measure(model: pycolmap.Reconstruction, sources: Mapping[str, str]) -> Overlap | None:
    """Measure how near each other photos were taken; None if fewer than three photos show enough points.

    The overlap of two photos is the share of one photo's area that the other shows from about the same side, averaged
    over both directions. A grid with the depths of the nearest triangulated points stands for the area. The points
    themselves would bias the share, because each is in several photos. Occlusion is ignored.

    Args:
        model: the reconstruction.
        sources: the names of the photos by the names of their pictures.
    """
    images = [image for image in registered_images(model) if image.num_points3D >= _LEAST_POINTS]
    seen = observations(model)
    grids = [_grid(model, image, seen[image.image_id]) for image in images]
    pairs: dict[tuple[int, int], _Pair] = {}
    for i, j in most_shared(shared_points(seen, images), _CANDIDATES, least=1):
        ways = [_compare(model, grids[a], images[a], images[b]) for a, b in ((i, j), (j, i))]
        pairs[i, j] = _Pair(*(float(np.mean(side)) for side in zip(*ways, strict=True)))
    neighbours = _neighbours(len(images), pairs)
    if len(neighbours) < 2:
        return None
    names = [sources[str(image.name)] for image in images]
    gaps = [
        Gap(min(names[i], names[j]), max(names[i], names[j]), *pair)
        for (i, j), pair in sorted(neighbours.items(), key=lambda item: item[1].likeness)
        if pair.share < _LITTLE or pair.degrees > _FAR
    ]
    shares, degrees = zip(*neighbours.values(), strict=True)
    return Overlap(median(shares), median(degrees), tuple(gaps))


def _neighbours(number: int, pairs: Mapping[tuple[int, int], _Pair]) -> dict[tuple[int, int], _Pair]:
    """Return the pairs of the maximum spanning tree of likeness."""
    if not pairs:
        return {}
    first, second = np.array(list(pairs)).T
    apart = np.array([2 - pair.likeness for pair in pairs.values()])  # positive: SciPy takes 0 for no edge
    tree = minimum_spanning_tree(coo_array((apart, (first, second)), shape=(number, number)).tocsr()).tocoo()
    return {(int(i), int(j)): pairs[int(i), int(j)] for i, j in zip(tree.row, tree.col, strict=True)}


def _grid(model: pycolmap.Reconstruction, image: pycolmap.Image, shown: Shown) -> Floats:
    """Return roughly the points (n, 3) of the scene that an even grid of the picture shows."""
    camera, pose = model.cameras[image.camera_id], image.cam_from_world()
    middles = (np.arange(_CELLS) + 0.5) / _CELLS
    at = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2) * [camera.width, camera.height]
    nearest = shown.points[cKDTree(shown.pixels).query(at)[1]]
    depths = (pose * np.array([model.points3D[number].xyz for number in nearest.tolist()]))[:, 2]
    rays = np.column_stack([camera.cam_from_img(at), np.ones(len(at))])
    points: Floats = pose.inverse() * (rays * depths[:, None])[np.isfinite(rays).all(axis=1)]
    return points


def _compare(
    model: pycolmap.Reconstruction, points: Floats, image: pycolmap.Image, other: pycolmap.Image
) -> tuple[float, float]:
    """Return the share of points (n, 3) of one picture that are in another, and the median angle between the rays.

    Points that are seen from another side do not count. If none counts, the angle is the greatest possible one.
    """
    rays = points - image.projection_center(), points - other.projection_center()
    lengths = [np.linalg.norm(each, axis=1) for each in rays]
    cosine = (rays[0] * rays[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    inside, _ = in_sight(other, model.cameras[other.camera_id], points)
    inside = inside[angles[inside] < _ANGLE]
    return len(inside) / max(1, len(points)), float(np.median(angles[inside])) if len(inside) else _ANGLE
