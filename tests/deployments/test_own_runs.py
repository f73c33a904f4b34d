"""What a worker does with its flow runs when they are suspended, do not begin, or end at a bad moment."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import State
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateDetails
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.states import Cancelling, Pending, Suspended

from blocks import JobState, LocalWorkspace
from deployments import scene_worker
from deployments.scene_worker import SceneWorker
from tasks import wanted
from tests.faults.chain import chain_workspace, started, states
from tests.waiting import async_until

pytestmark = pytest.mark.usefixtures("prefect_server")


@asynccontextmanager
async def at_work(tmp_path: Path) -> AsyncIterator[SceneWorker]:
    """Yield a worker that polls on request. (A fixture would end it in another task, which anyio refuses.)"""
    with temporary_settings({PREFECT_HOME: tmp_path / "prefect"}):
        async with SceneWorker(work_pool_name=tmp_path.name) as worker:
            assert worker._lock
            with worker._lock:  # a real one keeps it as long as its process lives
                yield worker
                await worker.end_runs()


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return chain_workspace(tmp_path / "home")


async def scheduled(worker: SceneWorker, workspace: LocalWorkspace) -> FlowRun:
    """Schedule a run whose job does not end by itself."""
    (workspace.folder / "street").write_text("street")
    deployment = await worker.client.create_deployment(
        await worker.client.create_flow_from_name("nerf"), "scene",
        entrypoint="tests/deployments/scenes.py:nerf", work_pool_name=worker._work_pool_name,
    )  # fmt: skip
    parameters = {"scene": "street", "root": str(workspace.folder), "seconds": 1000}
    run: FlowRun = await worker.client.create_flow_run_from_deployment(deployment, parameters=parameters)
    return run


async def state_of(worker: SceneWorker, run: FlowRun) -> State[Any]:
    state = (await worker.client.read_flow_run(run.id)).state
    assert state
    return state


async def test_a_run_that_is_resumed_before_its_suspension_is_noticed_keeps_its_job(
    tmp_path: Path, workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path) as worker:
        monkeypatch.setattr(wanted, "_watch", wanted._Watch())
        monkeypatch.setattr(wanted, "_SECONDS_BETWEEN_REQUESTS", math.inf)
        run = await scheduled(worker, workspace)
        await worker.get_and_submit_flow_runs()
        await async_until(lambda: states(workspace) == [JobState.RUNNING])
        await worker.client.set_flow_run_state(run.id, Suspended(timeout_seconds=3600))  # as the UI's button does
        await worker.client.resume_flow_run(run.id)

        await worker.get_and_submit_flow_runs()
        await async_until(lambda: not worker._submitting_flow_run_ids)
        assert len(worker._running) == 1 and (await state_of(worker, run)).is_scheduled(), "one execution at a time"

        monkeypatch.setattr(wanted, "_SECONDS_BETWEEN_REQUESTS", 0.1)
        await async_until(lambda: not worker._running)
        assert states(workspace) == [JobState.RUNNING]
        await worker.get_and_submit_flow_runs()
        while not (await state_of(worker, run)).is_running():
            await asyncio.sleep(0.05)
        await worker.client.set_flow_run_state(run.id, Cancelling())
        await async_until(lambda: not worker._running)
        assert states(workspace) == [JobState.CANCELED] and started(workspace) == ["first"]


async def test_a_run_that_ends_while_the_worker_looks_for_lost_runs_is_not_lost(
    tmp_path: Path, workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path) as worker:
        monkeypatch.setattr(wanted, "_watch", wanted._Watch())
        monkeypatch.setattr(wanted, "_SECONDS_BETWEEN_REQUESTS", 0.1)
        run = await scheduled(worker, workspace)
        taken = worker._taken

        async def slowly(client: PrefectClient, by: set[str]) -> list[FlowRun]:
            await worker.get_and_submit_flow_runs()
            await async_until(lambda: states(workspace) == [JobState.RUNNING])
            found = await taken(client, by)
            await client.set_flow_run_state(run.id, Cancelling())
            await async_until(lambda: not worker._mine())
            return found

        monkeypatch.setattr(worker, "_taken", slowly)
        await worker.put_back_lost_runs()
        assert (await state_of(worker, run)).is_cancelled()


@pytest.mark.parametrize("failing", ["", "until the next search", "until the worker stops"])
async def test_a_run_that_may_not_begin_is_queued_again(
    tmp_path: Path,
    workspace: LocalWorkspace,
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with at_work(tmp_path) as worker:

        async def fail(*arguments: object) -> None:
            raise httpx.ConnectError("the server is restarting")

        monkeypatch.setattr(scene_worker, "_BEGINNING_SECONDS", 0.5)
        run = await scheduled(worker, workspace)
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)  # as after the server's clock was set back
        waiting: State[Any] = Pending(state_details=StateDetails(scheduled_time=tomorrow))
        await worker.client.set_flow_run_state(run.id, waiting, force=True)

        with monkeypatch.context() as patch:
            if failing:
                patch.setattr(worker, "_put_back", fail)
            await worker.run(await worker.client.read_flow_run(run.id), None)  # type: ignore[arg-type]
        if failing == "until the next search":
            await worker.put_back_lost_runs()
        elif failing:
            await worker.put_back([])

        assert started(workspace) == []
        state = await state_of(worker, run)
        assert state.is_scheduled() and state.state_details.scheduled_time
        assert state.state_details.scheduled_time <= datetime.now(timezone.utc)
