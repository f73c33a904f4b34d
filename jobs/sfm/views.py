"""Describe pictures for structure from motion, and write them with their cameras and rigs to COLMAP's database."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pycolmap

from jobs.pictures import panorama
from jobs.pictures.reading import Picture
from jobs.sfm.pose import Lens

__all__ = ["Mount", "View", "view_of", "write_views"]

_EXACT = 20.0  # metres: GPS positions that are known to be less accurate are not used to compare photos


@dataclass(frozen=True)
class Mount:
    """The place of a camera in a rig of cameras with one common centre.

    Args:
        frame: a key; pictures with the same one were taken at the same moment (a frame in COLMAP's sense).
        index: of the camera in its rig; 0 is the reference.
        rotation: (3, 3), from the camera to the reference.
    """

    frame: str
    index: int
    rotation: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class View:
    """A picture for structure from motion.

    Args:
        name: file name in the folder of pictures.
        width, height: px.
        camera: a key; pictures with the same one share their intrinsics.
        focal: focal length from EXIF as a multiple of the diagonal; None if unknown.
        known: whether the camera's name is known, and not just the picture's size.
        like: a key; pictures of one size with the same key may be of one lens although `camera` differs. By default,
            known cameras differ, and others may be the same.
        mount: the camera's place in a rig; its focal length is then exact, and it has no distortion.
        position: latitude and longitude by GPS, degrees; None if unknown.
        lens: intrinsics that were given with the poses; None if they are to be found.
        fisheye: whether the lens is a fisheye.
        centre: the principal point in terms of width and height; it is off the middle if the photo was cropped.
    """

    name: str
    width: int
    height: int
    camera: str
    focal: float | None = None
    known: bool = True
    like: str = ""
    mount: Mount | None = None
    position: tuple[float, float] | None = None
    lens: Lens | None = None
    fisheye: bool = False
    centre: tuple[float, float] = (0.5, 0.5)


def view_of(picture: Picture) -> View:
    """Return a picture as structure from motion takes it, with the camera and the position of its EXIF."""
    # Photos share intrinsics by size, camera and zoom, held upright or not. Those without EXIF are a group of their
    # own: another camera's photos can have the same size. Smaller photos can be crops, so sharing is tried.
    lens = f"{picture.model} {picture.focal} {picture.view}"
    camera = f"{min(picture.size)} x {max(picture.size)} {lens}"
    at = picture.tags.latitude, picture.tags.longitude
    exact = (picture.tags.accuracy or 0.0) <= _EXACT
    position = None if at[0] is None or at[1] is None or not exact else (at[0], at[1])
    if picture.view is None:
        return View(
            picture.features,
            *picture.feature_size,
            f"{picture.feature_size} {camera}",
            focal=picture.focal,
            known=bool(picture.model),
            like=f"{picture.feature_size} {lens}",
            position=position,
        )
    mount = Mount(picture.file.rpartition("_")[0], picture.view, panorama.ROTATIONS[picture.view])
    focal = 0.5 / math.sqrt(2)  # 90°
    return View(picture.features, *picture.feature_size, camera, focal=focal, mount=mount, position=position)


def write_views(database: pycolmap.Database, views: list[View]) -> None:
    """Add cameras, rigs, images and frames to a database, in the order given."""
    sizes = Counter(view.camera for view in views)
    cameras: dict[str, pycolmap.Camera] = {}
    known = database.num_cameras()
    for view in views:
        if view.camera not in cameras:
            camera = _camera(known + len(cameras) + 1, view, sizes[view.camera])
            database.write_camera(camera, use_camera_id=True)
            cameras[view.camera] = camera
    rigs = _write_rigs(database, views, cameras)
    frames: dict[str, pycolmap.Frame] = {}
    for number, view in enumerate(views, database.num_images() + 1):
        image = pycolmap.Image(name=view.name, camera_id=cameras[view.camera].camera_id, image_id=number)
        database.write_image(image, use_image_id=True)
        key = view.mount.frame if view.mount else view.name
        if key not in frames:
            frames[key] = pycolmap.Frame(frame_id=number, rig_id=rigs[view.camera])
        frames[key].add_data_id(image.data_id)
    for frame in frames.values():
        database.write_frame(frame, use_frame_id=True)


def _camera(number: int, view: View, pictures: int) -> pycolmap.Camera:
    if view.lens:
        camera = pycolmap.Camera(
            camera_id=number,
            model="OPENCV_FISHEYE" if view.lens.fisheye else "OPENCV",
            width=view.width,
            height=view.height,
            params=view.lens.params(view.width, view.height),
        )
        camera.has_prior_focal_length = True
        return camera
    diagonal = float(np.hypot(view.width, view.height))
    # COLMAP guesses 1.2 times the longer side where EXIF says nothing.
    focal = view.focal * diagonal if view.focal else 1.2 * max(view.width, view.height)
    # With few pictures, eight parameters of focal length and distortion fit the noise.
    model = "PINHOLE" if view.mount else "OPENCV" if pictures >= 8 else "SIMPLE_RADIAL"
    if view.fisheye:
        model += "_FISHEYE"
    camera = pycolmap.Camera.create_from_model_name(number, model, focal, view.width, view.height)
    camera.has_prior_focal_length = view.focal is not None
    camera.principal_point_x, camera.principal_point_y = view.centre[0] * view.width, view.centre[1] * view.height
    return camera


def _write_rigs(database: pycolmap.Database, views: list[View], cameras: dict[str, pycolmap.Camera]) -> dict[str, int]:
    """Add a rig for each camera, or for those that are mounted together; return each camera's rig."""
    together: dict[str, dict[int, View]] = defaultdict(dict)
    for view in views:
        if view.mount:
            together[view.mount.frame][view.mount.index] = view
    rigs: dict[str, int] = {}
    for mounted in [*together.values(), *({0: view} for view in views if not view.mount)]:
        reference = cameras[mounted[0].camera]
        if mounted[0].camera in rigs:
            continue
        rig = pycolmap.Rig(rig_id=reference.camera_id)
        rig.add_ref_sensor(reference.sensor_id)
        for index, view in sorted(mounted.items()):
            rigs[view.camera] = reference.camera_id
            if index:
                assert view.mount
                from_rig = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array(view.mount.rotation, float).T), np.zeros(3))
                rig.add_sensor(cameras[view.camera].sensor_id, from_rig)
        database.write_rig(rig, use_rig_id=True)
    return rigs
