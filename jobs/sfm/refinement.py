"""Refine a reconstruction by a last bundle adjustment: principal points, and little weight for wrong matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pycolmap

__all__ = ["adjust", "refine"]

_ENOUGH_PHOTOS = 16  # of a camera: with 12, a principal point is no better known than from the middle of the picture
_FARTHEST = 0.1  # of a principal point from the middle, in terms of the picture's diagonal: more comes from cropping
# Least gain of principal points, in terms of a residual's variance. By chance alone, it is more in 0.5 % of cases
# (chi-squared with two degrees of freedom). Measured for a point in the middle of the picture: 0.5 to 10 with 16 photos
# and 13 with 48, where poses were better with it; for one 13 px off in pictures of 640 px: 31 to 257.
_GAIN = 10.6
_LOSS_SCALE = 1.0  # px, above which residuals count less and less
_DENSE_PHOTOS = 250  # up to here, solving for all poses at once takes less than looking for what is zero, in one thread
_TOLERANCE = 1e-7  # relative decrease of the cost at which the adjustment ends


def refine(model: pycolmap.Reconstruction, threads: int) -> int:
    """Adjust a reconstruction in place, with the principal points of the cameras that took enough photos.

    COLMAP's mappers hold the principal point in the middle of the picture, where few lenses have it. The rotation of
    every photo then makes up for it. If the photos do not show clearly that a point is elsewhere, it stays in the
    middle, because a few photos can hardly tell it from their own rotation.

    Args:
        threads: number of threads of the solver.

    Returns:
        The number of cameras whose principal point was refined.
    """
    photos = Counter(image.camera_id for image in model.images.values() if image.has_pose)
    exact = {number for number, camera in model.cameras.items() if camera.model == pycolmap.CameraModelId.PINHOLE}
    enough = {camera for camera, number in photos.items() if number >= _ENOUGH_PHOTOS} - exact
    adjust(model, threads, held=photos.keys() & exact)
    if not enough:
        return 0
    before = {camera: model.cameras[camera].params.tolist() for camera in photos}
    gain = adjust(model, threads, held=photos.keys() - enough, principal_points=True)
    if gain < _GAIN or any(_offset(model.cameras[camera]) > _FARTHEST for camera in enough):
        for camera, params in before.items():
            model.cameras[camera].params = params
        adjust(model, threads, held=photos.keys() & exact)
        return 0
    return len(enough)


def adjust(
    model: pycolmap.Reconstruction, threads: int, held: Collection[int] = (), *, principal_points: bool = False
) -> float:
    """Adjust poses, points and cameras of a reconstruction in place, with Cauchy's loss.

    Args:
        threads: number of threads of the solver.
        held: numbers of the cameras whose intrinsics stay as they are.
        principal_points: whether those of the other cameras change, too.

    Returns:
        The decrease of the sum of squared residuals, in terms of a residual's variance after the adjustment.
    """
    config = pycolmap.BundleAdjustmentConfig()
    for image in model.images.values():
        if image.has_pose:
            config.add_image(image.image_id)
    for camera in held:
        config.set_constant_cam_intrinsics(camera)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions(print_summary=False, refine_principal_point=principal_points)
    options.refine_sensor_from_rig = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = _LOSS_SCALE
    options.ceres.solver_options.num_threads = threads
    options.ceres.max_num_images_direct_dense_cpu_solver = _DENSE_PHOTOS
    options.ceres.solver_options.function_tolerance = _TOLERANCE
    # Fit each point to the new poses after every step (Ceres' inner iterations), so that fewer steps are needed.
    options.ceres.solver_options.use_inner_iterations = True
    solved: Any = pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    costs = solved.ceres_summary
    model.update_point_3d_errors()
    return float((costs.initial_cost / costs.final_cost - 1) * costs.num_residuals) if costs.final_cost else 0.0


def _offset(camera: pycolmap.Camera) -> float:
    """Return how far the principal point is from the middle of the picture, in terms of its diagonal."""
    size = np.array([camera.width, camera.height])
    point = np.array([camera.principal_point_x, camera.principal_point_y])
    return float(np.linalg.norm(point - size / 2) / np.linalg.norm(size))
