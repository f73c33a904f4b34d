"""The life of a stage: the one way in which every task runs a job to its end and registers what it made."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, ParamSpec
from uuid import uuid4

from prefect import State, Task, get_run_logger, task
from prefect.client.schemas.objects import TaskRun
from prefect.tasks import exponential_backoff

from blocks import Asset, JobSpec, JobState, JobStatus, Workspace
from jobs.errors import (
    GateRefused,
    InvalidInput,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    NotFound,
    RebelNerfError,
    RunCancelled,
    WorkspaceUnavailable,
    is_transient,
)
from jobs.report import Failure, Page, Progress, Result, parse
from tasks.budget import charge, record_end, settle_expense
from tasks.curves import Curves
from tasks.patience import patiently
from tasks.plan import Gate, Plan
from tasks.progress import ProgressReporter, show_job, show_page
from tasks.turns import turn, waits_for
from tasks.wanted import current_run, raise_if_cancelled
from tasks.watch import News, tell

__all__ = ["Gate", "Plan", "end_without_cancelling", "is_begun", "run_to_end", "settle", "stage_task"]

_LOG_LINES_IN_AN_ERROR = 15
_PATIENCE_SECONDS = 30 * 60  # how long a workspace may not answer before following is given up
_ATTEMPTS = 4
_SILENT_SECONDS = 10.0  # so long a job may be queued, as each is at first, without a word
_SILENT_POLLS = 4  # so many missed, and a follower counts as dead
_LONGEST_SLEEP_SECONDS = 5.0

P = ParamSpec("P")
_jobs_go_on = False


def end_without_cancelling() -> None:
    """From now on, runs of this process that are cancelled leave their jobs running: others will go on with them."""
    global _jobs_go_on
    _jobs_go_on = True


def stage_task(plan: Callable[P, Plan]) -> Callable[..., Awaitable[Asset]]:
    """A stage from its plan: `await stage(workspace, …)` gives its registered asset, from the cache where it stands.

    A Prefect task of the plan's name does the work. Its result is found again by workspace, asset and fingerprint,
    in any later flow run, as long as the asset itself is still there. With `refresh=True` it is made anew, as another
    version beside the one that stands; later runs take the newest. With `generation`, it is that one.
    """
    run: Task[[Workspace, Plan], Any] = task(
        name=plan.__name__,
        description=plan.__doc__,
        cache_key_fn=lambda _, given: given["plan"].cache_key(given["workspace"]),
        retries=_ATTEMPTS - 1,
        retry_delay_seconds=exponential_backoff(backoff_factor=5),
        retry_jitter_factor=0.5,
        retry_condition_fn=_worth_a_retry,
    )(run_to_end)

    @functools.wraps(plan)
    async def stage(
        workspace: Workspace, *args: Any, refresh: bool = False, generation: int | None = None, **kwargs: Any
    ) -> Asset:
        planned, stands = await settle(workspace, plan(*args, **kwargs), refresh, generation)
        asset: Asset = await run.with_options(refresh_cache=not stands)(workspace, planned)
        tell(News(planned.options.STAGE, planned.part, "done", asset=asset, was_there=stands))
        return asset

    return stage


async def settle(
    workspace: Workspace, plan: Plan, refresh: bool = False, generation: int | None = None
) -> tuple[Plan, bool]:
    """A plan in the generation that is wanted, and whether that is registered.

    The newest stands for all. With `refresh` the one after it is wanted, unless this very flow run made the newest
    before it was put back into the queue or repeated. What was begun already is gone on with; but of jobs whose result
    the gate refused in an earlier run, nothing comes: `refresh` then begins the generation after them. An
    archived result does not stand: where it is the only one, the generation after it is wanted.
    """
    run = str(current_run())
    return await patiently(lambda: _settle(workspace, plan, refresh, generation, run))


def _settle(workspace: Workspace, plan: Plan, refresh: bool, generation: int | None, run: str) -> tuple[Plan, bool]:
    made = plan.generations(workspace.assets(plan.asset_name))
    if generation is not None:
        return replace(plan, generation=generation), generation in made
    newest = max(made, default=0)
    if newest and (not refresh or made[newest].tags.get("flow_run") == run):
        return replace(plan, generation=newest), True
    archived = plan.generations(workspace.archived(plan.asset_name))
    last = max(newest, *archived) if archived else newest
    plan, after = (replace(plan, generation=last + more) for more in (1, 2))
    if archived and not newest:
        get_run_logger().warning(
            "%s is archived, so it is made anew as %s. To use the archived one, restore it and archive the new one.",
            *(archived[max(archived)].title, plan.version),
        )
    while _newest_job(workspace, after):
        plan, after = after, replace(after, generation=after.generation + 1)
    return after if refresh and _was_refused(workspace, plan, run) else plan, False


async def is_begun(workspace: Workspace, plan: Plan) -> bool:
    """Whether there is a job of this plan that runs, will run, or has come to its result."""
    job = await patiently(lambda: _newest_job(workspace, plan))
    return job is not None and (not job.state.ended or job.state is JobState.COMPLETED)


def _newest_job(workspace: Workspace, plan: Plan) -> JobStatus | None:
    """The last attempt at a plan's result."""
    newest = None
    for attempt in itertools.count(1):
        if (job := workspace.find_job(plan.spec(attempt, {}).name)) is None:
            break
        newest = job
    return newest


