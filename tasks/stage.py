"""Make a Prefect task of a stage's plan. Its result is the registered asset."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, ParamSpec

from prefect import State, Task, get_run_logger, task
from prefect.client.schemas.objects import TaskRun

from blocks import Asset, JobState, JobStatus, Workspace
from blocks.retries import STAGE
from jobs.errors import GateRefused, JobFailed, NotFound, is_transient
from tasks.follow import read_figures
from tasks.news import News, tell
from tasks.patience import patiently
from tasks.plan import Gate, Plan
from tasks.run import check_output, run_to_end
from tasks.wanted import current_run

__all__ = ["Chosen", "Gate", "Plan", "Stage", "choose_generation", "is_begun"]

P = ParamSpec("P")


class Stage(Generic[P]):
    """A stage of the flow, made from the function that plans it: `await stage(workspace, …)` returns its asset.

    A Prefect task with the plan's name does the work. Its result is found again by workspace, asset and fingerprint in
    any later flow run, as long as the asset exists.

    Args:
        plan: returns what the stage is going to do. Its docstring describes the task in Prefect's UI.
    """

    def __init__(self, plan: Callable[P, Plan]) -> None:
        functools.update_wrapper(self, plan)
        self.plan = plan
        self._refresh = False
        self._generation: int | None = None
        self._task: Task[[Workspace, Plan], Any] = task(
            name=plan.__name__,
            description=plan.__doc__,
            cache_key_fn=lambda _, given: given["plan"].cache_key(given["workspace"]),
            retries=len(STAGE.waits),
            retry_delay_seconds=list(STAGE.waits),
            retry_jitter_factor=0.5,
            retry_condition_fn=_worth_a_retry,
        )(run_to_end)

    def with_options(self, *, refresh: bool = False, generation: int | None = None) -> Stage[P]:
        """Return the stage with other options.

        Args:
            refresh: run the stage again. The result is another version, and later runs use the newest version.
            generation: use this generation of the result, whatever the newest one is.
        """
        other = copy.copy(self)
        other._refresh, other._generation = refresh, generation
        return other

    async def __call__(self, workspace: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> Asset:
        """Return the stage's asset: the registered one, or the result of a job.

        Raises:
            RebelNerfError: see `run_to_end`.
        """
        chosen = await choose_generation(workspace, self.plan(*args, **kwargs), self._refresh, self._generation)
        run = self._task.with_options(refresh_cache=not chosen.registered)
        asset: Asset = await run(workspace, chosen.plan)
        stage, part = chosen.plan.options.STAGE, chosen.plan.part
        tell(News(stage, part, "done", asset=asset, was_there=chosen.registered))
        return asset


@dataclass(frozen=True)
class Chosen:
    """A plan in the generation to use, and whether its result is registered."""

    plan: Plan
    registered: bool


async def choose_generation(
    workspace: Workspace, plan: Plan, refresh: bool = False, generation: int | None = None
) -> Chosen:
    """Choose the generation of a plan.

    - Without `refresh`, it is the newest generation. If only archived results exist, it is the next one.
    - With `refresh`, it is the next one, unless this flow run made the newest one before Prefect ran it again.
    - A generation that was begun is continued; not with `refresh`, if a gate refused its result in an earlier run.
    """
    run = str(current_run())
    return await patiently(lambda: _choose(workspace, plan, refresh, generation, run))


def _choose(workspace: Workspace, plan: Plan, refresh: bool, generation: int | None, run: str) -> Chosen:
    registered = plan.generations(workspace.assets(plan.asset_name))
    if generation is not None:
        return Chosen(replace(plan, generation=generation), generation in registered)
    newest = max(registered, default=0)
    if newest and (not refresh or registered[newest].provenance.flow_run == run):
        return Chosen(replace(plan, generation=newest), True)
    archived = plan.generations(workspace.archived(plan.asset_name))
    last = max(newest, *archived) if archived else newest
    plan, after = replace(plan, generation=last + 1), replace(plan, generation=last + 2)
    if archived and not newest:
        get_run_logger().warning(
            "%s is archived, so the stage runs again, for %s. "
            "To use the archived one, restore it and archive the new one.",
            *(archived[max(archived)].title, plan.version),
        )
    while _newest_job(workspace, after):
        plan, after = after, replace(after, generation=after.generation + 1)
    return Chosen(after if refresh and _was_refused(workspace, plan, run) else plan, False)


async def is_begun(workspace: Workspace, plan: Plan) -> bool:
    """Return whether a job of this plan waits, runs, or has completed."""
    job = await patiently(lambda: _newest_job(workspace, plan))
    return job is not None and (not job.state.ended or job.state is JobState.COMPLETED)


def _newest_job(workspace: Workspace, plan: Plan) -> JobStatus | None:
    """Return the last attempt at a plan's result."""
    newest = None
    for attempt in itertools.count(1):
        if (job := workspace.find_job(plan.job_name(attempt))) is None:
            break
        newest = job
    return newest


def _was_refused(workspace: Workspace, plan: Plan, run: str) -> bool:
    """Return whether a job's result cannot be registered, and another run than `run` has already reported that."""
    job = _newest_job(workspace, plan)
    if job is None or job.state is not JobState.COMPLETED:
        return False
    if run in workspace.followers(job.name).get(job.name, {}):
        return False
    try:
        check_output(workspace, plan, job.name)
    except JobFailed:
        return True
    except NotFound:  # it was registered once
        return False
    if plan.gate is None:
        return False
    try:
        plan.gate(workspace, plan.provenance().tags() | read_figures(workspace, job.name))
    except GateRefused:
        return True
    return False


async def _worth_a_retry(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    try:
        await state.aresult()
    except Exception as error:
        return is_transient(error)
    return False
