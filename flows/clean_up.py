"""Cancel jobs that no run waits for: `python -m flows.clean_up`, or the scheduled deployment `clean-up/jobs`."""

from __future__ import annotations

import sys
from typing import Annotated

from prefect import State, flow, get_run_logger
from pydantic import Field

import tasks
from jobs.errors import RebelNerfError


@flow(name="clean-up", flow_run_name="look for jobs that no run waits for")
async def clean_up(
    workspaces: list[str] | None = None,
    grace_minutes: float = 30.0,
    keep_days: Annotated[float, Field(ge=0)] = 14.0,
) -> State[None] | None:
    """Cancel the jobs of runs that were cancelled, or that crashed longer ago than the grace time.

    Also delete runs of this flow and of `reprocess`: old ones, and those that found nothing to do after an hour. The
    schedules of both start 120 runs a day.

    Args:
        workspaces: "local", or saved blocks as BLOCK-TYPE/NAME. Defaults to all.
        grace_minutes: how long a job may go on while no run waits for it. A run that starts in this time takes it
            over.
        keep_days: how many days Prefect keeps the runs of these two flows that did something. Runs of scenes are kept
            for ever.
    """
    found, failed = [], False
    for reference in workspaces if workspaces is not None else await tasks.all_workspaces():
        try:
            ws = await tasks.open_workspace(reference)
            found += await tasks.clean_up_jobs(ws, 60 * grace_minutes)
        except RebelNerfError as error:  # the other workspaces do not depend on this one
            get_run_logger().error("workspace %s: %s", reference, error)
            failed = True
    await tasks.list_clean_up(found)
    await tasks.forget_old_runs(keep_days)
    return tasks.nothing_to_do() if all(each.idle for each in found) and not failed else None


if __name__ == "__main__":
    from commands.shell.run import run_as_command

    run_as_command(clean_up, sys.argv[1:])