def _was_refused(workspace: Workspace, plan: Plan, run: str) -> bool:
    """Whether what a job made cannot be registered, and another run than `run` was told so already."""
    job = _newest_job(workspace, plan)
    if job is None or job.state is not JobState.COMPLETED:
        return False
    if run in workspace.followers(job.name).get(job.name, {}):
        return False
    try:
        _check_output(workspace, plan, job.name)
    except JobFailed:
        return True
    except NotFound:  # it was registered once
        return False
    if plan.gate is None:
        return False
    figures: dict[str, str] = {}
    text, offset = workspace.read_log(job.name, 0)
    while text:
        figures |= _figures(text)
        text, offset = workspace.read_log(job.name, offset)
    try:
        plan.gate(workspace, {**plan.tags(), **figures})
    except GateRefused:
        return True
    return False


def _figures(log: str) -> dict[str, str]:
    """What the lines of a job's log say of its result."""
    results = (report.result for report in map(parse, log.splitlines()) if isinstance(report, Result))
    return {name: str(value) for result in results for name, value in result.items()}


async def run_to_end(workspace: Workspace, plan: Plan) -> Asset:
    """The stage's asset: the registered one, else made by its job, which is attached to or submitted.

    Raises:
        RebelNerfError: what the job itself said (`InvalidInput`, `GateRefused` …).
        JobFailed: the job ended without a word; its last log lines are in the text.
        JobInterrupted: it was ended from outside; the next try goes on with the next attempt.
        JobCancelled: somebody cancelled it.
        RunCancelled: somebody cancelled this flow run.
    """
    logger = get_run_logger()
    if asset := await asyncio.to_thread(workspace.find_asset, plan.asset_name, plan.version):
        logger.info("%s is there already: nothing to do", asset.title)
        return asset
    tags, follower = plan.tags(), str(current_run() or uuid4())
    seconds = 0.0
    for attempt in itertools.count(1):
        spec = plan.spec(attempt, tags)
        status = await asyncio.to_thread(workspace.find_job, spec.name)
        ended_before = status is not None and status.state.ended
        async with AsyncExitStack() as held:
            if status is None:
                await held.enter_async_context(turn(workspace, spec))
                await charge(workspace, plan, spec, follower)
                status = await _submit(workspace, spec, follower)
                logger.info("job %s submitted: %s", spec.name, status.url)
            elif not status.state.ended:
                logger.info("job %s runs already, attached to it: %s", spec.name, status.url)
            elif status.state is not JobState.COMPLETED:
                seconds += status.seconds
                await record_end(workspace, spec.name)
                continue
            await show_job(spec, status)
            figures, ran = await _follow(workspace, spec, follower)
        known = {**tags, "job": spec.name, **figures, "job_seconds": str(round(seconds + ran))}
        if plan.gate:
            await asyncio.to_thread(plan.gate, workspace, known)
        try:
            asset = await asyncio.to_thread(_register, workspace, plan, spec, known)
        except NotFound as error:
            if not ended_before:
                raise JobFailed(f"{error} The job has just ended well, and must have written it.") from None
            continue  # completed long ago, and its asset was deleted since: make it again
        logger.info("registered %s: %s", asset.title, asset.uri)
        return asset
    raise AssertionError("unreachable")


