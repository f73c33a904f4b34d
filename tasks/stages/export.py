from __future__ import annotations

import json

from blocks import Asset, Workspace
from jobs.errors import InvalidInput
from jobs.names import asset_name
from jobs.options import ExportOptions
from tasks.patience import patiently
from tasks.plain_errors import named
from tasks.stage import Plan, stage_task


async def find_forms(workspace: Workspace, model: Asset, options: ExportOptions) -> ExportOptions:
    """The options with the forms that the model can be exported to.

    Raises:
        InvalidInput: it cannot give a form that was asked for, or its `model.json` does not say what it is.
        NotFound: the model's files are gone.
    """
    content = await patiently(lambda: workspace.read(model, "model.json"))
    with named(model.tags["scene"]):
        try:
            return options.for_method(json.loads(content)["options"]["method"])
        except (ValueError, KeyError) as error:
            raise InvalidInput(f"the model.json of {model} has no method: {error!r}") from None


@stage_task
def export(dataset: Asset, model: Asset, options: ExportOptions) -> Plan:
    """A model to files for other programs, and a page that shows it."""
    scene = model.tags["scene"]
    return Plan(
        scene=scene,
        capture_version=model.tags["capture_version"],
        options=options,
        asset_name=asset_name(scene, "export"),
        kind="export",
        output="export",
        must_have=("export.json",),
        inputs={"dataset": dataset, "model": model},
        tier="cpu" if options.forms == ("splat",) else "gpu",  # Gaussians are only written down
        time_limit=6 * 3600,
    )
