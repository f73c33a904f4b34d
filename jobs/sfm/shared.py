"""The pictures of a reconstruction, and what they show in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray
from scipy import sparse

from jobs.colmap import Shown, read_images
from jobs.geometry import Floats

__all__ = [
    *("grid_cells", "in_sight", "most_shared", "observations", "registered", "registered_images"),
    *("reprojection_error", "shared_by_name", "shared_points"),
]


def registered_images(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """Return the pictures with a pose, by name."""
    return sorted((image for image in model.images.values() if image.has_pose), key=lambda image: str(image.name))


def registered(model: pycolmap.Reconstruction) -> set[str]:
    """Return the names of the pictures with a pose."""
    return {str(image.name) for image in model.images.values() if image.has_pose}


def reprojection_error(model: pycolmap.Reconstruction) -> float:
    """Return the mean reprojection error, px."""
    model.update_point_3d_errors()
    return float(model.compute_mean_reprojection_error())


def observations(model: pycolmap.Reconstruction) -> dict[int, Shown]:
    """Return what each picture with a pose shows, by its number."""
    with TemporaryDirectory() as folder:
        model.write_binary(folder)
        return {shown.number: shown for shown in read_images(Path(folder, "images.bin").read_bytes())}


def shared_points(seen: Mapping[int, Shown], images: Sequence[pycolmap.Image]) -> NDArray[np.int64]:
    """Return how many points both pictures of each pair show: (n, n) for n pictures, 0 on the diagonal.

    Args:
        seen: the `observations` of the pictures' reconstruction.
        images: n of its pictures.
    """
    points = [seen[image.image_id].points for image in images]
    rows = np.repeat(np.arange(len(images)), [len(each) for each in points])
    numbers, columns = np.unique(np.concatenate([np.empty(0, np.int64), *points]), return_inverse=True)
    shown = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(images), len(numbers))).tocsr()
    shown.data[:] = 1  # a track may have two features of one picture
    shared: NDArray[np.int64] = (shown @ shown.T).toarray().astype(np.int64)
    np.fill_diagonal(shared, 0)
    return shared


def shared_by_name(model: pycolmap.Reconstruction) -> dict[frozenset[str], int]:
    """Return how many points both pictures of each pair show, by their names. Pairs without any are left out."""
    images = list(model.images.values())
    names = [str(image.name) for image in images]
    shared = np.triu(shared_points(observations(model), images))
    return {frozenset((names[i], names[j])): int(shared[i, j]) for i, j in np.argwhere(shared).tolist()}


def most_shared(shared: NDArray[np.int64], number: int, least: int) -> list[tuple[int, int]]:
    """Return the pairs of a picture and those that show most of the same points, by their rows in `shared_points`.

    Args:
        shared: see `shared_points`.
        number: the most pictures for each picture.
        least: the least number of points that a pair shares.
    """
    nearest = np.argsort(-shared, axis=1, kind="stable")[:, :number].tolist()
    pairs = ((i, j) for i, others in enumerate(nearest) for j in others if shared[i, j] >= least)
    return sorted({(min(pair), max(pair)) for pair in pairs})


def grid_cells(pixels: NDArray[Any], camera: pycolmap.Camera, number: int) -> NDArray[np.int64]:
    """Return the cell (n,) of a grid over a picture in which each position (n, 2) is, counted along the lines.

    Args:
        pixels: px. Positions outside of the picture are in the nearest cell.
        camera: the picture's.
        number: of cells in each direction.
    """
    if not len(pixels):
        return np.empty(0, np.int64)
    place = np.clip(pixels / [camera.width, camera.height] * number, 0, number - 1).astype(np.int64)
    cells: NDArray[np.int64] = place[:, 1] * number + place[:, 0]
    return cells


def in_sight(image: pycolmap.Image, camera: pycolmap.Camera, points: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return which points (n, 3) of the model frame are inside a picture. Points that others hide count, too.

    Returns:
        The indices (m,) of these points, and where they are in the picture (m, 2), px.
    """
    pose = image.cam_from_world().matrix()
    local = points @ pose[:, :3].T + pose[:, 3]
    ahead = np.flatnonzero(local[:, 2] > 1e-9)
    at = np.asarray(camera.img_from_cam(local[ahead]), float).reshape(-1, 2)
    inside = (at > 0).all(axis=1) & (at < [camera.width, camera.height]).all(axis=1)
    return ahead[inside], at[inside]
