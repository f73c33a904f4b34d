"""Register pictures that structure from motion missed in the existing model, by more of their features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.options import PrepareOptions
from jobs.sfm.mapping import continue_mapping
from jobs.sfm.shared import registered

if TYPE_CHECKING:
    from jobs.sfm.outcome import Outcome
    from jobs.sfm.search import Matching

__all__ = ["register", "short_of_features", "with_room"]

_FULL = 0.95  # share of the maximum number of features
_LEAST_POINTS = 30  # of a registered picture: COLMAP's least number of inliers of a pose


def short_of_features(result: Outcome, options: PrepareOptions) -> set[str]:
    """Return the missing pictures that have fewer features than the maximum, if at least a quarter of them have.

    If enough pictures are registered, those of a second place do not count as missing.
    """
    missing = result.features.keys() - result.registered
    if len(result.registered) >= options.min_registered_share * len(result.features):
        missing = missing.difference(*result.elsewhere)
    short = missing & with_room(result.features, options)
    return short if 4 * len(short) >= len(missing) else set()


def with_room(features: Mapping[str, int], options: PrepareOptions) -> set[str]:
    """Return the pictures, by name, that have fewer features than the maximum."""
    return {name for name, number in features.items() if number < _FULL * options.max_features}


def register(result: Outcome, missing: set[str], kind: Matching) -> Outcome:
    """Add missing pictures to a model by fainter features, then also by smaller ones.

    Dark and blurred pictures have little contrast. The other pictures keep their features, so this takes seconds.

    Args:
        result: the result without them. Without a model, it is returned unchanged.
        missing: the names of pictures without a pose.
        kind: the kind of matching that chooses the pairs.
    """
    if not result.model:
        return result
    assert result.search
    for first_octave in range(result.search.first_octave, -2, -1):
        assert result.search and result.model
        what = "fainter and finer" if first_octave < result.search.first_octave else "fainter"
        search = result.search.with_fainter_features(missing, first_octave)
        tried = f"{kind} with {what} features of {len(missing)}"
        search.match([pair for pair in search.pairs(kind) if missing & set(pair)], tried)
        model = continue_mapping(search, result.model)
        result = replace(result, matching=(*result.matching, tried))
        if model is None:
            continue
        for image in list(model.images.values()):
            if image.name in missing and image.has_pose and image.num_points3D < _LEAST_POINTS:
                model.deregister_frame(image.frame_id)
        found = missing & registered(model)
        if found:
            models = [len(result.registered | found), *result.models[1:]]
            result = replace(result, model=model, models=models, search=search)
            missing = missing - found
        if not missing:
            break
    return result
