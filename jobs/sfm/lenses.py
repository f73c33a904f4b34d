"""Find the lenses of photos that do not name their camera: photos of one size can be of several cameras or zooms."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pycolmap

from jobs.sfm.refinement import adjust

__all__ = ["by_focal_length", "focal_lengths"]

_APART = 0.08  # share by which the focal lengths of two lenses differ at least
_TIMES_SCATTER = 4.0  # the gap between two lenses in terms of the scatter within each
_LEAST_PHOTOS = 2  # of a lens


def focal_lengths(model: pycolmap.Reconstruction, names: Collection[str], threads: int) -> dict[str, float]:
    """Return the focal length of each photo, estimated per photo, as a multiple of the picture's diagonal.

    Args:
        model: a reconstruction in which photos can share a camera. It is not changed.
        names: the photos whose focal lengths are estimated.
        threads: number of threads of the solver.
    """
    apart = _apart(model, names)
    adjust(apart, threads)
    found = {}
    for image in apart.images.values():
        camera = apart.cameras[image.camera_id]
        if image.name in names:
            found[str(image.name)] = float(camera.mean_focal_length() / np.hypot(camera.width, camera.height))
    return found


def by_focal_length(focals: Mapping[str, float]) -> list[list[str]]:
    """Group photos by lens, if their focal lengths differ clearly. Usually, there is one group."""
    order = sorted(focals, key=lambda name: (focals[name], name))
    values = np.log([focals[name] for name in order])
    gaps = np.diff(values)
    limit = max(float(np.log1p(_APART)), _TIMES_SCATTER * float(np.median(gaps)) if len(gaps) else 0.0)
    groups: list[list[str]] = []
    for number, name in enumerate(order):
        if number == 0 or gaps[number - 1] > limit:
            groups.append([])
        groups[-1].append(name)
    return groups if all(len(group) >= _LEAST_PHOTOS for group in groups) else [order]


def _apart(model: pycolmap.Reconstruction, names: Collection[str]) -> pycolmap.Reconstruction:
    """Return a copy of a model in which each of these photos has a separate camera."""
    copy = pycolmap.Reconstruction()
    images = [image for _, image in sorted(model.images.items()) if image.has_pose]
    numbers: dict[str | int, int] = {}
    for image in images:
        key = image.name if image.name in names else -image.camera_id
        if key in numbers:
            continue
        numbers[key] = len(numbers) + 1
        given = model.cameras[image.camera_id]
        camera = pycolmap.Camera(
            camera_id=numbers[key], model=given.model, width=given.width, height=given.height, params=given.params
        )
        if image.name in names:  # a single photo cannot determine more parameters
            camera = pycolmap.Camera.create_from_model_name(
                numbers[key], "SIMPLE_RADIAL", given.mean_focal_length(), given.width, given.height
            )
        copy.add_camera_with_trivial_rig(camera)
    for image in images:
        key = image.name if image.name in names else -image.camera_id
        other = pycolmap.Image(name=image.name, camera_id=numbers[key], image_id=image.image_id)
        other.points2D = pycolmap.Point2DList([pycolmap.Point2D(point.xy) for point in image.points2D])
        copy.add_image_with_trivial_frame(other, image.cam_from_world())
    for _, point in sorted(model.points3D.items()):
        track = pycolmap.Track()
        for element in point.track.elements:
            if element.image_id in copy.images:
                track.add_element(element.image_id, element.point2D_idx)
        copy.add_point3D(point.xyz, track, point.color)
    return copy
