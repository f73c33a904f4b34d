"""What the Prefect server knows of a flow run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect import State, task
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW, temporary_settings

from blocks import Asset

__all__ = ["outcome"]


async def outcome(flow: Callable[..., Any], **parameters: Any) -> tuple[Asset, dict[str, str]]:
    """Run a flow. Return its result and, by task, the state in which each task ended, as the server has them."""
    state: State[Asset] = await flow(**parameters, return_state=True)
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        last = await _caught_up(client)
        while True:
            runs = [run for run in await client.read_task_runs(flow_run_filter=of_run) if run.id != last]
            if all(run.state and run.state.is_final() for run in runs):
                break
            await asyncio.sleep(0.2)
    return await state.aresult(), {run.name.rsplit("-", 1)[0]: run.state_name or "" for run in runs}


@task
async def _last() -> None:
    """Do nothing."""


async def _caught_up(client: PrefectClient) -> UUID:
    """Wait until the server has heard of all task runs of this process: it is sent them in order, but later.

    Returns:
        The number of a task run of this function's own, by which it knows.
    """
    with temporary_settings({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}):
        state: State[None] = await _last(return_state=True)  # type: ignore[misc]  # it is typed as no coroutine
    number = state.state_details.task_run_id
    assert number
    while True:
        try:
            run = await client.read_task_run(number)
        except ObjectNotFound:
            run = None
        if run and run.state and run.state.is_final():
            return number
        await asyncio.sleep(0.2)
