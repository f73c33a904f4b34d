"""Export a model to files for other programs."""

from __future__ import annotations

import json

from prefect import get_run_logger

from blocks import Asset, Workspace
from jobs.errors import GateRefused, InvalidInput
from jobs.names import asset_name
from jobs.options import ExportOptions
from jobs.profiles import Profile
from tasks.patience import patiently
from tasks.plain_errors import naming
from tasks.stage import Plan, Stage
from tasks.stages.scale import find_metres


async def find_forms(workspace: Workspace, model: Asset, options: ExportOptions) -> ExportOptions:
    """Return the options with the forms to which the model can be exported.

    Raises:
        InvalidInput: the model cannot be exported to a form that was given, or its `model.json` has no method.
        NotFound: the model's files no longer exist.
    """
    content = await patiently(lambda: workspace.read(model, "model.json"))
    with naming(model.scene):
        try:
            return options.for_method(json.loads(content)["options"]["method"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"the model.json of {model} has no method: {error!r}. Train it again.") from None


@Stage
def export(dataset: Asset, model: Asset, options: ExportOptions, metres: Asset | None = None) -> Plan:
    """Export a model to files for other programs, and a page that shows it; in metres, too, if they are known."""
    scene = model.scene
    return Plan(
        scene=scene,
        capture_version=model.capture_version,
        options=options,
        asset_name=asset_name(scene, "export"),
        kind="export",
        output="export",
        must_have=("export.json",),
        inputs={"dataset": dataset, "model": model, **({"metres": metres} if metres else {})},
        arguments=("--scene", scene),
        tier="cpu" if options.forms == ("splat",) else "gpu",  # Gaussians need no rendering
        time_limit=6 * 3600,
    )


async def find_scale_to_export(workspace: Workspace, dataset: Asset) -> Asset | None:
    """Return the newest metres of a dataset; None if its scale is not known."""
    found = await patiently(lambda: find_metres(workspace, dataset))
    return found if found and "metres_per_unit" in found.tags else None


async def export_for_page(workspace: Workspace, dataset: Asset, model: Asset, profile: Profile) -> list[Asset]:
    """Export a model to everything that it supports, to be shown in 3D on its page.

    Returns:
        The export; nothing if the model has no surfaces to export. The run then continues.
    """
    options = await find_forms(workspace, model, ExportOptions())
    try:
        metres = await find_scale_to_export(workspace, dataset)
        return [await export(workspace, dataset, model, options.with_profile(profile), metres)]
    except GateRefused as error:  # the run is for the video, which exists
        get_run_logger().warning("scene %s: the video was made, but there is no 3D view: %s", model.scene, error)
        return []
