"""An execution of a flow run leaves the run if it was stopped since the execution began, and only then."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from prefect import State, flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.states import Cancelled, Pending, Scheduled, Suspended

from blocks import JobSpec
from jobs.errors import RunCancelled
from tasks import wanted
from tasks.wanted import Resumed, raise_if_stopped

pytestmark = pytest.mark.usefixtures("prefect_server")

SPEC = JobSpec(family="street-train-1-0", attempt=1, scene="street", stage="train", arguments=())


@flow
async def executed(body: Callable[[], Awaitable[None]]) -> None:
    """Do something inside a flow run."""
    await body()


async def new_run(client: PrefectClient) -> FlowRun:
    run: FlowRun = await client.create_flow_run(executed, parameters={})
    return run


async def execute(run: FlowRun, body: Callable[[], Awaitable[None]]) -> None:
    await run_flow_async(executed, flow_run=run, parameters={"body": body}, return_type="result")


@pytest.fixture
def seconds_between_requests(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    monkeypatch.setattr(wanted, "_watch", wanted._Watch())
    return lambda seconds: monkeypatch.setattr(wanted, "_SECONDS_BETWEEN_REQUESTS", seconds)


async def test_a_resumed_run_is_not_stopped_by_what_was_asked_before(
    seconds_between_requests: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    real = wanted._in_states

    async def slow(runs: set[UUID], types: list[StateType]) -> dict[UUID, State[Any]]:
        states = await real(runs, types)
        asked.set()
        await answer.wait()
        return states

    monkeypatch.setattr(wanted, "_in_states", slow)
    async with get_client() as client:
        run = await new_run(client)

        async def suspended() -> None:
            await client.set_flow_run_state(run.id, Suspended(), force=True)
            seconds_between_requests(-1)
            asking.append(asyncio.create_task(raise_if_stopped(SPEC)))
            await asked.wait()
            raise Pause

        async def resumed() -> None:
            seconds_between_requests(math.inf)
            answer.set()
            with pytest.raises(Pause):
                await asking[0]
            await raise_if_stopped(SPEC)
            ends.append("went on")

        asking: list[asyncio.Task[None]] = []
        ends: list[str] = []
        with suppress(Pause):
            await execute(run, suspended)
        await client.set_flow_run_state(run.id, Scheduled(), force=True)
        await execute(await client.read_flow_run(run.id), resumed)
        assert ends == ["went on"]


@pytest.mark.parametrize(
    ("state", "error"), [(Suspended, Pause), (Scheduled, Resumed), (Pending, Resumed), (Cancelled, RunCancelled)]
)
async def test_how_an_execution_leaves_its_run(
    state: Callable[[], State[Any]],
    error: type[BaseException],
    seconds_between_requests: Callable[[float], None],
) -> None:
    seconds_between_requests(-1)
    async with get_client() as client:
        run = await new_run(client)

        async def stopped() -> None:
            await raise_if_stopped(SPEC)
            await client.set_flow_run_state(run.id, state(), force=True)
            await raise_if_stopped(SPEC)
            raise AssertionError("it went on")

        with pytest.raises(error) as left:
            await execute(run, stopped)
        assert left.type is error
