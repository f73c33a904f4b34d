"""Cancel the jobs that no run waits for any more."""

from __future__ import annotations

import asyncio
import math
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

_SILENT_SECONDS = 120.0  # a run that is alive notes it at each poll, at least every 30 s
_POLLS_BEFORE_A_JOB_IS_GIVEN_UP = 1.5
_LEFT_ALONE = "left alone"


@dataclass(frozen=True)
class Followed:
    """A row of the table: a job that runs waited for, and what was done about it."""

    workspace: str
    job: str
    state: str
    waited_for: str
    done: str

    @property
    def idle(self) -> bool:
        """Return whether nothing was done."""
        return self.done == _LEFT_ALONE


@task(description="Cancel the jobs that no run waits for any more.")
async def clean_up_jobs(workspace: Workspace, grace_seconds: float) -> list[Followed]:
    """Check the jobs that runs wait for, or waited for when they died.

    A job is cancelled if every run that waited for it was cancelled, or has not polled it for the grace time. Until
    then a run that crashed can be started again, and attaches to its job. Runs of other Prefect servers count, too.
    """
    found = []
    followed = await asyncio.to_thread(workspace.followers)
    if any(min(ages.values(), default=0.0) >= grace_seconds for ages in followed.values()):
        # Runs whose machine was suspended, or whose clock was set forward, note in the meantime that they are alive.
        await asyncio.sleep(_POLLS_BEFORE_A_JOB_IS_GIVEN_UP * workspace.poll_seconds(math.inf))
        followed = await asyncio.to_thread(workspace.followers)
    cancelled = await cancelled_runs({run for ages in followed.values() for run in _ids(ages)})
    for job, ages in followed.items():
        try:
            found.append(await _look_after(workspace, job, ages, {str(run) for run in cancelled}, grace_seconds))
        except RebelNerfError as error:
            get_run_logger().warning("job %s could not be checked, and will be checked again next time: %s", job, error)
    return found


async def _look_after(
    workspace: Workspace, job: str, ages: dict[str, float], of_cancelled: set[str], grace_seconds: float
) -> Followed:
    cancelled = of_cancelled & ages.keys()
    status = await asyncio.to_thread(workspace.find_job, job)
    done = _LEFT_ALONE
    waiting = [run for run, age in ages.items() if run not in cancelled and age < grace_seconds]
    if status is None or status.state.ended:
        silent = all(age >= _SILENT_SECONDS for age in ages.values())
        if silent:  # else a run is just submitting the job, or registering its result
            done = "forgotten: it has ended"
    elif not waiting:
        await asyncio.to_thread(workspace.cancel, job)
        done = "cancelled: its run was" if cancelled else f"cancelled: nobody waited for {grace_seconds / 60:.0f} min"
        get_run_logger().warning("job %s %s", job, done)
    if done != _LEFT_ALONE:
        await record_end(workspace, job)
        for run in ages:
            await asyncio.to_thread(workspace.unfollow, job, run)
    for gone in (run for run in cancelled if ages[run] > _SILENT_SECONDS):
        # The run's process is gone, so nothing else will end the run.
        async with get_client() as client:
            await client.set_flow_run_state(
                UUID(gone), Cancelled(message="ended by the clean-up: the run's process was gone")
            )
    return Followed(
        workspace=workspace.identity,
        job=job,
        state=status.state.value if status else "does not exist",
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
    """Show what was found and done, as an artifact."""
    rows = [asdict(each) for each in found]
    await acreate_table_artifact(
        rows, key="clean-up", description="Jobs that runs wait for, and what was done about them"
    )
