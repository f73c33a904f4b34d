"""Limits on costs, on a real Prefect server and jobs that are real processes, but short."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import tasks
from blocks import Asset, Expense, JobState, LocalWorkspace
from flows.clean_up import clean_up
from jobs.errors import BudgetExceeded, JobFailed, NotFound
from jobs.options import TrainOptions
from tasks import budget
from tests.faults.chain import FirstOptions, SecondOptions, capture, chain_workspace, first, second, started
from tests.waiting import async_until

pytestmark = pytest.mark.usefixtures("prefect_server")

DAY = 24 * 3600  # the time limit of a job of the chain, in seconds
PRICES = {"cpu_price_per_hour": 3600.0, "gpu_price_per_hour": 3600.0, "currency": "EUR"}  # 1 EUR a second


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., LocalWorkspace]:
    """Return a function that opens the test's workspace with limits, in EUR."""

    def limited(run: float | None = None, month: float | None = None) -> LocalWorkspace:
        limits = {"max_cost_per_run": run, "max_cost_per_month": month}
        return chain_workspace(tmp_path / "home").model_copy(update=PRICES | limits)

    return limited


async def make(workspace: LocalWorkspace, scene: str = "street", seconds: float = 1.0, **more: Any) -> Asset:
    @flow(name="one-stage")
    async def run() -> Asset:
        made: Asset = await first.with_options(**more)(
            workspace, capture(workspace, scene), FirstOptions(seconds=seconds)
        )
        await tasks.summarize(workspace, scene, made)
        return made

    return await run()


def record(workspace: LocalWorkspace) -> dict[str, Expense]:
    return {each.job: each for each in budget._record(workspace, datetime.now(timezone.utc))}


def month(back: int = 0) -> str:
    return budget._months(datetime.now(timezone.utc))[back]


def entry(job: str, cost: float, **more: Any) -> Expense:
    """Return the expected cost, in EUR, of a job of another run that was never submitted."""
    given = {"run": "another", "scene": "wall", "stage": "first", "tier": "gpu", "price_per_hour": 3600.0}
    now = datetime.now(timezone.utc)
    return Expense.model_validate(
        {"job": job, "month": month(), "submitted": now, "expected_seconds": cost, **given, **more}
    )


async def test_without_a_limit_nothing_is_recorded(opened: Callable[..., LocalWorkspace]) -> None:
    await make(opened())
    assert not (opened().folder / "spent").exists()


async def test_a_job_without_history_is_estimated_by_its_time_limit(
    opened: Callable[..., LocalWorkspace], caplog: pytest.LogCaptureFixture
) -> None:
    limited = opened(run=DAY - 1, month=DAY)
    said = (
        r"scene street, first: job street-first-1-\w+-1 .*86400\.00 EUR \(24 h 0 min.*86399\.00 EUR \(max_cost_per_run"
    )
    with pytest.raises(BudgetExceeded, match=said):
        await make(limited)
    assert started(limited) == [] and record(limited) == {}

    made = await make(opened(run=DAY, month=DAY))
    [spent] = record(limited).values()
    assert (spent.job, spent.run, spent.completed) == (made.tags["job"], made.tags["flow_run"], True)
    assert (spent.month, spent.expected_seconds) == (month(), DAY)
    assert spent.seconds is not None and 1 <= spent.seconds < 60
    assert "expected to cost 86400.00 EUR (24 h 0 min, its time limit" in caplog.text
    assert f"1 job of this run: {spent.cost:.2f} EUR of at most 86400.00 EUR" in caplog.text
    async with get_client() as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=["street-summary"]))
        [*_, shown] = sorted(await client.read_artifacts(artifact_filter=chosen), key=lambda each: str(each.created))
    assert f"1 job of this run: {spent.cost:.2f} EUR" in str(shown.data)
    assert f"cost {made.tags['job_seconds']}.00 EUR" in str(shown.data)


