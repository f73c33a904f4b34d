"""The life of a stage: the one way in which every task runs a job to its end and registers what it made."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec

from prefect import State, Task, get_run_logger, task
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext
from prefect.tasks import exponential_backoff
from pydantic_settings import CliApp

from blocks import Asset, AssetKind, JobSpec, JobState, JobStatus, Workspace
from jobs.errors import (
    JobCancelled,
    JobFailed,
    JobInterrupted,
    NotFound,
    RebelNerfError,
    WorkspaceUnavailable,
    is_transient,
)
from jobs.options import Options
from jobs.report import Failure, Progress, Result, parse
from tasks.progress import ProgressReporter

__all__ = ["Plan", "run_to_end", "stage_task"]

_LOG_LINES_IN_AN_ERROR = 15
_PATIENCE_SECONDS = 30 * 60  # how long a workspace may not answer before following is given up
_ATTEMPTS = 4

P = ParamSpec("P")


@dataclass(frozen=True)
class Plan:
    """All that decides a stage's result, before anything runs.

    Args:
        scene: its name.
        capture_version: the version that the user speaks of.
        options: resolved: nothing is left to the profile.
        asset_name, kind: of the result; its version follows from the fingerprint.
        output: the job's folder that becomes the asset, also the name of the job's option for it.
        inputs: assets by the name of the job's option.
        files: small texts by file name; `arguments` refer to them as `{files.NAME}`.
        scratch: folders that all attempts share, by the name of the job's option.
        arguments: further arguments of the job.
        tier: whether it needs the GPU.
        time_limit: seconds.
    """

    scene: str
    capture_version: str
    options: Options
    asset_name: str
    kind: AssetKind
    output: str
    inputs: dict[str, Asset]
    files: dict[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    tier: Literal["cpu", "gpu"] = "gpu"
    time_limit: int = 24 * 3600

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the options, the inputs and the stage's own version."""
        inputs = {name: asset.tags.get("fingerprint") or asset.tags["content"] for name, asset in self.inputs.items()}
        return self.options.fingerprint(**inputs, **self.files)

    @property
    def version(self) -> str:
        """The asset's version: `<capture version>-<8 hex of the fingerprint>`."""
        return f"{self.capture_version}-{self.fingerprint[:8]}"

    def cache_key(self, workspace: Workspace) -> str:
        """What Prefect knows the result by."""
        return f"rebel-nerf--{workspace.identity}--{self.asset_name}--{self.fingerprint}".replace("/", "--")

    def spec(self, attempt: int, tags: dict[str, str]) -> JobSpec:
        """The job of the given attempt."""
        places = {name: f"{{inputs.{name}}}" for name in self.inputs}
        places |= {name: f"{{scratch.{name}}}" for name in self.scratch}
        places[self.output] = f"{{outputs.{self.output}}}"
        where = [part for name, place in places.items() for part in (f"--{name}", place)]
        return JobSpec(
            family=f"{self.scene}-{self.options.STAGE}-{self.version}",
            attempt=attempt,
            scene=self.scene,
            stage=self.options.STAGE,
            arguments=(*where, *CliApp.serialize(self.options), *self.arguments),
            inputs=self.inputs,
            outputs=(self.output,),
            scratch=self.scratch,
            files=self.files,
            tier=self.tier,
            tags=tags,
            time_limit=self.time_limit,
        )

    def tags(self) -> dict[str, str]:
        """Where the result comes from."""
        flow_run = FlowRunContext.get()
        return {
            "scene": self.scene,
            "stage": self.options.STAGE,
            "capture_version": self.capture_version,
            "fingerprint": self.fingerprint,
            **{name: str(asset) for name, asset in self.inputs.items()},
            **({"flow_run": str(flow_run.flow_run.id)} if flow_run and flow_run.flow_run else {}),
        }


