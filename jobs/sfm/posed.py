"""Find points from pictures with given poses, which are checked against the pictures and refined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from jobs.geometry import Floats, rotation_angles
from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.report import Meter
from jobs.sfm import lookalikes, refinement
from jobs.sfm.machine import SEED
from jobs.sfm.outcome import Given, Outcome
from jobs.sfm.reconstruction import begin
from jobs.sfm.search import FEW_MATCHES, Search, verified_pairs
from jobs.sfm.views import View

__all__ = ["triangulate"]

_LIMITS = (0.015, 0.005, 0.0025)  # of reprojection errors in each round, in terms of the diagonal
_LEAST_POINTS = 30  # of a picture: COLMAP's least number for a registered picture
_LEAST = 3  # pictures
_NO_FIT = "its given pose does not fit its features"
_LEAST_FIT = 0.3
# Of the scene's size, in the median. Measured: up to 0.07 where the outcome was right; 0.13 to 0.27 where poses that
# were mixed up or mirrored led to a wrong one.
_MOST_MOVED = 0.1
_OWN_LENS = 8  # pictures of a camera whose intrinsics are refined


def triangulate(
    folder: Path,
    views: list[View],
    poses: Mapping[str, Floats],
    without: Mapping[str, str],
    work: Path,
    options: PrepareOptions,
    timer: Timer,
) -> Outcome:
    """Find points with given poses, and refine both by bundle adjustment.

    A picture that shows too few of the points is left without a pose. If most of the features that match show no point,
    the poses do not fit the pictures, and there is no model.

    Args:
        folder, work, options, timer: see `jobs.sfm.reconstruction.reconstruct`.
        views: the pictures, each with its lens.
        poses: by view's name, (3, 4) camera to world, with OpenCV's axes.
        without: the pictures that have no pose, by name, with the reason.

    Returns:
        The result, in px of these pictures and in a frame near that of the poses, with the origin in their middle.
    """
    if len(views) < _LEAST:
        return Outcome(mapper="given poses", given=Given(len(poses), dict(without)))
    # Positions in metres of a map are too far from the origin to be adjusted exactly.
    middle = np.mean([pose[:, 3] for pose in poses.values()], axis=0)
    poses = {name: np.column_stack([pose[:, :3], pose[:, 3] - middle]) for name, pose in poses.items()}
    search = Search(folder, views, work, options, timer)
    begin(search, sequence=False)
    features, best = search.figures()
    given = Given(len(poses), dict(without))
    with timer.step("mapping"):
        model, given.fit = _triangulated(search, poses)
    registered = {image.name: image for image in model.images.values() if image.has_pose}
    given.refused |= dict.fromkeys(poses.keys() - registered.keys(), _NO_FIT)
    result = Outcome(
        matching=tuple(search.matching),
        mapper="given poses",
        features=features,
        best_matches=best,
        search=search,
        given=given,
    )
    if len(registered) >= _LEAST:
        given.moved, given.turned = _movement(registered, poses)
    if len(registered) < _LEAST or given.fit < _LEAST_FIT or not given.moved[0] < _MOST_MOVED:
        given.refused |= dict.fromkeys(poses, _NO_FIT)
        return result
    with timer.step("refinement"):
        result.refined = refinement.refine(model, search.threads)
    given.moved, given.turned = _movement(registered, poses)
    result.confused = len(lookalikes.places(model)) > 1
    result.model, result.models = model, [len(registered)]
    return result


def _matched(search: Search, names: Collection[str]) -> dict[str, int]:
    """Return how many features of each of these pictures match features of another one."""
    found: dict[str, set[int]] = {name: set() for name in names}
    with pycolmap.Database.open(search.database) as database:
        known = {image.image_id: image.name for image in database.read_all_images()}
        for i, j, inliers in verified_pairs(database):
            if inliers >= FEW_MATCHES and found.keys() >= {known[i], known[j]}:
                matches = database.read_two_view_geometry(i, j).inlier_matches
                for side, number in enumerate((i, j)):
                    found[known[number]].update(matches[:, side].tolist())
    return {name: len(features) for name, features in found.items()}


def _triangulated(search: Search, poses: Mapping[str, Floats]) -> tuple[Any, float]:
    """Return a model that begins with the given poses, and how well it fits the pictures in the end.

    Points are found and everything is adjusted in rounds with ever stricter limits. The second result is the share of
    matching features that show a point of the model, in the median over the pictures.
    """
    matched = _matched(search, poses)
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(search.database) as database:
        images = [image for image in database.read_all_images() if image.name in poses]
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
    for number in sorted({image.camera_id for image in images}):
        model.add_camera_with_trivial_rig(cameras[number])
    for image in images:
        rotation, center = poses[image.name][:, :3], poses[image.name][:, 3]
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation.T), -rotation.T @ center)
        own = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
        model.add_image_with_trivial_frame(own, pose)
    diagonal = max(float(np.hypot(view.width, view.height)) for view in search.views)
    meter = Meter("prepare:mapping", len(_LIMITS))
    for done, limit in enumerate(_LIMITS, 1):
        options = pycolmap.IncrementalPipelineOptions(random_seed=SEED, num_threads=search.threads)
        options.mapper.filter_max_reproj_error = limit * diagonal
        model = pycolmap.triangulate_points(model, search.database, search.folder, search.work, options=options)
        photos = [image for image in model.images.values() if image.has_pose]
        for image in photos:
            if image.num_points3D < _LEAST_POINTS:
                model.deregister_frame(image.frame_id)
        taken = Counter(image.camera_id for image in model.images.values() if image.has_pose)
        if taken.total() < _LEAST:
            break
        refinement.adjust(model, search.threads, held=[lens for lens, times in taken.items() if times < _OWN_LENS])
        meter.update(done)
    good = {number for number, point in model.points3D.items() if point.error < _LIMITS[-1] * diagonal}
    shown = {image.name: sum(p.point3D_id in good for p in image.points2D) for image in model.images.values()}
    return model, median(shown[name] / max(1, matched[name]) for name in shown)


def _movement(registered: Mapping[str, Any], poses: Mapping[str, Floats]) -> tuple[tuple[float, float], ...]:
    """Return how far cameras are from their given poses: in terms of the scene's size, and in degrees; median, worst.

    The frames are aligned by all rotations, and by the centre and the spread of the positions, which can be on a line.
    """
    given = np.array([poses[name] for name in registered])
    found = np.array([image.cam_from_world().inverse().matrix() for image in registered.values()])
    turn = Rotation.from_matrix(given[:, :, :3] @ found[:, :, :3].transpose(0, 2, 1)).mean().as_matrix()
    turned = rotation_angles(turn @ found[:, :, :3], given[:, :, :3])
    a, b = (each[:, :, 3] - each[:, :, 3].mean(axis=0) for each in (given, found))
    moved = np.linalg.norm(a - np.linalg.norm(a) / np.linalg.norm(b) * b @ turn.T, axis=1)
    moved /= float(np.linalg.norm(np.ptp(given[:, :, 3], axis=0)))
    return (float(np.median(moved)), float(moved.max())), (float(np.median(turned)), float(turned.max()))
