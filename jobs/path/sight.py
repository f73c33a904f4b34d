"""What the photos of a capture saw of a camera path: whether one was taken near, and what comes into the picture.

Two questions, for two ends. `covered` is strict, and bounds the paths that are generated. `lost` is generous, for
people fly where no photo was taken: it tells the frames that look into nothing, as most do of another scene's path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.camera_path import CameraPath
from jobs.path.capture import OFF, Array, Capture, unit, upright

__all__ = ["ASIDE", "covered", "distances", "lost"]

ASIDE = float(np.cos(np.radians(60)))
"""How far such a photo's look may differ: the cosine."""

_AT_ONCE = 100_000  # pairs of places that are compared: memory does not grow with the length of a path
_MOST_FRAMES, _MOST_CAMERAS, _MOST_POINTS = 100, 100, 600  # that `lost` looks at, evenly taken
_SAME_SIDE = float(np.cos(np.radians(75)))  # from where a point was photographed, and from where it is now seen
_REACH = 6.0  # how far off a point is still something to look at, by the depth
_CLOSE_UP = 3.0  # how much nearer than the photos a frame may be, so that a point counts for more
_ENOUGH = 0.2  # of the points that a photo has, on the whole
_LEAST_POINTS = 20  # below, what the cameras look at stands for them


def covered(capture: Capture, centres: Array, looks: Array, off: float = OFF) -> NDArray[np.bool_]:
    """(F,) whether a photo was taken near each of the cameras, and looks about the same way.

    Args:
        capture: the photos.
        centres, looks: (F, 3) of the cameras, looks 1 long, in the frame of the capture.
        off: how far the photo may be, by the capture's depth.
    """
    near = np.zeros(len(centres), dtype=bool)
    for part in _parts(len(centres), len(capture.centres)):
        apart = np.linalg.norm(centres[part, None] - capture.centres, axis=2)
        alike = looks[part] @ capture.looks.T >= ASIDE
        near[part] = ((apart <= off * capture.depth) & alike).any(axis=1)
    return near


def distances(capture: Capture, centres: Array) -> Array:
    """(F,) from each of the places (F, 3) to the nearest photo, by the capture's depth."""
    found = np.zeros(len(centres))
    for part in _parts(len(centres), len(capture.centres)):
        found[part] = np.linalg.norm(centres[part, None] - capture.centres, axis=2).min(axis=1)
    nearest: Array = found / capture.depth
    return nearest


def lost(capture: Capture, path: CameraPath) -> dict[int, bool]:
    """Whether frames of a path look into nothing, by their index: of all, or of a hundred along it.

    A frame does not where it is `covered`, or has in its picture what was photographed: a fifth as many sparse points
    as a photo has on the whole, seen from about the side from which a photo saw them (75 degrees), and not from
    behind. Without points, places at the typical depth before the cameras stand for them.

    Args:
        capture: with its points.
        path: in the frame of the capture.
    """
    numbers = np.unique(np.linspace(0, len(path.camera_path) - 1, _MOST_FRAMES).round().astype(int))
    frames = [path.camera_path[number] for number in numbers]
    poses = np.array([frame.camera_to_world for frame in frames]).reshape(-1, 4, 4)
    aspect = path.render_width / path.render_height
    vertical = [np.tan(np.radians(min(frame.fov, 140) / 2)) for frame in frames]
    some = slice(None, None, 1 + len(capture.centres) // _MOST_CAMERAS)
    cameras = upright(capture.centres[some], capture.looks[some])
    points = capture.points if len(capture.points) >= _LEAST_POINTS else _before(cameras, capture)
    points = points[:: 1 + len(points) // _MOST_POINTS]

    reach = _REACH * capture.depth
    photographed = np.array([_in_view(camera, points, capture.half_field, reach) for camera in cameras])
    enough = _ENOUGH * float(np.median(photographed.sum(axis=1)))
    field = capture.half_field[0] * capture.half_field[1]
    from_photos = unit(cameras[:, None, :3, 3] - points)  # (cameras, points, 3)
    home = covered(capture, poses[:, :3, 3], -poses[:, :3, 2])
    for index in np.flatnonzero(~home):
        away = np.linalg.norm(points - poses[index, :3, 3], axis=1)
        if path.camera_type == "equirectangular":
            seen = away < reach
        else:
            seen = _in_view(poses[index], points, (vertical[index] * aspect, vertical[index]), reach)
        side = np.einsum("nsi,si->ns", from_photos[:, seen], unit(poses[index, :3, 3] - points[seen]))
        known = ((side > _SAME_SIDE) & photographed[:, seen]).any(axis=0)
        # Close up, fewer points fill the picture.
        fills = (capture.depth / away[seen][known]).clip(1, _CLOSE_UP) ** 2
        part = min(1.0, vertical[index] ** 2 * aspect / field)  # a long lens shows less at once
        home[index] = fills.sum() >= max(1.0, part * enough)
    return dict(zip(numbers.tolist(), (~home).tolist(), strict=True))


def _parts(frames: int, cameras: int) -> list[slice]:
    step = max(1, _AT_ONCE // max(1, cameras))
    return [slice(first, first + step) for first in range(0, frames, step)]


def _in_view(pose: Array, points: Array, half_field: tuple[float, float], reach: float) -> NDArray[np.bool_]:
    """(P,) whether points (P, 3) are in the picture of a camera (4, 4), and not farther than `reach`."""
    right, up, back = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    ahead = -back
    inside: NDArray[np.bool_] = (
        (ahead > 0) & (np.abs(right) < half_field[0] * ahead) & (np.abs(up) < half_field[1] * ahead) & (ahead < reach)
    )
    return inside


def _before(cameras: Array, capture: Capture) -> Array:
    """(9 N, 3) places at the typical depth before the cameras (N, 4, 4), spread over their pictures."""
    across, down = (np.array([-0.5, 0, 0.5]) * half for half in capture.half_field)
    rays = np.array([[x, y, -1.0] for x in across for y in down]) * capture.depth
    places: Array = np.einsum("nij,kj->nki", cameras[:, :3, :3], rays) + cameras[:, None, :3, 3]
    return places.reshape(-1, 3)