async def test_the_next_version_is_estimated_by_an_earlier_one(
    opened: Callable[..., LocalWorkspace], caplog: pytest.LogCaptureFixture
) -> None:
    before = await make(opened(month=2 * DAY))
    spent = sum(each.cost for each in record(opened()).values())
    took = float(before.tags["job_seconds"])
    with pytest.raises(BudgetExceeded, match=rf"{took:.2f} EUR .*{before}.*max_cost_per_month"):
        await make(opened(month=spent + took - 0.01), refresh=True)
    await make(opened(month=spent + took), refresh=True)
    assert started(opened()) == ["first", "first"]
    assert f"as {before} took); this month then comes to {spent + took:.2f} EUR of {spent + took:.2f}" in caplog.text


async def test_the_first_version_is_estimated_by_other_scenes(
    opened: Callable[..., LocalWorkspace], caplog: pytest.LogCaptureFixture
) -> None:
    for scene in ("wall", "tower", "gate"):
        await make(opened(run=DAY), scene)
    times = sorted(each.seconds or 0 for each in record(opened()).values())
    await make(opened(run=60), "street")
    assert f"expected to cost {times[1]:.2f} EUR" in caplog.text
    assert "as 3 such jobs of other scenes took" in caplog.text
    with pytest.raises(BudgetExceeded, match="its time limit"):  # other options take another time
        await make(opened(run=60), "square", seconds=2.0)


def test_the_time_is_scaled_by_how_much_there_is_to_do(opened: Callable[..., LocalWorkspace]) -> None:
    limited = opened(run=1.0)
    now = datetime.now(timezone.utc)
    dataset = capture(limited)
    dataset = dataset.model_copy(update={"tags": {**dataset.tags, "capture_version": "1", "fingerprint": "f"}})
    plan = tasks.train.plan(dataset, TrainOptions(max_num_iterations=3000))
    spec = plan.spec(1)
    assert spec.tags["work"] == "3000"
    limited.write_expense(
        entry("wall-1", 1, stage="train", options=spec.tags["options"], work=1000, seconds=50.0, completed=True)
    )
    assert budget._expected(limited, plan, spec, now)[0] == 150
    limited.write_expense(
        entry("wall-1", 1, stage="train", options=spec.tags["options"], work=1, seconds=50.0, completed=True)
    )
    assert budget._expected(limited, plan, spec, now)[0] == spec.time_limit, "no job takes longer"


async def test_jobs_that_fail_count_and_the_run_pays_for_all_its_attempts(
    opened: Callable[..., LocalWorkspace],
) -> None:
    limited = opened(run=2 * DAY)
    program = limited.folder / "python"
    healthy = program.read_text()
    program.write_text(healthy.replace("echo made", "exit 1; echo made"))
    with pytest.raises(JobFailed):
        await make(limited)
    [failed] = record(limited).values()
    assert failed.seconds is not None and failed.seconds >= 1 and not failed.completed
    # A failed job does not count for estimates. Each run has a separate limit, and all runs share that of the month.
    with pytest.raises(BudgetExceeded, match=f"this month .*{failed.cost:.2f} EUR"):
        await make(opened(run=2 * DAY, month=DAY + failed.cost - 0.01))
    program.write_text(healthy)
    await make(opened(run=DAY, month=DAY + failed.cost + 0.01))
    assert len(record(limited)) == 2


async def test_a_job_that_is_cancelled_costs_what_it_ran(opened: Callable[..., LocalWorkspace]) -> None:
    limited = opened(month=DAY)
    running = asyncio.create_task(make(limited, seconds=1000))
    await async_until(lambda: started(limited))
    [job] = record(limited)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    status = limited.find_job(job)
    assert status and status.state is JobState.CANCELED
    assert record(limited)[job].seconds == status.seconds


async def test_a_job_is_paid_for_by_who_submits_it(opened: Callable[..., LocalWorkspace]) -> None:
    """Others attach to it, free of charge: their limit may be lower than its cost."""
    running = asyncio.create_task(make(opened(run=DAY), seconds=3))
    await async_until(lambda: started(opened()))
    [before] = record(opened()).values()
    assert await make(opened(run=0), seconds=3) == await running
    [after] = record(opened()).values()
    assert (after.run, after.completed) == (before.run, True) and len(started(opened())) == 1


