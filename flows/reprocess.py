"""Process what people dropped: `python -m flows.reprocess`, or the scheduled deployment `reprocess/captures`."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

import tasks
from flows._command import run_as_command
from jobs.errors import RebelNerfError
from jobs.options import Profile


@flow(name="reprocess")
async def reprocess(
    enabled: bool = True,
    workspaces: list[str] | None = None,
    scenes: list[str] | None = None,
    settle_minutes: Annotated[float, Field(ge=0)] = 15.0,
    profile: Profile = "auto",
) -> None:
    """Start `nerf/scene` for each scene whose photos are new and have settled; the table says what was done and why.

    Args:
        enabled: whether anything is done at all.
        workspaces: "local", or saved blocks as BLOCK-TYPE/NAME; all if not given.
        scenes: only these, all if not given. The newest version of a scene that is named is started if it never was.
        settle_minutes: how long nothing may have changed in a scene's folder, by the store's clock.
        profile: of the runs: full, fast, preview, or auto: full where there is a CUDA GPU, else preview.
    """
    if not enabled:
        get_run_logger().info("switched off by the parameter `enabled`")
        return
    found = []
    for reference in workspaces if workspaces is not None else await tasks.all_workspaces():
        try:
            place = await tasks.open_workspace(reference)
            found += await tasks.start_new_captures(place, reference, 60 * settle_minutes, profile, scenes)
        except RebelNerfError as error:  # the other workspaces are looked at all the same
            get_run_logger().error("workspace %s: %s", reference, error)
            found.append(tasks.LookedAt("", reference, "", "", f"could not be looked at: {error}"))
    await tasks.list_looked_at(found)


if __name__ == "__main__":
    run_as_command(reprocess, sys.argv[1:])
