from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.states import Cancelled

from blocks import Workspace
from jobs.errors import RebelNerfError
from tasks.budget import record_end
from tasks.wanted import cancelled_runs

__all__ = ["Followed", "clean_up_jobs", "list_clean_up"]

_SILENT_SECONDS = 120.0  # a run that lives says so at each poll, every 30 s at most


@dataclass(frozen=True)
class Followed:
    """What became of a job that somebody waited for."""

    workspace: str
    job: str
    state: str
    waited_for: str
    done: str


@task(description="Cancel the jobs that nobody waits for any more.")
async def clean_up_jobs(workspace: Workspace, grace_seconds: float) -> list[Followed]:
    """Go through the jobs that runs wait for, or waited for when they died.

    A job is cancelled if each run that waited for it was cancelled itself, or has not been heard of for the grace time.
    Until then a run that crashed can be started again, and goes on with its job. Runs of other Prefect servers count.
    """
    found = []
    followed = await asyncio.to_thread(workspace.followers)
    cancelled = await cancelled_runs({run for ages in followed.values() for run in _ids(ages)})
    for job, ages in followed.items():
        try:
            found.append(await _look_after(workspace, job, ages, {str(run) for run in cancelled}, grace_seconds))
        except RebelNerfError as error:
            get_run_logger().warning("job %s is left for the next time: %s", job, error)
    return found


async def _look_after(
    workspace: Workspace, job: str, ages: dict[str, float], of_cancelled: set[str], grace_seconds: float
) -> Followed:
    cancelled = of_cancelled & ages.keys()
    status = await asyncio.to_thread(workspace.find_job, job)
    done = "left alone"
    waiting = [run for run, age in ages.items() if run not in cancelled and age < grace_seconds]
    if status is None or status.state.ended:
        if not any(age < _SILENT_SECONDS for age in ages.values()):  # else it is being submitted, or registered
            done = "forgotten: it has ended"
    elif not waiting:
        await asyncio.to_thread(workspace.cancel, job)
        done = "cancelled: its run was" if cancelled else f"cancelled: nobody waited for {grace_seconds / 60:.0f} min"
        get_run_logger().warning("job %s %s", job, done)
    if done != "left alone":
        await record_end(workspace, job)
        for run in ages:
            await asyncio.to_thread(workspace.unfollow, job, run)
    for gone in (run for run in cancelled if ages[run] > _SILENT_SECONDS):
        # Its process is gone, and nobody else brings the run to its end.
        async with get_client() as client:
            await client.set_flow_run_state(
                UUID(gone), Cancelled(message="ended by the clean-up: its process was gone")
            )
    return Followed(
        workspace=workspace.identity,
        job=job,
        state=status.state.value if status else "not there",
        waited_for=", ".join(f"{run} ({age:.0f} s ago)" for run, age in ages.items()),
        done=done,
    )


def _ids(runs: Iterable[str]) -> set[UUID]:
    found = set()
    for run in runs:
        with suppress(ValueError):
            found.add(UUID(run))
    return found


async def list_clean_up(found: list[Followed]) -> None:
    """Show what was found and done: an artifact."""
    rows = [asdict(each) for each in found]
    await acreate_table_artifact(rows, key="clean-up", description="Jobs that runs wait for, and what became of them")
