"""Export a model as point cloud, mesh or splats: `python -m flows.export --scene facade`, or `export/scene`."""

from __future__ import annotations

import sys

from prefect import flow

import tasks
from blocks import Asset
from flows._ends import with_plain_ends
from jobs.names import SceneName
from jobs.options import ExportOptions
from jobs.profiles import Profile


@flow(name="export", flow_run_name="{scene}")
@with_plain_ends
async def export(
    scene: SceneName,
    model_version: str | int | None = None,
    workspace: str = "local",
    profile: Profile = "auto",
    export: ExportOptions = ExportOptions(),
) -> Asset:
    """Export a registered model of a scene to files for other programs. Nothing is prepared or trained.

    Args:
        scene: the scene's name.
        model_version: the model's number (3) or its full version (2-0a1b2c3d). Defaults to the pinned model, else to
            the newest good one.
        workspace: where the jobs run: "local", or a saved block as BLOCK-TYPE/NAME.
        profile: full, preview, or auto. auto is full if jobs get a CUDA GPU, else preview.
        export: which files are written, and how detailed they are.

    Raises:
        RebelNerfError: says what went wrong, and what to do.
    """
    ws = await tasks.open_workspace(workspace)
    model = await tasks.find_model(ws, scene, model_version)
    name = f"export of model {model.number or model.version}"
    await tasks.label_run(scene, workspace, model.version, name, *tasks.special_words(profile, export))
    options = await tasks.find_forms(ws, model, export)
    profile = await tasks.resolve_profile(ws, profile)
    dataset = await tasks.find_dataset(ws, scene, None, model)
    metres = await tasks.find_scale_to_export(ws, dataset)
    exported = await tasks.export(ws, dataset, model, options.with_profile(profile), metres)
    await tasks.refresh_scene_page(ws, scene)
    await tasks.summarize(ws, scene, dataset, model, exported)
    return exported


if __name__ == "__main__":
    from commands.shell.run import run_as_command

    run_as_command(export, sys.argv[1:], ("export",))
