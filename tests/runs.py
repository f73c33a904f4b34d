"""What the Prefect server knows of a flow run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from blocks import Asset

__all__ = ["outcome"]


async def outcome(flow: Callable[..., Any], **parameters: Any) -> tuple[Asset, dict[str, str]]:
    """Run a flow. Return its result and, by task, the state in which each task ended, as the server has them."""
    state: State[Asset] = await flow(**parameters, return_state=True)
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        while True:
            runs = await client.read_task_runs(flow_run_filter=of_run)
            if all(run.state and run.state.is_final() for run in runs):  # the server learns of them by and by
                break
            await asyncio.sleep(0.2)
    return await state.aresult(), {run.name.rsplit("-", 1)[0]: run.state_name or "" for run in runs}
