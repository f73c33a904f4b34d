"""Limits on costs: checked before each job is submitted, against a record that outlives runs and counts them all.

A job is entered into the workspace's record first, as expected; then all is added up, and the entry withdrawn if that
is too much. Of two runs that ask at the same time, each counts the other: both may be refused, but neither slips
through. Once a job's end is seen, by its run, a later one or the clean-up, its entry says what it did cost. Where there
is no limit, nothing is recorded and nothing asked.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect import get_run_logger

from blocks import Expense, JobSpec, JobState, JobStatus, Workspace
from jobs.errors import BudgetExceeded, RebelNerfError
from jobs.report import duration
from jobs.web.quality import money
from tasks.patience import patiently

if TYPE_CHECKING:
    from tasks.stage import Plan

__all__ = ["charge", "record_end", "settle_expense", "spent_by"]

_AT_ONCE = 8  # jobs asked about
_NEVER_SUBMITTED_AFTER = timedelta(hours=1)  # an entry whose job is not there by then was left by a crash


async def charge(workspace: Workspace, plan: Plan, spec: JobSpec, run: str) -> None:
    """Enter a job that is about to be submitted into the record, and say what it is expected to cost.

    Args:
        workspace: where it is to run.
        plan, spec: of the job.
        run: the flow run that it is for.

    Raises:
        BudgetExceeded: a limit does not allow it; it is not in the record then.
    """
    if workspace.has_cost_limit:
        get_run_logger().info("%s", await patiently(lambda: _charge(workspace, plan, spec, run)))


async def record_end(workspace: Workspace, job: str) -> None:
    """Settle an ended job's expense; where that fails, it counts as expected, and the run goes on."""
    try:
        await patiently(lambda: settle_expense(workspace, job))
    except RebelNerfError as error:
        get_run_logger().warning("what job %s cost is not recorded yet: %s", job, error)


def settle_expense(workspace: Workspace, job: str, run: str | None = None) -> None:
    """Have the record say what a job did cost, if it has ended; blocks.

    With `run`, its entry is withdrawn where that run, which tries no longer, never came to submit the job.
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
    """What a run's jobs have come to, in words; None where there is no limit, and so no record."""
    if not workspace.has_cost_limit:
        return None
    record = await patiently(lambda: _record(workspace, datetime.now(timezone.utc)))
    own = [expense for expense in record if expense.run == run]
    most = workspace.max_cost_per_run
    of = "" if most is None else f" of {money(most, workspace.currency)} that a run may cost"
    jobs = f"{len(own)} job{'' if len(own) == 1 else 's'}"
    return f"{jobs} of this run: {money(_total(own), workspace.currency)}{of}"


def _charge(workspace: Workspace, plan: Plan, spec: JobSpec, run: str) -> str:
    """Write the entry, add up, and withdraw it if that is too much; in words, what the job is expected to cost."""
    now = datetime.now(timezone.utc)
    price = workspace.price_per_hour(spec.tier)
    assert price is not None  # else the workspace is refused
    seconds, why = _expected(workspace, plan, spec, now)
    own = Expense(
        job=spec.name,
        month=_months(now)[0],
        run=run,
        scene=spec.scene,
        stage=spec.stage,
        tier=spec.tier,
        options=spec.tags.get("options", ""),
        work=plan.work,
        submitted=now,
        price_per_hour=price,
        expected_seconds=seconds,
    )
    others = [known for known in workspace.expenses(own.month, own.job) if known.run != run]
    if not others:  # else another run submits the same job just now: it is that one's
        workspace.write_expense(own)
    record = _record(workspace, now)
    if _too_much(workspace, own, record):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            looked_at = pool.map(lambda each: _looked_at(workspace, each, own, now), record)
            record = [expense for expense in looked_at if expense]
    cost = f"{money(own.cost, workspace.currency)} ({duration(seconds)}, {why})"
    if said := _too_much(workspace, own, record):
        if not others:
            workspace.delete_expense(own)
        raise BudgetExceeded(
            f"scene {spec.scene}, {spec.stage}: job {spec.name} is expected to cost {cost} and was not submitted. "
            f"{said} What is made already stays, and a later run goes on from there."
        )
    sums = [
        f"{what} then comes to {money(spent + own.cost, workspace.currency)} of {money(most, workspace.currency)}"
        for what, _, most, spent, _ in _limits(workspace, own, record)
    ]
    return f"job {spec.name} is expected to cost {cost}; {', '.join(sums)}"


