"""Find the up direction of a reconstruction: from gravity, GPS or the ground, or from how the cameras were held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pycolmap

from jobs.geometry import Floats, fit_similarity
from jobs.pictures.exif import Tags

__all__ = ["Source", "find_up"]

Source = Literal["gravity", "gps", "ground", "cameras"]

_LEAST_TAGGED = 3
_SCATTER = 10.0  # degrees by which the gravity of half of the photos may differ from the mean
_GPS_RESIDUAL = 0.03  # of positions, in terms of their spread across the narrower direction: 2 degrees
_GPS_SPREAD = 5.0  # metres, standard deviation across the narrower direction: below, positions are mostly noise
_SAME_VIEW = 0.9  # length of the mean of the view directions, which then lie within 25 degrees
_OTHER_WAY_UP = 0.1  # share of cameras that are upside down relative to the others; nobody holds a camera like that
_GROUND_TILT = 30.0  # degrees between the ground and the mean view, at most
_EARTH = 6_371_000.0  # metres


def find_up(model: pycolmap.Reconstruction, tags: Mapping[str, Tags]) -> tuple[Floats, Source]:
    """Return the up direction in the model frame, and where it comes from.

    Args:
        tags: those of the photos, by picture's name.
    """
    images = [image for image in model.images.values() if image.has_pose]
    poses = np.array([image.cam_from_world().inverse().matrix() for image in images])
    if (up := _by_gravity(poses, [tags.get(image.name, Tags()).up() for image in images])) is not None:
        return up, "gravity"
    if (up := _by_gps(poses[:, :, 3], [tags.get(image.name, Tags()) for image in images])) is not None:
        return up, "gps"
    if (up := _by_ground(poses, model)) is not None:
        return up, "ground"
    return _unit(-poses[:, :, 1].mean(axis=0)), "cameras"  # COLMAP's cameras have Y down


def _by_gravity(poses: Floats, ups: list[tuple[float, float, float] | None]) -> Floats | None:
    """Return the mean of the directions from the cameras' sensors; None if they disagree."""
    known = [pose[:, :3] @ np.array(up) for pose, up in zip(poses, ups, strict=True) if up is not None]
    if len(known) < max(_LEAST_TAGGED, len(poses) / 4):
        return None
    mean = np.median(known, axis=0)
    length = float(np.linalg.norm(mean))
    if length < 0.5:
        return None
    angles = np.degrees(np.arccos(np.clip(np.array(known) @ mean / length, -1, 1)))
    return _unit(mean) if np.median(angles) < _SCATTER else None


def _by_gps(centers: Floats, tags: list[Tags]) -> Floats | None:
    """Return the vertical of the photos' positions, if they fit the cameras' and are not on a line."""
    known = [
        (center, (tag.longitude, tag.latitude, tag.altitude))
        for center, tag in zip(centers, tags, strict=True)
        if tag.longitude is not None and tag.latitude is not None and tag.altitude is not None
    ]
    if len(known) < max(_LEAST_TAGGED + 1, len(centers) / 2):
        return None
    source, degrees = (np.array(side, float) for side in zip(*known, strict=True))
    east, north = np.radians(degrees[:, 0] - degrees[0, 0]), np.radians(degrees[:, 1] - degrees[0, 1])
    metres = np.column_stack([_EARTH * np.cos(np.radians(degrees[0, 1])) * east, _EARTH * north, degrees[:, 2]])
    narrow = np.linalg.svd(metres - metres.mean(axis=0), compute_uv=False)[1] / np.sqrt(len(metres))
    own = np.linalg.svd(source - source.mean(axis=0), compute_uv=False)
    if narrow < _GPS_SPREAD or own[1] < 1e-6 * own[0]:
        return None
    fit = fit_similarity(source, metres)
    residual = float(np.median(np.linalg.norm(fit.points(source) - metres, axis=1)))
    return _unit(fit.rotation.T @ np.array([0.0, 0.0, 1.0])) if residual < _GPS_RESIDUAL * narrow else None


def _by_ground(poses: Floats, model: pycolmap.Reconstruction) -> Floats | None:
    """Return the normal of the ground under cameras that all look down, as in a survey; None if they do not.

    Cameras in front of a wall look the same way, too. But people hold them the same way up, while a survey flies to and
    fro.
    """
    view, up = poses[:, :, 2].mean(axis=0), poses[:, :, 1]
    main = np.linalg.svd(up)[2][0]
    share = float(np.mean(up @ main > 0))
    if np.linalg.norm(view) < _SAME_VIEW or min(share, 1 - share) < _OTHER_WAY_UP:
        return None
    points = np.array([point.xyz for point in model.points3D.values()])
    normal = _plane(points) if len(points) >= 10 else None
    if normal is None:
        return _unit(-view)
    normal = normal * -np.sign(normal @ view)
    return normal if -normal @ _unit(view) > np.cos(np.radians(_GROUND_TILT)) else _unit(-view)


def _plane(points: Floats) -> Floats:
    """Return the normal of the plane through most of the points (n, 3): least squares, without the farthest points."""
    normal = np.zeros(3)
    for _ in range(10):
        middle = np.median(points, axis=0)
        normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
        distances = np.abs((points - middle) @ normal)
        kept = points[distances <= 2.5 * np.median(distances)]
        if len(kept) == len(points) or len(kept) < 10:
            break
        points = kept
    return normal


def _unit(vector: Floats) -> Floats:
    unit: Floats = vector / np.linalg.norm(vector)
    return unit
