"""Find poses and points from matches, with COLMAP's mappers.

COLMAP: Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016; its global mapper is GLOMAP:
Pan et al., "Global Structure-from-Motion Revisited", ECCV 2024.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pycolmap

from jobs.report import Meter
from jobs.sfm.machine import SEED, gpu, threads
from jobs.sfm.refinement import ROUGH_TOLERANCE, adjust_roughly
from jobs.sfm.search import Search
from jobs.sfm.shared import registered
from jobs.sfm.tracks import Matches

__all__ = ["ENOUGH", "continue_mapping", "map_matches"]

ENOUGH = 0.9
"""Share of registered pictures below which another method is tried."""

_INCREMENTAL_IMAGES = 400  # with more pictures, the incremental mapper takes longer than the global one
_ONE_PART_IMAGES = 100  # with more pictures, parts are mapped at the same time, if there are cores for it
_THREADS_FOR_PARTS = 4
_PART_IMAGES, _PART_OVERLAP = 30, 8
# The mapper begins with two pictures, and searches long for two that see a point from directions 16° apart. That pays
# for a whole capture. In a part, whose errors are corrected when all parts are adjusted, less is enough.
_PART_FIRST_ANGLE = 6.0  # degrees

# A last adjustment follows (`refinement`), so those on the way need not be exact. COLMAP adjusts everything whenever a
# model has grown by a tenth, up to five times, with all points and to the last digit, which takes most of its time.
_GROWTH = 1.4
_LEAST_POINTS = 30  # of a model: with fewer, its poses are wrong
_NEARLY_ALL = 0.6  # of the matches: mapping so many first saves nothing
_TRACKS = 300  # of each picture, from which the global mapper finds the poses: it adds the others afterwards


def map_matches(search: Search) -> tuple[list[pycolmap.Reconstruction], str]:
    """Reconstruct the pictures of a search.

    Returns:
        The models, the one with the most pictures first, and the mappers that were used, in words.
    """
    mapper = search.options.mapper if search.options.mapper != "auto" else _likely(search)
    map_by = {"incremental": _map_incrementally, "hierarchical": _map_in_parts, "global": _map_globally}
    with search.timer.step("mapping"):
        models = []
        if mapper != "global" and (few := _with_best_tracks(matches := Matches.of(search))):
            models = _complete(matches, _sorted(map_by[mapper](few)))
        if _most(models) < ENOUGH * len(search.views):
            others = _sorted(map_by[mapper](search))
            if mapper == "hierarchical":
                others = _with_other_parts(search, others)
            models = max(others, models, key=_most)
        if search.options.mapper == "auto" and mapper != "incremental" and _most(models) < ENOUGH * len(search.views):
            models += _map_incrementally(search)
            mapper = f"{mapper}, then incremental"
    return _sorted(models), mapper


def continue_mapping(search: Search, model: pycolmap.Reconstruction) -> pycolmap.Reconstruction | None:
    """Register further pictures in a model. Return the larger model, or None if COLMAP returns none.

    Args:
        search: the pictures and their matches. Those that the model has must have the same features.
        model: the reconstruction. It is not changed.
    """
    with search.timer.step("mapping"):
        return max(_continue(search, model), key=lambda each: each.num_reg_images(), default=None)


def _sorted(models: Iterable[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Return models, the one with the most pictures first."""
    return sorted(models, key=lambda model: -model.num_reg_images())


def _most(models: list[pycolmap.Reconstruction]) -> int:
    """Return the number of pictures of the first model."""
    return models[0].num_reg_images() if models else 0


def _with_best_tracks(matches: Matches) -> Search | None:
    """Return a search with the matches that determine the poses; None if these are nearly all."""
    best = matches.best()
    if not len(best) or best.mean() > _NEARLY_ALL:
        return None
    few = copy.copy(matches.search)
    few.database = few.work / "best-tracks.db"
    matches.write(few.database, best)
    return few


def _complete(matches: Matches, models: list[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Triangulate all matches of models that were found from some of them, and register the pictures without a pose."""
    completed = []
    for model in models:
        matches.triangulate(model)
        if model.num_points3D() >= _LEAST_POINTS:
            adjust_roughly(model, matches.search.threads)
            completed.append(model)
    return _with_other_parts(matches.search, _sorted(completed))


def _likely(search: Search) -> str:
    """Return the mapper that takes the least time for these pictures on this machine."""
    if len(search.views) > _INCREMENTAL_IMAGES:
        return "global"
    in_rigs = any(view.mount for view in search.views)  # parts would tear rigs apart
    in_parts = len(search.views) > _ONE_PART_IMAGES and threads() >= _THREADS_FOR_PARTS and not in_rigs
    return "hierarchical" if in_parts else "incremental"


def _incremental(options: pycolmap.IncrementalPipelineOptions, search: Search) -> None:
    """Set the options of incremental mapping."""
    options.random_seed = SEED
    options.extract_colors = False
    options.min_model_size = 3
    options.ba_refine_sensor_from_rig = False
    options.ba_global_frames_ratio = options.ba_global_points_ratio = _GROWTH
    options.ba_global_function_tolerance = ROUGH_TOLERANCE
    options.ba_global_max_refinements = options.ba_local_max_refinements = 1
    options.mapper.ba_global_ignore_redundant_points3D = True
    options.constant_cameras = search.mounted()


def _map_in_parts(search: Search) -> list[pycolmap.Reconstruction]:
    options = pycolmap.HierarchicalPipelineOptions(num_threads=threads(), num_workers=threads())
    options.clustering_options.leaf_max_num_images = _PART_IMAGES
    options.clustering_options.image_overlap = _PART_OVERLAP
    _incremental(options.incremental_options, search)
    options.incremental_options.mapper.init_min_tri_angle = _PART_FIRST_ANGLE
    return list(pycolmap.hierarchical_mapping(search.database, search.folder, _output(search), options).values())


def _map_incrementally(search: Search, begun: Path | None = None) -> list[pycolmap.Reconstruction]:
    options = pycolmap.IncrementalPipelineOptions(num_threads=search.threads)
    _incremental(options, search)
    if begun:
        options.multiple_models = options.structure_less_registration_fallback = False
    meter = Meter("prepare:mapping", len(search.views))
    number = 0

    def report(pictures: int) -> None:
        nonlocal number
        number = pictures
        meter.update(min(number, len(search.views) - 1))

    models = pycolmap.incremental_mapping(
        search.database,
        search.folder,
        _output(search),
        options,
        input_path=begun or "",
        initial_image_pair_callback=lambda: report(2),  # called for every new model
        next_image_callback=lambda: report(number + 1),
    )
    meter.update(len(search.views))
    return list(models.values())


def _with_other_parts(search: Search, models: list[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Register pictures without a pose in the first model, and leave out the models that it then covers."""
    if not 0 < _most(models) < len(search.views):
        return models
    first = max(_continue(search, models[0]), key=lambda model: model.num_reg_images(), default=models[0])
    known = registered(first)
    return [first, *(model for model in models[1:] if not registered(model) <= known)]


def _continue(search: Search, model: pycolmap.Reconstruction) -> list[pycolmap.Reconstruction]:
    with TemporaryDirectory(dir=search.work) as begun:
        model.write(begun)
        return _map_incrementally(search, Path(begun))


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
