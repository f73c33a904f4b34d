"""Ask the Prefect server whether flow runs of this process were cancelled or suspended, and end those that were."""

from __future__ import annotations

import time
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Pause

from blocks import JobSpec
from jobs.errors import RunCancelled

__all__ = ["cancelled_runs", "current_run", "raise_if_stopped"]

_SECONDS_BETWEEN_REQUESTS = 10.0  # cancelling takes effect within 30 s
_FORGOTTEN_AFTER_SECONDS = 60.0
_CANCELLED = [StateType.CANCELLING, StateType.CANCELLED]


def current_run() -> UUID | None:
    """Return the ID of the flow run that the caller is part of; None outside of flow runs."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


async def cancelled_runs(runs: set[UUID]) -> set[UUID]:
    """Return those of the flow runs that are cancelled, or being cancelled."""
    return set(await _in_states(runs, _CANCELLED))


async def _in_states(runs: set[UUID], types: list[StateType]) -> dict[UUID, State]:
    """Return the states of those of the flow runs that are in a state of these types."""
    if not runs:
        return {}
    async with get_client() as client:
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=list(runs)), state=state)
        return {run.id: run.state for run in await client.read_flow_runs(flow_run_filter=chosen) if run.state}


class _Watch:
    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._seen: dict[UUID, float] = {}
        self._stopped: dict[UUID, State] = {}

    async def stopped(self, run: UUID) -> State | None:
        """Return the state of a run that was cancelled or suspended; None if it goes on."""
        now = time.monotonic()
        self._seen[run] = now
        if now - self._asked > _SECONDS_BETWEEN_REQUESTS:
            self._asked = now
            self._seen = {run: seen for run, seen in self._seen.items() if now - seen < _FORGOTTEN_AFTER_SECONDS}
            try:
                self._stopped = await _in_states(set(self._seen), [*_CANCELLED, StateType.PAUSED])
            except Exception:  # if the server does not answer, the runs continue
                return None
        return self._stopped.get(run)


_watch = _Watch()


async def raise_if_stopped(spec: JobSpec) -> None:
    """Leave this flow run if it was cancelled or suspended some seconds ago. One request covers all runs here.

    Raises:
        RunCancelled: it was cancelled.
        Pause: it was suspended. Prefect keeps the state, and a worker executes the run again once it is resumed.
    """
    run = current_run()
    state = await _watch.stopped(run) if run else None
    if state is None:
        return
    if state.is_paused():
        raise Pause(state=state)
    raise RunCancelled(f"scene {spec.scene}, {spec.stage}: this run was cancelled.")
