"""Test whether photos cover the cameras of a path.

There are two tests. `covered` is strict and bounds generated paths. `lost` is lenient, because people draw paths where
no photo was taken. It finds the frames that look into nothing, as most do if the path belongs to another scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.camera_path import CameraPath
from jobs.path.photos import OFF, Array, PosedPhotos, unit, upright

__all__ = ["ASIDE", "covered", "distances", "lost"]

ASIDE = float(np.cos(np.radians(60)))
"""The cosine of the greatest angle between the view directions of a camera and of a photo that covers it."""

_AT_ONCE = 100_000  # pairs of positions that are compared at a time, which bounds the memory
_MOST_FRAMES, _MOST_CAMERAS, _MOST_POINTS = 100, 100, 600  # evenly chosen by `lost`
_SAME_SIDE = float(np.cos(np.radians(75)))  # between the directions from which a point was photographed and is now seen
_REACH = 6.0  # the greatest distance of a point that counts, in typical depths
_CLOSE_UP = 3.0  # how much nearer than the photos a frame may be for a point to count more
_ENOUGH = 0.2  # a share of the points in a typical photo
_LEAST_POINTS = 20  # with fewer, points in front of the cameras replace them


def covered(photos: PosedPhotos, centres: Array, directions: Array, off: float = OFF) -> NDArray[np.bool_]:
    """Return whether each camera (F,) is near a photo with a similar view direction.

    Args:
        photos: the photos.
        centres, directions: (F, 3) of the cameras, directions of length 1, in the model frame.
        off: the greatest distance from the photo, in the photos' typical depths.
    """
    near = np.zeros(len(centres), dtype=bool)
    for part in _parts(len(centres), len(photos.centres)):
        apart = np.linalg.norm(centres[part, None] - photos.centres, axis=2)
        alike = directions[part] @ photos.directions.T >= ASIDE
        near[part] = ((apart <= off * photos.depth) & alike).any(axis=1)
    return near


def distances(photos: PosedPhotos, centres: Array) -> Array:
    """Return the distance (F,) from each position (F, 3) to the nearest photo, in the photos' typical depths."""
    found = np.zeros(len(centres))
    for part in _parts(len(centres), len(photos.centres)):
        found[part] = np.linalg.norm(centres[part, None] - photos.centres, axis=2).min(axis=1)
    nearest: Array = found / photos.depth
    return nearest


def lost(photos: PosedPhotos, path: CameraPath) -> dict[int, bool]:
    """Return whether frames of a path look into nothing, by index, for at most a hundred frames along the path.

    A frame is not lost if it is `covered`, or if its picture contains a fifth of the sparse points of a typical photo.
    A point counts if a photo saw it from a direction within 75 degrees of the frame's. If there are few sparse points,
    points at the typical depth in front of the cameras replace them.

    Args:
        photos: the photos and their points.
        path: in the model frame.
    """
    numbers = np.unique(np.linspace(0, len(path.camera_path) - 1, _MOST_FRAMES).round().astype(int))
    frames = [path.camera_path[number] for number in numbers]
    poses = np.array([frame.camera_to_world for frame in frames]).reshape(-1, 4, 4)
    aspect = path.render_width / path.render_height
    vertical = [np.tan(np.radians(min(frame.fov, 140) / 2)) for frame in frames]
    some = slice(None, None, 1 + len(photos.centres) // _MOST_CAMERAS)
    cameras = upright(photos.centres[some], photos.directions[some])
    points = photos.points if len(photos.points) >= _LEAST_POINTS else _before(cameras, photos)
    points = points[:: 1 + len(points) // _MOST_POINTS]

    reach = _REACH * photos.depth
    photographed = np.array([_in_view(camera, points, photos.half_field, reach) for camera in cameras])
    enough = _ENOUGH * float(np.median(photographed.sum(axis=1)))
    field = photos.half_field[0] * photos.half_field[1]
    from_photos = unit(cameras[:, None, :3, 3] - points)  # (cameras, points, 3)
    home = covered(photos, poses[:, :3, 3], -poses[:, :3, 2])
    for index in np.flatnonzero(~home):
        away = np.linalg.norm(points - poses[index, :3, 3], axis=1)
        if path.camera_type == "equirectangular":
            seen = away < reach
        else:
            seen = _in_view(poses[index], points, (vertical[index] * aspect, vertical[index]), reach)
        side = np.einsum("nsi,si->ns", from_photos[:, seen], unit(poses[index, :3, 3] - points[seen]))
        known = ((side > _SAME_SIDE) & photographed[:, seen]).any(axis=0)
        # In a close-up, fewer points fill the picture.
        fills = (photos.depth / away[seen][known]).clip(1, _CLOSE_UP) ** 2
        part = min(1.0, vertical[index] ** 2 * aspect / field)  # a narrow field of view contains fewer points
        home[index] = fills.sum() >= max(1.0, part * enough)
    return dict(zip(numbers.tolist(), (~home).tolist(), strict=True))


def _parts(frames: int, cameras: int) -> list[slice]:
    step = max(1, _AT_ONCE // max(1, cameras))
    return [slice(first, first + step) for first in range(0, frames, step)]


def _in_view(pose: Array, points: Array, half_field: tuple[float, float], reach: float) -> NDArray[np.bool_]:
    """Return whether points (P, 3) are in the picture of a camera (4, 4) and not farther away than `reach`."""
    right, up, back = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    ahead = -back
    inside: NDArray[np.bool_] = (
        (ahead > 0) & (np.abs(right) < half_field[0] * ahead) & (np.abs(up) < half_field[1] * ahead) & (ahead < reach)
    )
    return inside


def _before(cameras: Array, photos: PosedPhotos) -> Array:
    """Return points (9 N, 3) at the typical depth in front of cameras (N, 4, 4), spread over their pictures."""
    across, down = (np.array([-0.5, 0, 0.5]) * half for half in photos.half_field)
    rays = np.array([[x, y, -1.0] for x in across for y in down]) * photos.depth
    places: Array = np.einsum("nij,kj->nki", cameras[:, :3, :3], rays) + cameras[:, None, :3, 3]
    return places.reshape(-1, 3)
