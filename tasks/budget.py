"""Limits on costs, checked before each job is submitted.

A job's expected cost is recorded first. Then all expenses are added up, and the record is deleted if they exceed a
limit. Two runs that submit at the same time count each other: both may be refused, but neither exceeds the limit. When
a run or the clean-up sees that a job has ended, the record gets its real cost. Without a limit nothing is recorded.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from prefect import get_run_logger

from blocks import Expense, JobSpec, JobState, JobStatus, Workspace
from jobs.errors import BudgetExceeded, RebelNerfError
from jobs.report import duration
from jobs.web.quality import money
from tasks.patience import patiently

if TYPE_CHECKING:
    from tasks.plan import Plan

__all__ = ["charge", "close_expense", "record_end", "spent_by"]

_AT_ONCE = 8  # jobs whose status is read at the same time
_NEVER_SUBMITTED_AFTER = timedelta(hours=1)  # if the job does not exist by then, a run crashed before it submitted it


async def charge(workspace: Workspace, plan: Plan, spec: JobSpec, run: str) -> None:
    """Record the expected cost of a job that is about to be submitted, and log it.

    Args:
        workspace: where the job will run.
        plan, spec: of the job.
        run: the flow run that submits it.

    Raises:
        BudgetExceeded: the job would exceed a limit. Nothing is recorded.
    """
    if workspace.has_cost_limit:
        get_run_logger().info("%s", await patiently(lambda: _charge(workspace, plan, spec, run)))


async def record_end(workspace: Workspace, job: str) -> None:
    """Record the real cost of a job that has ended. If that fails, the expected cost stays, and the run goes on."""
    try:
        await patiently(lambda: close_expense(workspace, job))
    except RebelNerfError as error:
        get_run_logger().warning("the cost of job %s could not be recorded yet: %s", job, error)


def close_expense(workspace: Workspace, job: str, run: str | None = None) -> None:
    """Record the real cost of a job, if it has ended. Blocks.

    With `run`, a flow run that has given up, the record is deleted if that run never submitted the job.
    """
    if not workspace.has_cost_limit:
        return
    for month in _months(datetime.now(timezone.utc)):
        for expense in workspace.expenses(month, job):
            if expense.seconds is None:
                status = workspace.find_job(job)
                if status is None and expense.run == run:
                    workspace.delete_expense(expense)
                elif status:
                    _ended(workspace, expense, status)


async def spent_by(workspace: Workspace, run: str) -> str | None:
    """Return what a run's jobs have cost, for people; None if nothing is recorded, because there is no limit."""
    if not workspace.has_cost_limit:
        return None
    record = await patiently(lambda: _record(workspace, datetime.now(timezone.utc)))
    own = [expense for expense in record if expense.run == run]
    most = workspace.max_cost_per_run
    of = "" if most is None else f" of at most {money(most, workspace.currency)}"
    jobs = f"{len(own)} job{'' if len(own) == 1 else 's'}"
    return f"{jobs} of this run: {money(_total(own), workspace.currency)}{of}"


def _charge(workspace: Workspace, plan: Plan, spec: JobSpec, run: str) -> str:
    """Record the expense, or refuse it if it exceeds a limit. Return the expected cost, for people."""
    now = datetime.now(timezone.utc)
    price = workspace.price_per_hour(spec.tier)
    assert price is not None  # Workspace.check_cost_limits refuses a limit without prices
    seconds, why = _expected(workspace, plan, spec, now)
    own = Expense(
        job=spec.name,
        month=_months(now)[0],
        run=run,
        scene=spec.scene,
        stage=spec.stage,
        tier=spec.tier,
        options=plan.provenance().options or "",
        work=plan.work,
        submitted=now,
        price_per_hour=price,
        expected_seconds=seconds,
    )
    others = [known for known in workspace.expenses(own.month, own.job) if known.run != run]
    if not others:  # else another run submits the same job at the same time, and records it
        workspace.write_expense(own)
    record = _record(workspace, now)
    if _too_much(workspace, own, record):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            looked_at = pool.map(lambda each: _looked_at(workspace, each, own, now), record)
            record = [expense for expense in looked_at if expense]
    cost = f"{money(own.cost, workspace.currency)} ({duration(seconds)}, {why})"
    if excess := _too_much(workspace, own, record):
        if not others:
            workspace.delete_expense(own)
        raise BudgetExceeded(
            f"scene {spec.scene}, {spec.stage}: job {spec.name} is expected to cost {cost} and was not submitted. "
            f"{excess} Registered results are kept, and a later run continues from there."
        )
    sums = [
        f"{limit.period} then comes to {money(limit.spent + own.cost, workspace.currency)} "
        f"of {money(limit.most, workspace.currency)}"
        for limit in _limits(workspace, own, record)
    ]
    return f"job {spec.name} is expected to cost {cost}; {', '.join(sums)}"


