"""Refine a reconstruction by a last bundle adjustment: likely lenses, and little weight for wrong matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pycolmap

from jobs.geometry import Floats
from jobs.sfm.machine import fast_float64

__all__ = [
    "ROUGH_TOLERANCE",
    "adjust",
    "adjust_principal_points",
    "adjust_roughly",
    "leave_out_impossible",
    "refine",
    "usual_loss_scale",
    "warm_up",
]

ROUGH_TOLERANCE = 1e-4
"""Relative decrease of the cost at which an adjustment of the whole model ends, if another one follows."""

_GPU_PHOTOS = 100  # from here on, a GPU with fast float64 takes less time than Ceres

_LEAST_PHOTOS = 3  # of a camera whose principal point is refined
_FARTHEST = 0.1  # of a principal point from the middle, in terms of the picture's diagonal: more comes from cropping
# What is known of any lens, as standard deviations: the principal point is near the middle of the picture (in terms of
# its diagonal), pixels are square and EXIF is nearly right (in terms of the focal length), and tangential distortion,
# which fits much the same displacements as a principal point, is small.
_OFF_MIDDLE = 0.01
_OFF_SQUARE = 0.001
_OFF_EXIF = 0.05
_TANGENTIAL = 3e-4
# Errors in terms of those that the adjustment expects, measured for the lenses of six sets of photos with known poses.
# An adjustment takes each position for independent and the camera model for exact.
_OPTIMISM = 5.0
_IMPOSSIBLE = 0.02  # of the diagonal: an error that no lens and no feature explains
_LEAST_POINTS = 10  # of a picture with a pose
_LOSS_SCALE = 1.0  # px, above which residuals count less and less
_LEAST_LOSS_SCALE = 0.05
_OF_MEDIAN = 0.7  # the last loss scale in terms of the median error of a point: large features are located less exactly
_DENSE_PHOTOS = 250  # up to here, solving for all poses at once takes less than looking for what is zero, in one thread
_TOLERANCE = 1e-7  # relative decrease of the cost at which the adjustment ends
_GPU_TOLERANCE = 1e-6  # there, steps are smaller; poses are the same to 0.001 % of the scene's size


def refine(
    model: pycolmap.Reconstruction,
    threads: int,
    focals: Mapping[str, float | None] = MappingProxyType({}),
    cropped: Collection[str] = (),
) -> int:
    """Adjust a reconstruction in place, with the principal points of the cameras that took enough photos.

    COLMAP's mappers hold the principal point in the middle of the picture, where few lenses have it. The rotation of
    every photo then makes up for it. A few photos, or photos of a flat wall, can hardly tell the principal point from
    the rotation or from tangential distortion; nor can those of a drone that looks straight down tell the focal length
    from the height. So the lens is the most likely one (maximum a posteriori), given both the photos and what is known
    of any lens.

    Args:
        threads: number of threads of the solver.
        focals: focal lengths from EXIF by picture's name, as multiples of the diagonal.
        cropped: the names of pictures with separate cameras, whose principal points may be anywhere.

    Returns:
        The number of cameras whose principal point was refined.
    """
    exact = _exact(model)
    adjust(model, threads, held=exact)
    photos = _photos(model)
    enough = {camera for camera, number in photos.items() if number >= _LEAST_PHOTOS} - exact
    if not enough or any(rig.num_sensors() > 1 for rig in model.rigs.values()):
        return 0  # COLMAP has no covariances of pictures in a rig
    model.tear_down()  # COLMAP's covariances need a pose of every picture
    before = {camera: np.array(model.cameras[camera].params) for camera in photos}
    likely = {}
    scale = usual_loss_scale(model)
    for number, covariance in _adjust_lenses(model, threads, photos.keys() - enough, scale).items():
        camera = model.cameras[number]
        if _offset(camera) < _FARTHEST:
            named = [focals.get(str(image.name)) for image in model.images.values() if image.camera_id == number]
            focal = next(filter(None, named), None)
            likely[number] = _likely(camera, covariance * _OPTIMISM**2, before[number], focal)
    for number, params in {**before, **likely}.items():
        model.cameras[number].params = params.tolist()
    adjust(model, threads, likely.keys() | exact, scale)
    if cropped:
        others = {image.camera_id for image in model.images.values() if image.has_pose and image.name not in cropped}
        adjust_principal_points(model, threads, others, scale)
    return len(likely)


def _exact(model: pycolmap.Reconstruction) -> set[int]:
    """Return the numbers of the cameras with photos whose intrinsics are exact, as those of panoramas are."""
    exact = {number for number, camera in model.cameras.items() if camera.model == pycolmap.CameraModelId.PINHOLE}
    return exact & _photos(model).keys()


def _photos(model: pycolmap.Reconstruction) -> Counter[int]:
    """Return the number of pictures with a pose by camera."""
    return Counter(image.camera_id for image in model.images.values() if image.has_pose)


def usual_loss_scale(model: pycolmap.Reconstruction) -> float:
    """Return the loss scale of the last adjustment, px, from the errors of a reconstruction's points."""
    usual = _OF_MEDIAN * float(np.median([point.error for point in model.points3D.values()]))
    return min(max(usual, _LEAST_LOSS_SCALE), _LOSS_SCALE)


