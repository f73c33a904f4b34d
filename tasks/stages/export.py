"""Export a model to files for other programs."""

from __future__ import annotations

import json

from blocks import Asset, Workspace
from jobs.errors import InvalidInput
from jobs.names import asset_name
from jobs.options import ExportOptions
from tasks.patience import patiently
from tasks.plain_errors import named
from tasks.stage import Plan, Stage


async def find_forms(workspace: Workspace, model: Asset, options: ExportOptions) -> ExportOptions:
    """Return the options with the forms to which the model can be exported.

    Raises:
        InvalidInput: the model cannot be exported to a form that was given, or its `model.json` has no method.
        NotFound: the model's files no longer exist.
    """
    content = await patiently(lambda: workspace.read(model, "model.json"))
    with named(model.scene):
        try:
            return options.for_method(json.loads(content)["options"]["method"])
        except (ValueError, KeyError) as error:
            raise InvalidInput(f"the model.json of {model} has no method: {error!r}") from None


@Stage
def export(dataset: Asset, model: Asset, options: ExportOptions) -> Plan:
    """Export a model to files for other programs, and a page that shows it."""
    scene = model.scene
    return Plan(
        scene=scene,
        capture_version=model.capture_version,
        options=options,
        asset_name=asset_name(scene, "export"),
        kind="export",
        output="export",
        must_have=("export.json",),
        inputs={"dataset": dataset, "model": model},
        tier="cpu" if options.forms == ("splat",) else "gpu",  # Gaussians need no rendering
        time_limit=6 * 3600,
    )
