"""Give a scene metres: `python -m flows.scale --scene facade --measurements scale.json`."""

from __future__ import annotations

import sys
from pathlib import Path

from prefect import flow

import tasks
from blocks import Asset
from flows._ends import with_plain_ends
from jobs.names import SceneName


@flow(name="scale", flow_run_name="{scene}")
@with_plain_ends
async def scale(
    scene: SceneName,
    measurements: Path | None = None,
    control_points: Path | None = None,
    model_version: str | int | None = None,
    workspace: str = "local",
) -> Asset:
    """Give a registered scene a scale in metres, from measurements. Nothing is prepared or trained.

    Args:
        scene: the scene's name.
        measurements: a scale.json with known lengths and markers. Defaults to the one in the scene's drop folder, or
            to the measurements of an earlier run.
        control_points: a gcp_list.txt with ground control points. Defaults to the one in the scene's drop folder.
        model_version: measure in the photos of this model: its number (3) or its full version (2-0a1b2c3d). Defaults
            to the pinned model, else to the newest good one.
        workspace: where the jobs run: "local", or a saved block as BLOCK-TYPE/NAME.

    Raises:
        RebelNerfError: says what went wrong, and what to do.
    """
    ws = await tasks.open_workspace(workspace)
    given = await tasks.read_measurements(ws, scene, measurements=measurements, control_points=control_points)
    model = await tasks.find_model(ws, scene, model_version)
    dataset = await tasks.find_dataset(ws, scene, None, model)
    metres = await tasks.find_scale(ws, dataset, given)
    await tasks.summarize(ws, scene, dataset, metres)
    return metres


if __name__ == "__main__":
    from commands.shell.run import run_as_command

    run_as_command(scale, sys.argv[1:], ("scale",))
