"""Run a stage's job to its end, and register what it made."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from uuid import uuid4

from prefect import get_run_logger
from prefect.exceptions import Pause

from blocks import Asset, JobSpec, JobState, JobStatus, Provenance, Workspace
from jobs.errors import InvalidInput, JobFailed, NotFound, RebelNerfError, RunCancelled, WorkspaceUnavailable
from tasks.budget import charge, close_expense, record_end
from tasks.follow import Outcome, follow_to_end
from tasks.gpu_slots import gpu_slot
from tasks.patience import patiently
from tasks.plan import Plan
from tasks.progress import show_job
from tasks.wanted import Resumed, current_run

__all__ = ["check_output", "end_without_cancelling", "run_to_end"]

_SILENT_POLLS = 4  # a follower that missed so many polls counts as dead

_jobs_go_on = False


def end_without_cancelling() -> None:
    """Let jobs continue from now on when this process's runs are cancelled: other runs will take them over."""
    global _jobs_go_on
    _jobs_go_on = True


async def run_to_end(workspace: Workspace, plan: Plan) -> Asset:
    """Return the stage's asset: the registered one, or the result of its job, which is attached to or submitted.

    Raises:
        RebelNerfError: the error that the job itself reported (`InvalidInput`, `GateRefused` …).
        JobFailed: the job ended without reporting an error. The text has its last log lines.
        JobInterrupted: the job was ended from outside. The next try submits the next attempt.
        JobCancelled: somebody cancelled the job.
        RunCancelled: somebody cancelled this flow run.
    """
    logger = get_run_logger()
    if asset := await asyncio.to_thread(workspace.find_asset, plan.asset_name, plan.version):
        logger.info("%s is already registered: nothing to do", asset.title)
        return asset
    provenance, follower = plan.provenance(), str(current_run() or uuid4())
    seconds = 0.0
    for attempt in itertools.count(1):
        spec = plan.spec(attempt)
        status = await asyncio.to_thread(workspace.find_job, spec.name)
        ended_before = status is not None and status.state.ended
        async with AsyncExitStack() as held:
            if status is None:
                await held.enter_async_context(gpu_slot(workspace, spec))
                await charge(workspace, plan, spec, follower)
                status = await _submit(workspace, spec, follower)
                logger.info("job %s submitted: %s", spec.name, status.url)
            elif not status.state.ended:
                logger.info("job %s is already running, attached to it: %s", spec.name, status.url)
            elif status.state is not JobState.COMPLETED:
                seconds += status.seconds
                await record_end(workspace, spec.name)
                continue
            await show_job(spec, status)
            outcome = await _follow(workspace, spec, follower)
        ran = provenance.model_copy(update={"job": spec.name})
        took = Provenance(job_seconds=seconds + outcome.seconds)
        tags = {**ran.tags(), **outcome.figures, **took.tags()}
        if plan.gate:
            await asyncio.to_thread(plan.gate, workspace, tags)
        try:
            asset = await asyncio.to_thread(_register, workspace, plan, spec, tags)
        except NotFound as error:
            if not ended_before:
                raise JobFailed(f"{error} The job has just completed, and must have written it.") from None
            continue  # the job completed long ago, and its asset has been deleted since: run the stage again
        logger.info("registered %s: %s", asset.title, asset.uri)
        return asset
    raise AssertionError("unreachable")


def _register(workspace: Workspace, plan: Plan, spec: JobSpec, tags: Mapping[str, str]) -> Asset:
    """Register a completed job's output.

    Raises:
        NotFound: the output does not exist.
        JobFailed: a file is missing or empty.
    """
    try:
        check_output(workspace, plan, spec.name)
    except (NotFound, JobFailed):
        # Another run that followed the same job may have registered its output, and removed it from the job.
        if asset := workspace.find_asset(plan.asset_name, plan.version):
            return asset
        raise
    return workspace.register(spec, plan.output, plan.asset_name, plan.version, plan.kind, tags)


def check_output(workspace: Workspace, plan: Plan, job: str) -> None:
    """Check that a completed job wrote the files of `plan.must_have`.

    Raises:
        NotFound: the output does not exist.
        JobFailed: a file is missing or empty.
    """
    if not plan.must_have:
        return
    sizes = workspace.output_sizes(job, plan.output)
    if wrong := [file for file in plan.must_have if not sizes.get(file)]:
        raise JobFailed(
            f"scene {plan.scene}: job {job} completed, but {', '.join(wrong)} of its {plan.kind} "
            f"{'is' if len(wrong) == 1 else 'are'} missing or empty. Nothing was registered. Look at the job's log; "
            "then run the flow again with this stage in `refresh`."
        )


async def _follow(workspace: Workspace, spec: JobSpec, follower: str) -> Outcome:
    """Follow a job to its end, and note that it has ended."""
    try:
        async with _cancelled_together(workspace, spec, follower):
            outcome = await follow_to_end(workspace, spec, follower)
    except (RunCancelled, WorkspaceUnavailable):  # this run no longer waits for the job, or the job may go on
        raise
    except RebelNerfError:
        await _note_end(workspace, spec, follower)
        raise
    await _note_end(workspace, spec, follower)
    return outcome


async def _note_end(workspace: Workspace, spec: JobSpec, follower: str) -> None:
    await record_end(workspace, spec.name)
    await patiently(lambda: workspace.unfollow(spec.name, follower))


@asynccontextmanager
async def _cancelled_together(workspace: Workspace, spec: JobSpec, follower: str) -> AsyncIterator[None]:
    """Cancel the job if this run is cancelled or suspended inside. A resumed run continues from its checkpoint.

    After any other error the job goes on, and the next try or run attaches to it. So does a run that was resumed
    before this noticed that it was suspended.
    """
    try:
        yield
    except Resumed:
        raise
    except (RunCancelled, asyncio.CancelledError, Pause):
        if _jobs_go_on:
            raise
        await asyncio.shield(asyncio.to_thread(_leave, workspace, spec, follower))
        raise
    except Exception:
        raise
    except BaseException:  # a signal: the event loop may no longer run
        _leave(workspace, spec, follower)
        raise


async def _submit(workspace: Workspace, spec: JobSpec, follower: str) -> JobStatus:
    """Submit a job. If this run is cancelled meanwhile, wait for the submission and cancel the job, too."""
    with ThreadPoolExecutor(1) as thread:
        async with _cancelled_together(workspace, spec, follower):
            await asyncio.to_thread(workspace.follow, spec.name, follower)  # first: a job always has a follower
            submitting = thread.submit(workspace.submit, spec)
            try:
                return await asyncio.wrap_future(submitting)
            except (InvalidInput, NotFound):
                await patiently(lambda: close_expense(workspace, spec.name, follower))
                raise
            except BaseException:
                wait([submitting])
                raise


def _leave(workspace: Workspace, spec: JobSpec, follower: str) -> None:
    """Stop waiting for a job, and cancel it if no other run waits for it."""
    workspace.unfollow(spec.name, follower)
    silent = _SILENT_POLLS * workspace.poll_seconds(float("inf"))
    if not any(age < silent for age in workspace.followers(spec.name).get(spec.name, {}).values()):
        workspace.cancel(spec.name)
        with suppress(RebelNerfError):  # the next sum of the expenses looks for its end
            close_expense(workspace, spec.name, follower)
