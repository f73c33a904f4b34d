"""Train a model."""

from __future__ import annotations

import json
from functools import partial

from prefect import get_run_logger

from blocks import Asset, Workspace
from jobs.errors import NotFound
from jobs.names import asset_name
from jobs.options import TrainOptions
from tasks.patience import patiently
from tasks.scene_frame import find_scene_frames, scene_frame_of
from tasks.stage import Gate, Plan, Stage

__all__ = ["find_start", "train"]

_ALIKE = ("method", "model_size", "max_image_size", "refine_poses")
"""Options that a model must share with the training that starts from it."""


@Stage
def train(dataset: Asset, options: TrainOptions, gate: Gate | None = None, earlier: Asset | None = None) -> Plan:
    """Train a model on a dataset; without an earlier model, from the beginning."""
    scene = dataset.scene
    if earlier is None:
        options = options.model_copy(update={"start": "fresh"})
    return Plan(
        scene=scene,
        capture_version=dataset.capture_version,
        options=options,
        asset_name=asset_name(scene, "model"),
        kind="model",
        output="model",
        must_have=("config.yml", "dataparser_transforms.json", "model.json"),
        inputs={"dataset": dataset, **({"earlier": earlier} if earlier else {})},
        scratch=("checkpoints",),
        arguments=("--frame", scene_frame_of(dataset)),
        time_limit=24 * 3600,
        work=options.max_num_iterations,
        gate=gate,
    )


async def find_start(workspace: Workspace, dataset: Asset, options: TrainOptions) -> Asset | None:
    """Return the model from which a training starts: that of the newest earlier visit; None for a fresh start.

    Both visits are in the same scene frame. Both models have the same method and size, and the earlier one was trained
    for as many steps or more, or started from such a model itself.

    Args:
        workspace: where the models are.
        dataset: to train on.
        options: of the training, with the profile's values.
    """
    if options.start == "fresh":
        return None
    scene, frames = dataset.scene, await find_scene_frames(workspace, dataset.scene)
    in_frame = {str(each) for each in frames.get(scene_frame_of(dataset), []) if _visit(each) < _visit(dataset)}
    models = await patiently(lambda: workspace.assets(asset_name(scene, "model")))
    candidates = [model for model in models if model.provenance.inputs.get("dataset") in in_frame]
    for model in sorted(candidates, key=lambda model: (_visit(model), model.created), reverse=True):
        if await patiently(partial(_fits, workspace, model, options)):
            get_run_logger().info("scene %s: training starts from %s", scene, model.title)
            return model
    why = f"no earlier visit in the scene frame of {dataset} has a model of this method and size"
    get_run_logger().warning("scene %s: training starts from the beginning: %s", scene, why)
    return None


def _visit(asset: Asset) -> int:
    """Return the version of an asset's capture; 0 if its name does not say it."""
    return int(asset.leading_version) if asset.leading_version.isdecimal() else 0


def _fits(workspace: Workspace, model: Asset, options: TrainOptions) -> bool:
    """Return whether a training with these options can start from a model."""
    try:
        theirs = json.loads(workspace.read(model, "model.json"))["options"]
        steps = theirs["max_num_iterations"] or 0
        return all(theirs[name] == getattr(options, name) for name in _ALIKE) and steps >= (
            options.max_num_iterations or 0
        )
    except (NotFound, ValueError, KeyError, TypeError):  # a person registered it
        return False
