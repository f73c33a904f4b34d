"""Whether this process's flow runs were cancelled, according to the Prefect server.

A worker ends the runs that are cancelled. A run without a worker, or whose worker died, checks that itself.
"""

from __future__ import annotations

import time
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext

from blocks import JobSpec
from jobs.errors import RunCancelled

__all__ = ["cancelled_runs", "current_run", "raise_if_cancelled"]

_SECONDS_BETWEEN_REQUESTS = 10.0  # cancelling takes effect within 30 s
_FORGOTTEN_AFTER_SECONDS = 60.0
_CANCELLED = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED]))


def current_run() -> UUID | None:
    """Return the ID of the flow run that the caller is part of; None outside of flow runs."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


async def cancelled_runs(runs: set[UUID]) -> set[UUID]:
    """Return those of the flow runs that are cancelled, or being cancelled."""
    if not runs:
        return set()
    async with get_client() as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=list(runs)), state=_CANCELLED)
        return {run.id for run in await client.read_flow_runs(flow_run_filter=chosen)}


class _Watch:
    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._seen: dict[UUID, float] = {}
        self._cancelled: set[UUID] = set()

    async def is_cancelled(self, run: UUID) -> bool:
        now = time.monotonic()
        self._seen[run] = now
        if now - self._asked > _SECONDS_BETWEEN_REQUESTS:
            self._asked = now
            self._seen = {run: seen for run, seen in self._seen.items() if now - seen < _FORGOTTEN_AFTER_SECONDS}
            try:
                self._cancelled = await cancelled_runs(set(self._seen))
            except Exception:  # a server that does not answer cancels nothing
                return False
        return run in self._cancelled


_watch = _Watch()


async def raise_if_cancelled(spec: JobSpec) -> None:
    """Raise RunCancelled if this flow run was cancelled some seconds ago. One request covers all runs here."""
    if (run := current_run()) and await _watch.is_cancelled(run):
        raise RunCancelled(f"scene {spec.scene}, {spec.stage}: this run was cancelled.")