def _limits(
    workspace: Workspace, own: Expense, record: Iterable[Expense]
) -> Iterable[tuple[str, str, float, float, str]]:
    """For each limit: what it is on, its field, the limit, what is spent of it without `own`, and what to do."""
    others = [expense for expense in record if expense.job != own.job]
    less = "choose options that take less time"
    if (most := workspace.max_cost_per_run) is not None:
        spent = _total(expense for expense in others if expense.run == own.run)
        yield "this run", "max_cost_per_run", most, spent, f"Raise the limit, or {less}."
    if (most := workspace.max_cost_per_month) is not None:
        spent = _total(expense for expense in others if expense.month == own.month)
        yield "this month", "max_cost_per_month", most, spent, f"Raise the limit, wait for the next month, or {less}."


def _too_much(workspace: Workspace, own: Expense, record: Iterable[Expense]) -> str:
    """Which limit a job would exceed, and what to do about it; "" if none."""
    for what, field, most, spent, remedy in _limits(workspace, own, record):
        if spent + own.cost > most:
            return (
                f"The other jobs of {what} come to {money(spent, workspace.currency)} already; the limit is "
                f"{money(most, workspace.currency)} ({field} of the workspace's block). {remedy}"
            )
    return ""


def _expected(workspace: Workspace, plan: Plan, spec: JobSpec, now: datetime) -> tuple[float, str]:
    """How many seconds a job is expected to run, and why.

    As long as the scene's last version took, rather one with the same options; else as the same options did with other
    scenes. Where both sides tell how much there is to do, the time is scaled by it.
    """

    def scaled(seconds: float, work: float | None) -> float:
        return min(spec.time_limit, seconds * (plan.work / work if plan.work and work else 1.0))

    options = spec.tags.get("options")
    timed = [(asset, (asset.seconds or {}).get(spec.tier)) for asset in workspace.assets(plan.asset_name)]
    made = [(asset, seconds) for asset, seconds in timed if seconds]
    if made:
        alike = [each for each in made if each[0].tags.get("options") == options]
        asset, seconds = (alike or made)[-1]
        return scaled(seconds, float(asset.tags.get("work", 0))), f"as {asset} took"
    others = [
        scaled(expense.seconds, expense.work)
        for expense in _record(workspace, now)
        if expense.completed and expense.seconds
        if (expense.stage, expense.tier, expense.options) == (spec.stage, spec.tier, options)
    ]
    if others:
        return statistics.median(others), f"as {len(others)} such jobs of other scenes took"
    return spec.time_limit, "its time limit: the scene has no earlier version to go by"


def _record(workspace: Workspace, now: datetime) -> list[Expense]:
    return [expense for month in _months(now) for expense in workspace.expenses(month)]


def _looked_at(workspace: Workspace, expense: Expense, own: Expense, now: datetime) -> Expense | None:
    """An expense as it is once its job was looked for; None if it was entered long ago and never submitted."""
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
    """An expense with what its job did cost, which is recorded; as it was while the job goes on."""
    if not status.state.ended:
        return expense
    seconds = status.seconds
    if not seconds and status.state is JobState.INTERRUPTED:  # of a machine that was lost, nobody knows
        seconds = min(expense.expected_seconds, (datetime.now(timezone.utc) - expense.submitted).total_seconds())
    completed = status.state is JobState.COMPLETED
    ended = expense.model_copy(update={"seconds": seconds, "completed": completed})
    workspace.write_expense(ended)
    return ended


def _total(expenses: Iterable[Expense]) -> float:
    return sum(expense.cost for expense in expenses)


def _months(now: datetime) -> tuple[str, str]:
    """This month and the one before: a run may have begun in it."""
    return f"{now:%Y-%m}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"
