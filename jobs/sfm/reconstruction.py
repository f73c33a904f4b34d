"""Find camera poses and a sparse point cloud from pictures: structure from motion with pycolmap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pycolmap

from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.sfm import connected, crops, fisheye, geotags, lenses, lookalikes, missing, refinement
from jobs.sfm.machine import SEED, gpu
from jobs.sfm.mapping import ENOUGH, map_matches
from jobs.sfm.outcome import Outcome
from jobs.sfm.search import Matching, Search
from jobs.sfm.shared import registered, reprojection_error, shared_by_name
from jobs.sfm.views import View

__all__ = ["begin", "reconstruct"]

_MATCH_WELL = 50  # inlier matches of a picture with its best neighbour, which are surely enough for a pose
_PHOTOS_OF_A_LENS = 3  # fewer do not determine its focal length
_BETTER, _AS_GOOD = 0.97, 1.05  # largest change of the reprojection error at which more, or fewer, lenses are accepted
_LEAST_PLACE = 3  # pictures
_SMALL = 480  # px: the longer side of pictures that are enlarged for their features. Larger ones take too long
_ROUNDS = 3  # of separating places that look alike


def reconstruct(
    folder: Path, views: list[View], work: Path, options: PrepareOptions, timer: Timer, *, sequence: bool
) -> Outcome:
    """Find the poses of pictures.

    The search starts with the pairs that are likely for the kind and number of pictures. If pictures that match well
    are not registered, the focal lengths in EXIF may be wrong, and mapping is tried without them. If a tenth of the
    pictures is missing, the search widens to all pairs with the missing ones. Pictures that are still missing get
    fainter features, then smaller ones, too, and are registered in the existing model. If too few are registered even
    then, smaller features are found in all pictures. Pictures that already have the greatest number of features get
    none. Places that only look alike are separated. A last bundle adjustment finds the most likely lenses.

    Args:
        folder: the folder of the pictures, in grey.
        views: the pictures, in the order in which they were taken.
        work: an empty folder on a local disk for the database and models.
        options: matching, mapper, max_features and min_registered_share are used.
        timer: measures the steps features, matching, mapping and refinement.
        sequence: whether the pictures are frames of a video.

    Returns:
        The result, in px of these pictures. With up to 50 pictures and without a GPU, the same input gives the same
        result on the same machine. Otherwise, poses vary a little.
    """
    Thread(target=refinement.warm_up, args=[len(views)]).start()
    kind, small = begin(search := Search(folder, views, work, options, timer), sequence=sequence)
    if refused := _hopeless(search, kind):
        return refused
    result = _map(search)
    needed = max(ENOUGH, options.min_registered_share) * len(views)
    if len(result.registered) < needed and not sequence and _match_well(result):
        result = _without_exif(search, result)
        search = result.search or search
    if len(result.registered) < needed and _match_well(result):
        result = _as_fisheyes(result.search or search, result, {})
    if not result.fisheye:
        result = _as_crops(result.search or search, _by_lens(result.search or search, result))
        mounted = any(view.mount for view in views)
        if result.model and not mounted and (focals := fisheye.focal_lengths(result.model, search.threads)):
            result = _as_fisheyes(result.search or search, result, focals)
    search = result.search or search
    if len(result.registered) < needed and kind != "exhaustive" and options.matching == "auto":
        lost = {view.name for view in views} - result.registered
        search.match([pair for pair in search.pairs("exhaustive") if lost & set(pair)], "exhaustive")
        result = _better(result, _map(search))
    if short := missing.short_of_features(result, options):
        result = missing.register(result, short, kind)
        if len(result.registered) < options.min_registered_share * len(views) and not small:
            search.find_features(first_octave=-1)
            search.match(search.pairs(kind), f"{kind} with finer features")
            result = _better(result, _map(search))
    result = _separate_by_gps(_separate(result))
    if result.model:
        with timer.step("refinement"):
            from_exif = {view.name: view.focal for view in (result.search or search).views}
            result.refined = refinement.refine(result.model, search.threads, from_exif, result.cropped)
    return result


def _hopeless(search: Search, kind: Matching) -> Outcome | None:
    """Return the outcome for pictures that cannot become a dataset, before poses are sought; None if they may."""
    options = search.options
    features, best = search.figures()
    only_turned = search.only_turned()
    largest, *others = connected.parts(search)
    least = max(options.min_registered_images, options.min_registered_share * len(search.views))
    room = missing.with_room(features, options)
    if not only_turned and (len(largest) >= least or connected.can_be_joined(search, largest, room, kind)):
        return None
    return Outcome(
        matching=tuple(search.matching),
        mapper="none",
        features=features,
        best_matches=best,
        only_turned=only_turned,
        search=search,
        connected=largest if len(largest) >= _LEAST_PLACE else set(),
        elsewhere=[part for part in others if len(part) >= _LEAST_PLACE],
    )


def begin(search: Search, *, sequence: bool) -> tuple[Matching, bool]:
    """Find the features of a search, and match the likely pairs; again without what is the same in all pictures.

    Returns:
        The kind of matching, and whether the pictures were enlarged to find features, because they are small.
    """
    print(f"Features are found and matched on the {'GPU' if gpu() else 'CPU'}.", flush=True)
    pycolmap.logging.minloglevel = pycolmap.logging.WARNING.value
    pycolmap.logging.logtostderr = True  # into the job's log, not into files in the system's /tmp
    pycolmap.set_random_seed(SEED)
    kind = search.likely(sequence=sequence)
    small = max(max(view.width, view.height) for view in search.views) <= _SMALL
    search.find_features(first_octave=-1 if small else 0)
    search.match(search.pairs(kind), kind)
    if search.hide_overlays():
        search.find_features(search.first_octave)
        search.match(search.pairs(kind), kind)
    return kind, small


def _noted(result: Outcome, before: Outcome) -> Outcome:
    """Return a result with what an earlier one records: what was tried, and what was found about the lenses."""
    return replace(
        result,
        matching=before.matching,
        without_exif=before.without_exif,
        lenses=before.lenses,
        fisheye=before.fisheye,
        cropped=before.cropped,
    )


def _better(first: Outcome, second: Outcome) -> Outcome:
    """Return the result with more registered pictures, and what was tried for both."""
    best = max(first, second, key=lambda result: len(result.registered))
    continued = second.matching[: len(first.matching)] == first.matching
    tried = second.matching if continued else first.matching + second.matching
    return replace(_noted(best, first), matching=tried)


def _separate(result: Outcome) -> Outcome:
    """Map again without matches between places that look alike, or that chance matches joined, if there are any."""
    first: list[set[str]] = []
    parts = lookalikes.loosely_joined(result.model) if result.model else []
    if len(parts) > 1:
        assert result.search
        result.search.forget(parts)
        result = _noted(_map(result.search), result)
    for number in range(_ROUNDS):
        found = lookalikes.places(result.model) if result.model else []
        if len(found) < 2:
            return replace(result, look_alikes=first)
        first = first or found
        assert result.search and result.model
        result.search.forget(found, None if number else shared_by_name(result.model))
        result = _noted(_map(result.search), result)
    confused = result.model is not None and len(lookalikes.places(result.model)) > 1
    return replace(result, look_alikes=first, confused=confused)


def _separate_by_gps(result: Outcome) -> Outcome:
    """Map again without the matches between places that are apart by GPS, if there are any.

    If other photos still join them, GPS may be wrong, and the result is returned unchanged.
    """
    positions = {view.name: view.position for view in result.search.views} if result.search else {}
    found = geotags.places(result.model, positions) if result.model else []
    if not found:
        return result
    assert result.search
    result.search.forget(found)
    other = _noted(_map(result.search), result)
    if other.model is None or geotags.places(other.model, positions):
        return result
    return replace(other, look_alikes=found, apart_by_gps=True)


def _match_well(result: Outcome) -> bool:
    """Return whether most of the pictures without a pose have a neighbour with many matches."""
    missing = result.features.keys() - result.registered
    return 2 * sum(result.best_matches[name] >= _MATCH_WELL for name in missing) > len(missing)


def _without_exif(search: Search, result: Outcome) -> Outcome:
    """Map again without the focal lengths of EXIF. Pictures that shared a camera only for their size get one each."""
    views = [
        view if view.mount else replace(view, focal=None, camera=view.camera if view.known else view.name)
        for view in search.views
    ]
    if views == search.views:
        return result
    other = _map(search.with_views(views))
    before, after = len(result.registered), len(other.registered)
    if after <= before:
        return result
    text = (
        f"The focal lengths in EXIF were ignored: with them {before} of {len(views)} photos could be registered, "
        f"without them {after}."
    )
    if not any(view.focal for view in search.views):
        text = (
            f"The photos without EXIF are from several cameras: as from one, {before} of {len(views)} photos could "
            f"be registered, with a camera for each {after}."
        )
    return replace(other, without_exif=text)


def _as_fisheyes(search: Search, result: Outcome, focals: Mapping[int, float]) -> Outcome:
    """Map again with all lenses as fisheyes. Return that result if it is better.

    Args:
        search, result: the search and the result with other lenses.
        focals: the focal lengths by camera of the model, as multiples of the diagonal; empty to guess them.
    """
    if any(view.mount or (not focals and view.focal and view.focal > fisheye.WIDE) for view in search.views):
        return result
    names = {image.name: image.camera_id for image in result.model.images.values()} if result.model and focals else {}
    known = {view.camera: focals[names[view.name]] for view in search.views if view.name in names}
    views = [
        replace(view, fisheye=True, focal=known.get(view.camera, view.focal or fisheye.GUESS)) for view in search.views
    ]
    other = _map(search.with_views(views))
    before, after = len(result.registered), len(other.registered)
    if after < before or (not focals and (after == before or not fisheye.wide(other.model))):
        return result
    words = "The lenses are fisheyes (OPENCV_FISHEYE in transforms.json), which fits the photos better."
    said = f"{result.lenses} {words}" if result.lenses else words
    return replace(other, without_exif=result.without_exif, lenses=said, fisheye=True)


def _as_crops(search: Search, result: Outcome) -> Outcome:
    """Map again with a separate camera for each photo that is cropped off the middle. Return the better result."""
    if result.model is None or any(view.mount for view in search.views):
        return result
    found = crops.find_crops(result.model, search.threads)
    if not found:
        return result
    views = [
        replace(view, camera=view.name, focal=found[view.name].focal, centre=found[view.name].centre)
        if view.name in found
        else view
        for view in search.views
    ]
    other = _map(search.with_views(views))
    if other.model is None or len(other.registered) < len(result.registered):
        return result
    if reprojection_error(other.model) > reprojection_error(result.model):
        return result
    return replace(_noted(other, result), cropped=sorted(found.keys() & other.registered))


def _by_lens(search: Search, result: Outcome) -> Outcome:
    """Map again with a camera for each lens. Return that result if it is better.

    Photos of one size without a known camera can come from several lenses, and photos of several sizes from one.
    """
    cameras_like: dict[str, set[str]] = {}
    for view in search.views:
        cameras_like.setdefault(_like(view), set()).add(view.camera)
    unsure = [v for v in search.views if not v.mount and (not v.known or len(cameras_like[_like(v)]) > 1)]
    registered = result.registered
    names = {view.name for view in unsure} & registered
    if result.model is None or len(names) < 2 * _PHOTOS_OF_A_LENS:
        return result
    focals = lenses.focal_lengths(result.model, names, search.threads)
    alike: dict[str, dict[str, float]] = {}
    for view in unsure:
        if view.name in focals:
            alike.setdefault(_like(view), {})[view.name] = focals[view.name]
    camera_before = {view.name: view.camera for view in unsure}
    unknown = {_like(view) for view in unsure if not view.known}
    camera_of: dict[str, str] = {}
    found: list[float] = []
    for key, its in alike.items():
        groups = lenses.by_focal_length(its, camera_before)
        if key in unknown and len(groups) > 1:
            found += [sum(its[name] for name in group) / len(group) for group in groups]
        for number, group in enumerate(groups, 1):
            camera_of |= dict.fromkeys(group, f"{key} lens {number}")
    views = [replace(view, camera=camera_of.get(view.name, view.camera)) for view in search.views]
    before, after = _shared(search.views), _shared(views)
    if before == after:
        return result
    other = _map(search.with_views(views))
    limit = _BETTER if len(after) > len(before) else _AS_GOOD
    if len(other.registered) < len(registered) or other.model is None:
        return result
    if reprojection_error(other.model) > limit * reprojection_error(result.model):
        return result
    said = (
        f"Photos without a camera in EXIF are of {len(found)} lenses, with focal lengths of "
        f"{', '.join(f'{focal:.2f}' for focal in sorted(found))} times the diagonal."
        if found
        else None
    )
    return replace(other, without_exif=result.without_exif, lenses=said)


def _like(view: View) -> str:
    """Return a key that is the same for pictures that may be of one lens."""
    return view.like or (view.camera if view.known else f"{view.width} x {view.height}")


def _shared(views: list[View]) -> set[frozenset[str]]:
    """Return the pictures of each camera by name."""
    cameras: dict[str, set[str]] = {}
    for view in views:
        cameras.setdefault(view.camera, set()).add(view.name)
    return {frozenset(names) for names in cameras.values()}


def _map(search: Search) -> Outcome:
    """Return the outcome of mapping the matches of a search."""
    models, mapper = map_matches(search)
    features, best = search.figures()
    names = [registered(model) for model in models]
    return Outcome(
        model=models[0] if models else None,
        matching=tuple(search.matching),
        mapper=mapper,
        models=[model.num_reg_images() for model in models],
        features=features,
        best_matches=best,
        elsewhere=[apart for place in names[1:] if (apart := place - names[0])],
        search=search,
    )
