"""Write a reconstruction as a dataset: `transforms.json`, COLMAP's files and a point cloud, in the scene frame.

The format: https://docs.nerf.studio/quickstart/data_conventions.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pycolmap

from jobs import geometry, ply, report
from jobs.light import Light
from jobs.pictures.reading import Picture
from jobs.sfm import exposure, fisheye, overlap
from jobs.sfm.layout import as_written
from jobs.sfm.machine import gpu
from jobs.sfm.orientation import find_up
from jobs.sfm.overlap import Overlap
from jobs.sfm.shared import registered_images

if TYPE_CHECKING:
    from jobs.sfm.registration import Fit

__all__ = ["Written", "write_model"]

_OFF_PIXEL = 1e-3  # px: by which a fisheye's principal point is moved off the middle of a pixel


class Written(NamedTuple):
    """What is known of a dataset once its model is written.

    Args:
        transforms: the content of transforms.json.
        figures: for the manifest.
        light: how the light differs between the photos.
        overlap: how near each other they were taken; None for views of 360° pictures, which show all around.
    """

    transforms: dict[str, Any]
    figures: dict[str, float | int | bool | str]
    light: Light | None
    overlap: Overlap | None


def write_model(
    model: pycolmap.Reconstruction, pictures: dict[str, Picture], dataset: Path, fit: Fit | None
) -> Written:
    """Write COLMAP's files and the point cloud, in the scene frame and in px of the written pictures.

    Args:
        model: in px of the grey pictures; it is changed.
        pictures: by the names of their grey pictures.
        dataset: the folder to write into.
        fit: how the model fits the scene frame; None to begin a new one.
    """
    meter = report.Meter("prepare:writing", 4)
    cameras = len({image.camera_id for image in model.images.values() if image.has_pose})
    model = as_written(model, pictures)
    for image in model.images.values():
        image.name = pictures[image.name].file
    meter.update(1)
    source: str = "reference"
    if fit:
        model.transform(fit.sim3d())
    else:
        up, source = find_up(model, {picture.file: picture.tags for picture in pictures.values()})
        model.transform(_scene_from_model(model, up))
    model.update_point_3d_errors()
    model.extract_colors_for_all_images(dataset / "images")
    light = exposure.measure(model, dataset / "images")
    whole = all(picture.view is None for picture in pictures.values())
    near = overlap.measure(model, {p.file: p.source for p in pictures.values()}) if whole else None
    meter.update(2)
    folder = dataset / "colmap" / "sparse" / "0"
    folder.mkdir(parents=True)
    model.write(folder)
    _write_points(model, dataset / "sparse_pc.ply")
    meter.update(3)
    masks = {p.file: f"masks/{p.mask}" for p in pictures.values()} if any(p.masked for p in pictures.values()) else {}
    transforms = _transforms(model, masks)
    figures: dict[str, float | int | bool | str] = {
        "reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
        "points": model.num_points3D(),
        "track_length": round(model.compute_mean_track_length(), 3),
        "cameras": cameras,
        "up": source,
        "gpu": gpu(),
    }
    meter.update(4)
    return Written(transforms, figures, light, near)


def _scene_from_model(model: pycolmap.Reconstruction, up: geometry.Floats) -> pycolmap.Sim3d:
    """Return the similarity that brings a model into a new scene frame: the cameras in the middle, within ±1.

    With the cameras' mean up, it is that of nerfstudio's `auto_orient_and_center_poses` with "up" and "poses" and its
    `auto_scale_poses`.
    """
    poses = np.array([image.cam_from_world().inverse().matrix() for image in model.images.values() if image.has_pose])
    rotation = geometry.rotation_between(up, [0.0, 0.0, 1.0])
    centers = (poses[:, :, 3] - poses[:, :, 3].mean(axis=0)) @ rotation.T
    scale = 1 / np.abs(centers).max()
    return pycolmap.Sim3d(scale, pycolmap.Rotation3d(rotation), -scale * rotation @ poses[:, :, 3].mean(axis=0))


def _transforms(model: pycolmap.Reconstruction, masks: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of transforms.json: OpenGL camera axes, scene frame; intrinsics per frame if they differ.

    All cameras are perspective ones or all are fisheyes, as nerfstudio requires.

    `masks` has the masks' paths by picture.
    """
    images = registered_images(model)
    cameras = {image.camera_id: _intrinsics(model.cameras[image.camera_id]) for image in images}
    shared = next(iter(cameras.values())) if len(cameras) == 1 else {}
    frames = []
    for image in images:
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        pose[:3, 1:3] *= -1  # OpenCV's axes to OpenGL's: y up, z backward
        frame = {"file_path": f"images/{image.name}", "transform_matrix": pose.tolist(), "colmap_im_id": image.image_id}
        if image.name in masks:
            frame["mask_path"] = masks[image.name]
        frames.append(frame if shared else {**frame, **cameras[image.camera_id]})
    return {
        "camera_model": "OPENCV_FISHEYE" if model.cameras[images[0].camera_id].model in fisheye.MODELS else "OPENCV",
        **shared,
        "applied_transform": np.eye(4)[:3].tolist(),
        "applied_scale": 1.0,
        "ply_file_path": "sparse_pc.ply",
        "frames": frames,
    }


def _intrinsics(camera: pycolmap.Camera) -> dict[str, float | int]:
    """Return a COLMAP camera (OPENCV or SIMPLE_RADIAL, or their fisheyes) by nerfstudio's keys, px."""
    names = ("k1", "k2", "k3", "k4") if camera.model in fisheye.MODELS else ("k1", "k2", "p1", "p2")
    extra = dict(zip(names, camera.params[camera.extra_params_idxs()], strict=False))
    centre = np.array([camera.principal_point_x, camera.principal_point_y])
    if camera.model in fisheye.MODELS:  # nerfstudio's ray through a fisheye's principal point is not a number
        centre += np.where(2 * centre == np.round(2 * centre), _OFF_PIXEL, 0)
    return {
        "w": camera.width,
        "h": camera.height,
        "fl_x": float(camera.focal_length_x),
        "fl_y": float(camera.focal_length_y),
        "cx": float(centre[0]),
        "cy": float(centre[1]),
        **{name: float(extra.get(name, 0.0)) for name in names},
    }


def _write_points(model: pycolmap.Reconstruction, file: Path) -> None:
    """Write the sparse points and their colours as a PLY file, in the scene frame."""
    points = [point for _, point in sorted(model.points3D.items())]
    xyz = np.array([point.xyz for point in points], np.float32).reshape(-1, 3)
    colours = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
    positions = zip("xyz", xyz.T, strict=True)
    ply.write_vertices(file, {**dict(positions), **dict(zip(("red", "green", "blue"), colours.T, strict=True))})