def adjust(
    model: pycolmap.Reconstruction,
    threads: int,
    held: Collection[int] = (),
    loss_scale: float = _LOSS_SCALE,
    tolerance: float | None = None,
) -> None:
    """Adjust poses, points and cameras, but not principal points, of a reconstruction in place, with Cauchy's loss.

    Args:
        threads: number of threads of the solver.
        held: numbers of the cameras whose intrinsics stay as they are.
        loss_scale: px, above which residuals count less and less.
        tolerance: relative decrease of the cost at which the adjustment ends; by default what poses need.
    """
    if _on_gpu(model, held):
        _adjust_on_gpu(model, held, loss_scale, tolerance=tolerance or _GPU_TOLERANCE)
    else:
        _solve(model, threads, held, loss_scale, tolerance=tolerance or _TOLERANCE)
    leave_out_impossible(model)


def adjust_roughly(model: pycolmap.Reconstruction, threads: int) -> None:
    """Adjust a reconstruction in place like `adjust`, in fewer steps, and remove observations that do not fit."""
    adjust(model, threads, _exact(model), tolerance=ROUGH_TOLERANCE)
    usual = pycolmap.IncrementalMapperOptions()
    manager = pycolmap.ObservationManager(model)
    manager.filter_all_points3D(usual.filter_max_reproj_error, usual.filter_min_tri_angle)


def adjust_principal_points(
    model: pycolmap.Reconstruction, threads: int, held: Collection[int] = (), loss_scale: float = _LOSS_SCALE
) -> None:
    """Adjust a reconstruction in place like `adjust`, with free principal points of the cameras that are not held."""
    _solve(model, threads, held, loss_scale, principal_points=True)
    leave_out_impossible(model)


def leave_out_impossible(model: pycolmap.Reconstruction) -> None:
    """Remove observations of points that are behind their cameras or far from where they are seen, in place.

    An adjustment can move a point behind a camera, which COLMAP counts as an error of 1e154 px. Pictures that are left
    with too few observations lose their pose.
    """
    diagonal = max((float(np.hypot(camera.width, camera.height)) for camera in model.cameras.values()), default=0.0)
    manager = pycolmap.ObservationManager(model)
    if not manager.filter_points3D_with_large_reprojection_error(_IMPOSSIBLE * diagonal, model.point3D_ids()):
        return
    points = Counter[int]()
    for image in model.images.values():
        if image.has_pose:
            points[image.frame_id] += image.num_points3D
    for frame, number in points.items():  # those of a rig share their pose
        if number < _LEAST_POINTS:
            model.deregister_frame(frame)
    model.update_point_3d_errors()


def warm_up(photos: int) -> None:
    """Load what an adjustment of so many photos needs, if it is one for the GPU."""
    if photos >= _GPU_PHOTOS and fast_float64():
        from jobs.sfm import dense

        dense.warm_up()


