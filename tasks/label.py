"""Name and tag a flow run, so that people find it among others."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger
from prefect.client.orchestration import get_client

from jobs.options import RenderOptions
from tasks.wanted import current_run

__all__ = ["label_run", "path_words"]

SCENES = "scenes"
"""The tag of all runs for a scene; those that keep the service in order have `housekeeping` (`prefect.yaml`)."""


async def label_run(scene: str, workspace: str, version: str | int | None, *special: str) -> None:
    """Name this flow run by its scene and what is special about it, and add the scene, version and workspace as tags.

    Args:
        scene: the scene's name.
        workspace: the reference of the workspace.
        version: of the capture or the model; None if it is not known.
        special: words on what distinguishes it from other runs of the scene; empty ones are left out.
    """
    run = current_run()
    if run is None:
        return
    tags = [SCENES, f"scene:{scene}", f"workspace:{workspace}", *([f"version:{version}"] if version else [])]
    try:
        async with get_client() as client:
            known = (await client.read_flow_run(run)).tags
            name = " · ".join([scene, *filter(None, special)])
            await client.update_flow_run(run, name=name, tags=[*known, *(tag for tag in tags if tag not in known)])
    except Exception as error:  # a name is not worth a failed run
        get_run_logger().warning("scene %s: this run could not be named: %s", scene, error)


def path_words(options: RenderOptions) -> str:
    """Return the name of the camera path; "" for the default."""
    return "" if options.camera_path == "auto" else Path(options.camera_path).stem