def _register(workspace: Workspace, plan: Plan, spec: JobSpec, tags: Mapping[str, str]) -> Asset:
    """Register a completed job's output, if it has what it must.

    Raises:
        NotFound: the output does not exist.
        JobFailed: a file is missing or empty.
    """
    try:
        _check_output(workspace, plan, spec.name)
    except (NotFound, JobFailed):
        # Another run that followed the same job may have registered its output, and removed it from the job.
        if asset := workspace.find_asset(plan.asset_name, plan.version):
            return asset
        raise
    return workspace.register(spec, plan.output, plan.asset_name, plan.version, plan.kind, tags)


def _check_output(workspace: Workspace, plan: Plan, job: str) -> None:
    """Refuse the output of a job that ended well without writing what it must; see `_register`."""
    if not plan.must_have:
        return
    sizes = workspace.output_sizes(job, plan.output)
    if wrong := [file for file in plan.must_have if not sizes.get(file)]:
        raise JobFailed(
            f"scene {plan.scene}: job {job} ended well, but {', '.join(wrong)} of its {plan.kind} "
            f"{'is' if len(wrong) == 1 else 'are'} missing or empty. Nothing was registered. Look at the job's log; "
            "then run the flow again and name this stage under `refresh`."
        )


async def _follow(workspace: Workspace, spec: JobSpec, follower: str) -> tuple[dict[str, str], float]:
    """Follow a job to its end; the figures it reported, and how many seconds it ran."""
    try:
        async with _waited_for(workspace, spec, follower):
            told = await _follow_to_end(workspace, spec, follower)
    except (RunCancelled, WorkspaceUnavailable):  # the job was left already, or may go on
        raise
    except RebelNerfError:
        await record_end(workspace, spec.name)
        await patiently(lambda: workspace.unfollow(spec.name, follower))
        raise
    await record_end(workspace, spec.name)
    await patiently(lambda: workspace.unfollow(spec.name, follower))
    return told


@asynccontextmanager
async def _waited_for(workspace: Workspace, spec: JobSpec, follower: str) -> AsyncIterator[None]:
    """What is done inside is done for a job: should this run be cancelled meanwhile, so is the job.

    After any other error the job goes on, and the next try or run goes on with it.
    """
    try:
        yield
    except (RunCancelled, asyncio.CancelledError):
        if _jobs_go_on:
            raise
        await asyncio.shield(asyncio.to_thread(_leave, workspace, spec, follower))
        raise
    except Exception:
        raise
    except BaseException:  # a signal: there may be no loop to wait in any more
        _leave(workspace, spec, follower)
        raise


async def _submit(workspace: Workspace, spec: JobSpec, follower: str) -> JobStatus:
    """Submit a job. A run that is cancelled meanwhile cancels it, too: what was begun in a thread is waited for."""
    with ThreadPoolExecutor(1) as thread:
        async with _waited_for(workspace, spec, follower):
            await asyncio.to_thread(workspace.follow, spec.name, follower)  # first: it never runs without an owner
            submitting = thread.submit(workspace.submit, spec)
            try:
                return await asyncio.wrap_future(submitting)
            except (InvalidInput, NotFound):
                await patiently(lambda: settle_expense(workspace, spec.name, follower))
                raise
            except BaseException:
                wait([submitting])
                raise


def _leave(workspace: Workspace, spec: JobSpec, follower: str) -> None:
    """Wait for a job no longer, and cancel it if nobody else does."""
    workspace.unfollow(spec.name, follower)
    silent = _SILENT_POLLS * workspace.poll_seconds(float("inf"))
    if not any(age < silent for age in workspace.followers(spec.name).get(spec.name, {}).values()):
        workspace.cancel(spec.name)
        with suppress(RebelNerfError):  # else whoever adds up next looks for its end
            settle_expense(workspace, spec.name, follower)