def test_of_two_at_the_same_time_not_both_slip_through(
    opened: Callable[..., LocalWorkspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let both runs record their expected costs before either adds them up."""
    limited, together, expenses = opened(month=1.5 * DAY), Barrier(2, timeout=30), LocalWorkspace.expenses

    def at_once(self: LocalWorkspace, month: str, job: str | None = None) -> list[Expense]:
        if job is None:
            together.wait()
        return expenses(self, month, job)

    def charge(scene: str) -> bool:
        plan = first.plan(capture(limited, scene), FirstOptions(seconds=1))
        try:
            budget._charge(limited, plan, plan.spec(1), run=scene)
        except BudgetExceeded:
            return False
        return True

    monkeypatch.setattr(LocalWorkspace, "expenses", at_once)
    with ThreadPoolExecutor(2) as pool:
        passed = list(pool.map(charge, ("wall", "tower")))
    monkeypatch.undo()
    assert sum(passed) <= 1
    assert len(record(limited)) == sum(passed), "who is refused leaves nothing in the record"
    assert charge("wall"), "once nobody else asks"


async def test_jobs_that_ended_unseen_are_settled_before_a_job_is_refused(
    opened: Callable[..., LocalWorkspace],
) -> None:
    limited = opened(month=DAY + 60)
    plan = first.plan(capture(limited, "wall"), FirstOptions(seconds=0.5))
    ended = plan.spec(1)
    limited.submit(ended)
    await async_until(lambda: (status := limited.find_job(ended.name)) and status.state.ended)
    long_ago = datetime.now(timezone.utc) - timedelta(hours=2)
    limited.write_expense(entry(ended.name, DAY))
    limited.write_expense(entry("never-submitted-1", DAY, submitted=long_ago))
    limited.write_expense(entry("of-last-month-1", DAY, month=month(1), seconds=DAY))
    limited.write_expense(entry("being-submitted-1", 30))
    await make(limited)
    known = record(limited)
    assert known[ended.name].completed and 0 < (known[ended.name].seconds or 0) < 30
    assert "never-submitted-1" not in known and known["being-submitted-1"].seconds is None
    limited.write_expense(entry("being-submitted-2", DAY + 60))
    with pytest.raises(BudgetExceeded, match="this month"):
        await make(limited, "tower")


async def test_a_later_run_and_the_clean_up_see_an_end_that_was_missed(
    opened: Callable[..., LocalWorkspace],
) -> None:
    limited = opened(month=10 * DAY)
    for scene in ("wall", "street"):
        plan = first.plan(capture(limited, scene), FirstOptions(seconds=0.5))
        job = plan.spec(1)
        limited.write_expense(entry(job.name, DAY, run=str(uuid4())))
        limited.submit(job)
        if scene == "wall":
            limited.follow(job.name, str(uuid4()))
            [mark] = (limited.folder / "followers" / job.name).iterdir()
            _age(mark, 3600)
        await async_until(partial(_ended, limited, job.name))
    await make(limited, "street", seconds=0.5)
    await limited.save("limited", overwrite=True)
    await clean_up(["rebel-nerf-local-workspace/limited"])
    assert [each.completed for each in record(limited).values()] == [True, True]
    assert all(each.seconds and each.seconds < 60 for each in record(limited).values())


async def test_a_failed_submission_costs_nothing(opened: Callable[..., LocalWorkspace]) -> None:
    limited = opened(run=DAY)

    @flow(name="gone")
    async def run() -> None:
        start = capture(limited)
        shutil.rmtree(start.uri)
        await second(limited, start, SecondOptions(seconds=0.1))

    with pytest.raises(NotFound, match="street:1"):
        await run()
    assert record(limited) == {}


def _ended(workspace: LocalWorkspace, job: str) -> bool:
    status = workspace.find_job(job)
    return status is not None and status.state.ended


def _age(file: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(file, (at, at))
