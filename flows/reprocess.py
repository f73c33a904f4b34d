"""Process the photos that people dropped: `python -m flows.reprocess`, or on a schedule `reprocess/captures`."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import State, flow, get_run_logger
from pydantic import Field

import tasks
from jobs.errors import RebelNerfError
from jobs.profiles import Profile


@flow(name="reprocess", flow_run_name="look for new photos")
async def reprocess(
    enabled: bool = True,
    workspaces: list[str] | None = None,
    scenes: list[str] | None = None,
    settle_minutes: Annotated[float, Field(ge=0)] = 15.0,
    profile: Profile = "auto",
    compare: bool = False,
) -> State[None] | None:
    """Start `nerf/scene` for each scene with new, settled photos, and show a table of what was done and why.

    If all scenes are looked at, the workspace's gallery and the pages of its scenes are brought up to date as well.

    Args:
        enabled: whether to look for photos at all.
        workspaces: "local", or saved blocks as BLOCK-TYPE/NAME. Defaults to all.
        scenes: only these scenes. If one of them has no new photos, its newest version is processed, unless it was
            before. Defaults to all.
        settle_minutes: how long a scene's folder must have been unchanged, by the clock of the store.
        profile: full, preview, or auto. auto is full if jobs get a CUDA GPU, else preview.
        compare: also show the version before each new one beside it, and list the changes since. A run then renders a
            second video.
    """
    if not enabled:
        get_run_logger().info("nothing is done: the parameter `enabled` is false")
        return tasks.nothing_to_do()
    found = []
    for reference in workspaces if workspaces is not None else await tasks.all_workspaces():
        try:
            ws = await tasks.open_workspace(reference)
            found += await tasks.start_new_captures(ws, reference, 60 * settle_minutes, profile, scenes, compare)
            if scenes is None:
                await tasks.refresh_gallery(ws)
        except RebelNerfError as error:  # the other workspaces do not depend on this one
            get_run_logger().error("workspace %s: %s", reference, error)
            found.append(tasks.LookedAt("", reference, "", "", f"could not be checked: {error}", idle=False))
    await tasks.list_looked_at(found)
    return tasks.nothing_to_do() if all(each.idle for each in found) else None


if __name__ == "__main__":
    from commands.shell.run import run_as_command

    run_as_command(reprocess, sys.argv[1:])