async def _follow_to_end(workspace: Workspace, spec: JobSpec, follower: str) -> tuple[dict[str, str], float]:
    reporter, curves = ProgressReporter(spec), Curves(workspace, spec.name)
    figures: dict[str, str] = {}
    result: dict[str, str | int | float] = {}
    failure: Failure | None = None
    last_lines: deque[str] = deque(maxlen=_LOG_LINES_IN_AN_ERROR)
    start = answered = time.monotonic()
    offset, reason = 0, ""
    state: JobState | None = None
    while True:
        try:
            await asyncio.to_thread(workspace.follow, spec.name, follower)
            status = await asyncio.to_thread(workspace.find_job, spec.name)
            text, offset = await asyncio.to_thread(workspace.read_log, spec.name, offset)
            answered = time.monotonic()
        except WorkspaceUnavailable as error:  # a failing poll is not a failing job
            if time.monotonic() - answered > _PATIENCE_SECONDS:
                raise
            get_run_logger().warning("%s; the job goes on, asking again", error)
            await _wait(workspace.poll_seconds(time.monotonic() - start), spec)
            continue
        if status and status.reason != reason and not status.state.ended:  # no quota, no node …
            reason = status.reason
            get_run_logger().warning("job %s is %s: %s", spec.name, status.state.value.lower(), reason or "as it was")
        if status and status.state is not state:
            state = status.state
            if state is JobState.RUNNING:
                tell(News(spec.stage, spec.part))
        if status and state is JobState.QUEUED:
            if status.behind:
                await reporter.wait(waits_for(spec.tier, status.place, status.behind))
            elif status.reason or time.monotonic() - start > _SILENT_SECONDS:
                await reporter.wait(f"is queued{f': {status.reason}' if status.reason else ''}")
        for line in text.splitlines():
            report = parse(line)
            if isinstance(report, Progress):
                curves.add(report)
                await reporter.update(report)
            elif isinstance(report, Page):
                if status and not status.state.ended:
                    await show_page(workspace, spec, report)
            elif isinstance(report, Result):
                result |= report.result
                figures |= _figures(line)
            elif isinstance(report, Failure):
                failure = report
            else:
                last_lines.append(line)
        if status is None:
            raise JobFailed(f"scene {spec.scene}: job {spec.name} is gone from {workspace.identity}.")
        if status.state.ended and not text:  # the log is read to its end
            break
        await curves.post()
        if not status.state.ended:
            await _wait(workspace.poll_seconds(time.monotonic() - start), spec)
    await curves.end(result)
    if status.state is JobState.COMPLETED:
        await reporter.done()
        return figures, status.seconds
    raise _error(spec, status, failure, list(last_lines))


async def _wait(seconds: float, spec: JobSpec) -> None:
    """Wait, and raise RunCancelled soon after this flow run is cancelled, worker or no worker."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        await raise_if_cancelled(spec)
        await asyncio.sleep(min(left, _LONGEST_SLEEP_SECONDS))


def _error(spec: JobSpec, status: JobStatus, failure: Failure | None, last_lines: list[str]) -> RebelNerfError:
    """What a job's end means, in words for the person who waits for it."""
    what = f"scene {spec.scene}, {spec.stage}"
    if status.state is JobState.CANCELED:
        return JobCancelled(f"{what}: job {spec.name} was cancelled.")
    if failure and status.state is JobState.FAILED:
        error = failure.exception()
        return type(error)(f"{what}: {error} (log: {status.url})")
    log = "\n".join(["", "The last lines of its log:", *last_lines] if last_lines else [""])
    kind = JobInterrupted if status.state is JobState.INTERRUPTED else JobFailed
    return kind(f"{what}: job {spec.name}: {status.reason} ({status.url}){log}")


async def _worth_a_retry(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    try:
        await state.aresult()
    except Exception as error:
        return is_transient(error)
    return False
