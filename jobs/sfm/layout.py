"""Bring the pictures of one lens to one size and orientation for structure from motion, and bring models back.

COLMAP's cameras have one size. A phone's photos that are held upright, or were made smaller, share their intrinsics
with its other photos only if they are turned and enlarged to the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from jobs.pictures.reading import Picture

__all__ = ["as_written", "unify", "with_cameras"]

_LARGEST_FACTOR = 3.0  # by which a picture is enlarged: less is left of a smaller one than its own camera needs
_QUARTERS = (np.eye(3), np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))  # to the axes of a picture turned clockwise
_TURNED = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def unify(pictures: list[Picture], grey: Path) -> list[Picture]:
    """Turn and enlarge the grey pictures of each camera and shape so that all have one size.

    Args:
        pictures: as read.
        grey: the folder of their grey pictures and masks; it is changed.

    Returns:
        The pictures, with the size of the grey ones, and how these were turned.
    """
    groups: dict[tuple[str, float | None, int | None], list[list[Picture]]] = {}
    for picture in sorted(pictures, key=lambda picture: -max(picture.feature_size)):
        alike = groups.setdefault((picture.model, picture.focal, picture.view), [])
        group = next((group for group in alike if _same_shape(picture, group[0])), None)
        if group is None:
            alike.append(group := [])
        group.append(picture)
    changed: dict[str, Picture] = {}
    for group in (group for alike in groups.values() for group in alike):
        turns = [_turns(picture) for picture in group]
        if len({(picture.feature_size, turned) for picture, turned in zip(group, turns, strict=True)}) > 1:
            size = _landscape(group[0].feature_size)
            for picture, turned in zip(group, turns, strict=True):
                _rewrite(grey / picture.features, turned, size, Image.Resampling.LANCZOS)
                if (mask := grey / "masks" / f"{picture.features}.png").is_file():
                    _rewrite(mask, turned, size, Image.Resampling.NEAREST)
                changed[picture.file] = replace(picture, feature_size=size, turns=turned)
    return [changed.get(picture.file, picture) for picture in pictures]


def as_written(model: pycolmap.Reconstruction, pictures: Mapping[str, Picture]) -> pycolmap.Reconstruction:
    """Return a model in px of the pictures as they were written, upright. The given one is changed.

    Args:
        model: in px of the grey pictures.
        pictures: by the names of their grey pictures.
    """
    numbers: dict[tuple[int, tuple[int, int], int], int] = {}
    for _, image in sorted(model.images.items()):
        picture = pictures[image.name]
        numbers.setdefault((image.camera_id, picture.size, picture.turns), len(numbers) + 1)
    if len(numbers) == len(model.cameras) and not any(turns for *_, turns in numbers):
        for camera, size, _ in numbers:
            model.cameras[camera].rescale(*size)
        for image in model.images.values():
            scale = np.array(pictures[image.name].size) / pictures[image.name].feature_size
            if (scale != 1).any():
                for point in image.points2D:
                    point.xy = point.xy * scale
        return model
    cameras = {}
    for key, number in numbers.items():
        camera, size, turns = key
        cameras[key] = _turned(model.cameras[camera], number, turns)
        cameras[key].rescale(*size)

    def camera_of(image: pycolmap.Image) -> tuple[pycolmap.Camera, int]:
        picture = pictures[image.name]
        return cameras[image.camera_id, picture.size, picture.turns], picture.turns

    return with_cameras(model, camera_of)


def with_cameras(
    model: pycolmap.Reconstruction, camera_of: Callable[[pycolmap.Image], tuple[pycolmap.Camera, int]]
) -> pycolmap.Reconstruction:
    """Return a copy of a model whose registered pictures have other cameras; rigs are not kept.

    Args:
        model: it is not changed.
        camera_of: returns the camera of a picture, and the clockwise quarter turns after which the picture is that
            camera's. Positions in it are then scaled to the camera's size.
    """
    copy = pycolmap.Reconstruction()
    images = [(image, *camera_of(image)) for _, image in sorted(model.images.items()) if image.has_pose]
    for camera in {camera.camera_id: camera for _, camera, _ in images}.values():
        copy.add_camera_with_trivial_rig(camera)
    for image, camera, turns in images:
        given = model.cameras[image.camera_id]
        at = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        size = np.array([given.width, given.height], float)
        pose = image.cam_from_world()
        for _ in range(turns):
            at, size = np.column_stack([size[1] - at[:, 1], at[:, 0]]), size[::-1]
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(_QUARTERS[1]), np.zeros(3)) * pose
        at = at * (np.array([camera.width, camera.height]) / size)
        other = pycolmap.Image(name=image.name, camera_id=camera.camera_id, image_id=image.image_id)
        other.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in at])
        copy.add_image_with_trivial_frame(other, pose)
    for _, point in sorted(model.points3D.items()):
        track = pycolmap.Track()
        for element in point.track.elements:
            if element.image_id in copy.images:
                track.add_element(element.image_id, element.point2D_idx)
        copy.add_point3D(point.xyz, track, point.color)
    return copy


def _turns(picture: Picture) -> int:
    """Return the clockwise quarter turns that bring the picture upright from how its camera holds it.

    Without a tag, it is the usual way to hold a phone upright.
    """
    return {3: 2, 6: 1, 8: 3}.get(picture.orientation, int(picture.size[1] > picture.size[0]))


def _landscape(size: tuple[int, int]) -> tuple[int, int]:
    return max(size), min(size)


def _same_shape(picture: Picture, other: Picture) -> bool:
    """Return whether two pictures have the same proportions, turned or not, within the rounding of their sides."""
    (a, b), (c, d) = (_landscape(each.feature_size) for each in (picture, other))
    return abs(a * d - b * c) <= max(a, c) and _LARGEST_FACTOR * a >= c


def _rewrite(file: Path, turns: int, size: tuple[int, int], resampling: Image.Resampling) -> None:
    """Turn a picture anticlockwise by quarters, and give it a size."""
    with Image.open(file) as opened:
        image = opened.transpose(_TURNED[turns]) if turns else opened.copy()
    if turns or image.size != size:
        (image if image.size == size else image.resize(size, resampling)).save(file)


def _turned(camera: pycolmap.Camera, number: int, turns: int) -> pycolmap.Camera:
    """Return the camera of pictures that are turned clockwise by quarters."""
    size, params = (camera.width, camera.height), list(camera.params)
    focal, centre, extra = camera.focal_length_idxs(), camera.principal_point_idxs(), camera.extra_params_idxs()
    for _ in range(turns):
        x, y = (params[place] for place in centre)
        params[centre[0]], params[centre[1]] = size[1] - y, x
        if len(focal) == 2:
            params[focal[0]], params[focal[1]] = params[focal[1]], params[focal[0]]
        if camera.model == pycolmap.CameraModelId.OPENCV:
            p1, p2 = (params[place] for place in extra[2:])
            params[extra[2]], params[extra[3]] = p2, -p1
        size = size[1], size[0]
    return pycolmap.Camera(camera_id=number, model=camera.model, width=size[0], height=size[1], params=params)