class _Limit(NamedTuple):
    """A limit on costs.

    Args:
        period: what the limit applies to: "this run", "this month".
        field: the field of the workspace's block.
        most: the limit.
        spent: what the other jobs have cost.
        remedy: what a person can do when the limit is exceeded.
    """

    period: str
    field: str
    most: float
    spent: float
    remedy: str


def _limits(workspace: Workspace, own: Expense, record: Iterable[Expense]) -> Iterable[_Limit]:
    """Yield the limits of a workspace, with what the jobs other than `own` have cost."""
    others = [expense for expense in record if expense.job != own.job]
    less = "choose options that take less time"
    if (most := workspace.max_cost_per_run) is not None:
        spent = _total(expense for expense in others if expense.run == own.run)
        yield _Limit("this run", "max_cost_per_run", most, spent, f"Raise the limit, or {less}.")
    if (most := workspace.max_cost_per_month) is not None:
        spent = _total(expense for expense in others if expense.month == own.month)
        remedy = f"Raise the limit, wait for the next month, or {less}."
        yield _Limit("this month", "max_cost_per_month", most, spent, remedy)


def _too_much(workspace: Workspace, own: Expense, record: Iterable[Expense]) -> str:
    """Return which limit a job would exceed, and what to do; "" if it exceeds none."""
    for limit in _limits(workspace, own, record):
        if limit.spent + own.cost > limit.most:
            return (
                f"The other jobs of {limit.period} come to {money(limit.spent, workspace.currency)} already; the limit "
                f"is {money(limit.most, workspace.currency)} ({limit.field} of the workspace's block). {limit.remedy}"
            )
    return ""


def _expected(workspace: Workspace, plan: Plan, spec: JobSpec, now: datetime) -> tuple[float, str]:
    """Return how many seconds a job is expected to run, and why.

    The scene's last version decides, preferably one with the same options; else jobs of other scenes with the same
    options. The time is scaled by the amount of work if both amounts are known.
    """

    def scaled(seconds: float, work: float | None) -> float:
        return min(spec.time_limit, seconds * (plan.work / work if plan.work and work else 1.0))

    options = plan.provenance().options
    timed = [(asset, (asset.seconds or {}).get(spec.tier)) for asset in workspace.assets(plan.asset_name)]
    made = [(asset, seconds) for asset, seconds in timed if seconds]
    if made:
        alike = [each for each in made if each[0].provenance.options == options]
        asset, seconds = (alike or made)[-1]
        return scaled(seconds, asset.provenance.work), f"as {asset} took"
    others = [
        scaled(expense.seconds, expense.work)
        for expense in _record(workspace, now)
        if expense.completed and expense.seconds
        if (expense.stage, expense.tier, expense.options) == (spec.stage, spec.tier, options)
    ]
    if others:
        return statistics.median(others), f"as {len(others)} such jobs of other scenes took"
    return spec.time_limit, "its time limit, because the scene has no earlier version"


def _record(workspace: Workspace, now: datetime) -> list[Expense]:
    return [expense for month in _months(now) for expense in workspace.expenses(month)]


def _looked_at(workspace: Workspace, expense: Expense, own: Expense, now: datetime) -> Expense | None:
    """Return an expense, updated if its job has ended; None if it is old and its job was never submitted."""
    if expense.seconds is not None or expense.job == own.job:
        return expense
    status = workspace.find_job(expense.job)
    if status:
        return _ended(workspace, expense, status)
    if now - expense.submitted < _NEVER_SUBMITTED_AFTER:
        return expense
    workspace.delete_expense(expense)
    return None


def _ended(workspace: Workspace, expense: Expense, status: JobStatus) -> Expense:
    """Record and return an expense with the real cost of its job; unchanged while the job runs."""
    if not status.state.ended:
        return expense
    seconds = status.seconds
    if not seconds and status.state is JobState.INTERRUPTED:  # the time at which the machine was lost is unknown
        seconds = min(expense.expected_seconds, (datetime.now(timezone.utc) - expense.submitted).total_seconds())
    completed = status.state is JobState.COMPLETED
    ended = expense.model_copy(update={"seconds": seconds, "completed": completed})
    workspace.write_expense(ended)
    return ended


def _total(expenses: Iterable[Expense]) -> float:
    return sum(expense.cost for expense in expenses)


def _months(now: datetime) -> tuple[str, str]:
    """Return this month and the one before, in which a run may have begun."""
    return f"{now:%Y-%m}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"