def stage_task(plan: Callable[P, Plan]) -> Callable[..., Awaitable[Asset]]:
    """A stage from its plan: `await stage(workspace, …)` gives its registered asset, from the cache where it stands.

    A Prefect task of the plan's name does the work. Its result is found again by workspace, asset and fingerprint,
    in any later flow run, as long as the asset itself is still there.
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
    async def stage(workspace: Workspace, *args: P.args, **kwargs: P.kwargs) -> Asset:
        planned = plan(*args, **kwargs)
        stands = await asyncio.to_thread(workspace.find_asset, planned.asset_name, planned.version)
        asset: Asset = await run.with_options(refresh_cache=stands is None)(workspace, planned)
        return asset

    return stage


async def run_to_end(workspace: Workspace, plan: Plan) -> Asset:
    """The stage's asset: the registered one, else made by its job, which is attached to or submitted.

    Raises:
        RebelNerfError: what the job itself said (`InvalidInput`, `GateRefused` …).
        JobFailed: the job ended without a word; its last log lines are in the text.
        JobInterrupted: it was ended from outside; the next try goes on with the next attempt.
        JobCancelled: somebody cancelled it.
    """
    logger = get_run_logger()
    if asset := await asyncio.to_thread(workspace.find_asset, plan.asset_name, plan.version):
        logger.info("%s is there already: nothing to do", asset)
        return asset
    tags = plan.tags()
    for attempt in itertools.count(1):
        spec = plan.spec(attempt, tags)
        status = await asyncio.to_thread(workspace.find_job, spec.name)
        if status is None:
            status = await asyncio.to_thread(workspace.submit, spec)
            logger.info("job %s submitted: %s", spec.name, status.url)
        elif not status.state.ended:
            logger.info("job %s runs already, attached to it: %s", spec.name, status.url)
        elif status.state is not JobState.COMPLETED:
            continue
        figures = await _follow(workspace, spec)
        try:
            asset = await asyncio.to_thread(
                workspace.register, spec, plan.output, plan.asset_name, plan.version, plan.kind,
                {**tags, "job": spec.name, **figures},
            )  # fmt: skip
        except NotFound:  # completed long ago and its asset deleted since: to be made again
            continue
        logger.info("registered %s: %s", asset, asset.uri)
        return asset
    raise AssertionError("unreachable")


async def _follow(workspace: Workspace, spec: JobSpec) -> dict[str, str]:
    """Follow a job to its end, cancelling it should this run be cancelled; the figures it reported."""
    try:
        return await _follow_to_end(workspace, spec)
    except Exception:
        raise
    except BaseException:  # cancelled, Ctrl-C: nobody waits for the job any more
        workspace.cancel(spec.name)
        raise


async def _follow_to_end(workspace: Workspace, spec: JobSpec) -> dict[str, str]:
    reporter = ProgressReporter(spec.scene, spec.stage)
    figures: dict[str, str] = {}
    failure: Failure | None = None
    last_lines: deque[str] = deque(maxlen=_LOG_LINES_IN_AN_ERROR)
    start = answered = time.monotonic()
    offset = 0
    while True:
        try:
            status = await asyncio.to_thread(workspace.find_job, spec.name)
            text, offset = await asyncio.to_thread(workspace.read_log, spec.name, offset)
            answered = time.monotonic()
        except WorkspaceUnavailable as error:  # a failing poll is not a failing job
            if time.monotonic() - answered > _PATIENCE_SECONDS:
                raise
            get_run_logger().warning("%s; the job goes on, asking again", error)
            await asyncio.sleep(workspace.poll_seconds(time.monotonic() - start))
            continue
        for line in text.splitlines():
            report = parse(line)
            if isinstance(report, Progress):
                await reporter.update(report)
            elif isinstance(report, Result):
                figures |= {name: str(value) for name, value in report.result.items()}
            elif isinstance(report, Failure):
                failure = report
            else:
                last_lines.append(line)
        if status is None:
            raise JobFailed(f"scene {spec.scene}: job {spec.name} is gone from {workspace.identity}.")
        if status.state.ended and not text:  # the log is read to its end
            break
        if not status.state.ended:
            await asyncio.sleep(workspace.poll_seconds(time.monotonic() - start))
    if status.state is JobState.COMPLETED:
        await reporter.done()
        return figures
    raise _error(spec, status, failure, list(last_lines))


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
