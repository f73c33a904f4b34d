"""Ask the Prefect server whether flow runs of this process were cancelled or suspended, and end those that were.

A run that was suspended and resumed is executed again, often by the same process. An answer concerns only the
executions that had begun before the server was asked.
"""

from __future__ import annotations

import time
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Pause

from blocks import JobSpec
from jobs.errors import RunCancelled

__all__ = ["Resumed", "cancelled_runs", "current_run", "raise_if_stopped"]

_SECONDS_BETWEEN_REQUESTS = 10.0  # cancelling takes effect within 30 s
_FORGOTTEN_AFTER_SECONDS = 60.0
_CANCELLED = [StateType.CANCELLING, StateType.CANCELLED]
_STOPPED = [*_CANCELLED, StateType.PAUSED, StateType.SCHEDULED, StateType.PENDING]

_Execution = tuple[UUID, datetime]
"""A flow run, and when this execution of it began."""


class Resumed(Pause):
    """This run was suspended and resumed before this execution noticed. The next execution takes over its job."""


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
        self._seen: dict[_Execution, float] = {}
        self._stopped: dict[_Execution, State] = {}

    async def stopped(self, execution: _Execution) -> State | None:
        """Return the state of a run that was stopped while this execution went on; None if it was not."""
        now = time.monotonic()
        self._seen[execution] = now
        if now - self._asked > _SECONDS_BETWEEN_REQUESTS:
            self._asked = now
            self._seen = {each: seen for each, seen in self._seen.items() if now - seen < _FORGOTTEN_AFTER_SECONDS}
            begun = list(self._seen)
            try:
                states = await _in_states({run for run, _ in begun}, _STOPPED)
            except Exception:  # if the server does not answer, the runs continue
                return None
            self._stopped = {each: states[each[0]] for each in begun if each[0] in states}
        return self._stopped.get(execution)


_watch = _Watch()


async def raise_if_stopped(spec: JobSpec) -> None:
    """Leave this flow run if it was cancelled or suspended some seconds ago. One request covers all runs here.

    Raises:
        RunCancelled: it was cancelled.
        Resumed: it was suspended, and is scheduled again already.
        Pause: it was suspended. Prefect keeps the state, and a worker executes the run again once it is resumed.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    state = await _watch.stopped((context.flow_run.id, context.start_time))
    if state is None:
        return
    if state.type in _CANCELLED:
        raise RunCancelled(f"scene {spec.scene}, {spec.stage}: this run was cancelled.")
    raise Pause(state=state) if state.is_paused() else Resumed
