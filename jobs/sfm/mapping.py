"""Find poses and points from matches, with COLMAP's mappers.

COLMAP: Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016; its global mapper is GLOMAP:
Pan et al., "Global Structure-from-Motion Revisited", ECCV 2024.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pycolmap

from jobs.report import Meter
from jobs.sfm.machine import SEED, gpu, threads
from jobs.sfm.search import Search

__all__ = ["ENOUGH", "continue_mapping", "map_matches"]

ENOUGH = 0.9
"""Share of registered pictures below which another method is tried."""

_INCREMENTAL_IMAGES = 400  # with more pictures, the incremental mapper takes longer than the global one

# A last adjustment follows (`refinement`), so those on the way need not be exact. COLMAP adjusts everything whenever a
# model has grown by a tenth, up to five times, with all points and to the last digit, which takes most of its time.
_GROWTH = 1.4
_ROUGH_TOLERANCE = 1e-4  # relative decrease of the cost at which an adjustment of the whole model ends
_TRACKS = 300  # of each picture, from which the global mapper finds the poses: it adds the others afterwards


def map_matches(search: Search) -> tuple[list[pycolmap.Reconstruction], str]:
    """Reconstruct the pictures of a search.

    Returns:
        The models, the one with the most pictures first, and the mapper that made them, in words.
    """
    mapper: str = search.options.mapper
    if mapper == "auto":
        mapper = "incremental" if len(search.views) <= _INCREMENTAL_IMAGES else "global"
    with search.timer.step("mapping"):
        models = _map_globally(search) if mapper == "global" else _map_incrementally(search)
        if mapper == "global" and search.options.mapper == "auto":
            most = max((model.num_reg_images() for model in models), default=0)
            if most < ENOUGH * len(search.views):
                models += _map_incrementally(search)
                mapper = "global, then incremental"
    return sorted(models, key=lambda model: -model.num_reg_images()), mapper


def continue_mapping(search: Search, model: pycolmap.Reconstruction) -> pycolmap.Reconstruction | None:
    """Return a model with further pictures of a search, whose registered pictures have the same features there."""
    with search.timer.step("mapping"), TemporaryDirectory(dir=search.work) as begun:
        model.write(begun)
        models = _map_incrementally(search, Path(begun))
    return max(models, key=lambda each: each.num_reg_images(), default=None)


def _map_incrementally(search: Search, begun: Path | None = None) -> list[pycolmap.Reconstruction]:
    options = pycolmap.IncrementalPipelineOptions(
        random_seed=SEED,
        num_threads=search.threads,
        extract_colors=False,
        min_model_size=3,
        ba_refine_sensor_from_rig=False,
        ba_global_frames_ratio=_GROWTH,
        ba_global_points_ratio=_GROWTH,
        ba_global_function_tolerance=_ROUGH_TOLERANCE,
        ba_global_max_refinements=1,
        ba_local_max_refinements=1,
    )
    options.mapper.ba_global_ignore_redundant_points3D = True
    options.constant_cameras = search.mounted()
    if begun:
        options.multiple_models = options.structure_less_registration_fallback = False
    meter = Meter("prepare:mapping", len(search.views))
    placed = 0

    def place(pictures: int) -> None:
        nonlocal placed
        placed = pictures
        meter.update(min(placed, len(search.views) - 1))

    models = pycolmap.incremental_mapping(
        search.database,
        search.folder,
        _output(search),
        options,
        input_path=begun or "",
        initial_image_pair_callback=lambda: place(2),  # called for every new model
        next_image_callback=lambda: place(placed + 1),
    )
    meter.update(len(search.views))
    return list(models.values())


def _map_globally(search: Search) -> list[pycolmap.Reconstruction]:
    if sum(view.focal is None for view in search.views) > len(search.views) / 2:
        pycolmap.calibrate_view_graph(search.database, pycolmap.ViewGraphCalibrationOptions(random_seed=SEED))
    options = pycolmap.GlobalPipelineOptions(random_seed=SEED, num_threads=threads())
    options.mapper.track_required_tracks_per_view = _TRACKS
    options.mapper.ba_num_iterations = 1
    options.mapper.bundle_adjustment.refine_sensor_from_rig = False
    options.mapper.global_positioning.use_gpu = gpu()
    options.mapper.bundle_adjustment.ceres.use_gpu = gpu()
    return list(pycolmap.global_mapping(search.database, search.folder, _output(search), options).values())


def _output(search: Search) -> Path:
    """Return an empty folder: the mapper writes its models there as well as returning them."""
    folder = search.work / "models"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