def _adjust_lenses(
    model: pycolmap.Reconstruction, threads: int, held: Collection[int], loss_scale: float = _LOSS_SCALE
) -> dict[int, Floats]:
    """Adjust a reconstruction in place, with principal points, too.

    Returns:
        The covariances of the parameters of the cameras that are not held, by their numbers, as far as they are known.
    """
    if _on_gpu(model, held):
        return _adjust_on_gpu(model, held, loss_scale, principal_points=True)
    solver, variance = _solve(model, threads, held, loss_scale, principal_points=True)
    options = pycolmap.BACovarianceOptions(params=pycolmap.BACovarianceOptionsParams.ALL)
    covariance = pycolmap.estimate_ba_covariance(options, model, solver)
    free = {number: camera.params for number, camera in model.cameras.items() if number not in held}
    found = {number: covariance.get_other_params_cov(params) for number, params in free.items()} if covariance else {}
    return {number: own * variance for number, own in found.items() if own is not None}


def _on_gpu(model: pycolmap.Reconstruction, held: Collection[int]) -> bool:
    if model.num_reg_images() < _GPU_PHOTOS or not fast_float64():
        return False
    from jobs.sfm import dense  # loads PyTorch

    return dense.suits(model, held)


def _adjust_on_gpu(
    model: pycolmap.Reconstruction,
    held: Collection[int],
    loss_scale: float,
    *,
    principal_points: bool = False,
    tolerance: float = _GPU_TOLERANCE,
) -> dict[int, Floats]:
    from jobs.sfm import dense

    covariances = dense.adjust(
        model, held, principal_points=principal_points, loss_scale=loss_scale, tolerance=tolerance
    )
    model.update_point_3d_errors()
    return covariances


def _solve(
    model: pycolmap.Reconstruction,
    threads: int,
    held: Collection[int],
    loss_scale: float,
    *,
    principal_points: bool = False,
    tolerance: float = _TOLERANCE,
) -> tuple[Any, float]:
    """Adjust a reconstruction in place; return COLMAP's adjuster, and the variance of a residual."""
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
    options.ceres.loss_function_scale = loss_scale
    options.ceres.solver_options.num_threads = threads
    options.ceres.max_num_images_direct_dense_cpu_solver = _DENSE_PHOTOS
    options.ceres.solver_options.function_tolerance = tolerance
    # Fit each point to the new poses after every step (Ceres' inner iterations), so that fewer steps are needed.
    options.ceres.solver_options.use_inner_iterations = True
    solver: Any = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
    costs = solver.solve().ceres_summary
    model.update_point_3d_errors()
    free = max(1, costs.num_residuals - costs.num_effective_parameters_reduced)
    return solver, 2 * costs.final_cost / free


def _likely(camera: pycolmap.Camera, covariance: Floats, before: Floats, focal: float | None = None) -> Floats:
    """Return the most likely parameters of a lens, by their covariance as fitted and by what is known of any lens.

    Args:
        camera: as fitted to the photos alone.
        covariance: of all its parameters.
        before: its parameters with the principal point where it was held.
        focal: its focal length from EXIF, as a multiple of the diagonal; None if unknown.
    """
    fitted = np.array(camera.params)
    unit = np.eye(len(fitted))
    diagonal = float(np.hypot(camera.width, camera.height))
    known = [(unit[place], before[place], _OFF_MIDDLE * diagonal) for place in camera.principal_point_idxs()]
    places = camera.focal_length_idxs()
    if len(places) == 2:
        known.append((unit[places[0]] - unit[places[1]], 0.0, _OFF_SQUARE * float(fitted[places[0]])))
    if focal:
        known.append((unit[places].mean(axis=0), focal * diagonal, _OFF_EXIF * focal * diagonal))
    if camera.model == pycolmap.CameraModelId.OPENCV:
        known += [(unit[place], 0.0, _TANGENTIAL) for place in camera.extra_params_idxs()[2:]]
    weight = np.linalg.inv(covariance)
    total, target = weight.copy(), weight @ fitted
    for row, value, deviation in known:
        total += np.outer(row, row) / deviation**2
        target += row * value / deviation**2
    likely: Floats = np.linalg.solve(total, target)
    return likely


def _offset(camera: pycolmap.Camera) -> float:
    """Return how far the principal point is from the middle of the picture, in terms of its diagonal."""
    size = np.array([camera.width, camera.height])
    point = np.array([camera.principal_point_x, camera.principal_point_y])
    return float(np.linalg.norm(point - size / 2) / np.linalg.norm(size))
