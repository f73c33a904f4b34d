"""Delete runs of the housekeeping flows, whose schedules start 120 runs a day, so that runs of scenes are found."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import UUID

from prefect import State, get_run_logger, task
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

__all__ = ["HOUSEKEEPING", "forget_old_runs", "nothing_to_do"]

HOUSEKEEPING = ("clean-up", "reprocess")
"""The flows whose old runs are deleted. Runs of scenes are kept."""

_NOTHING_TO_DO = "Nothing to do"
_KEEP_IDLE = timedelta(hours=1)
_AT_A_TIME = 200  # maximum number of runs per call: ten times as many as start between two calls


@task(description="Delete old runs of the flows that only look after others.")
async def forget_old_runs(keep_days: float) -> int:
    """Delete runs of `HOUSEKEEPING` that ended long ago, with their logs and artifacts, and return how many.

    Runs that found nothing to do are deleted an hour after their end.

    Args:
        keep_days: how old another run must be, in days since its end.
    """
    flows, now = FlowFilter(name=FlowFilterName(any_=[*HOUSEKEEPING])), datetime.now(timezone.utc)
    any_end = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES)))
    idle = FlowRunFilterState(name=FlowRunFilterStateName(any_=[_NOTHING_TO_DO]))
    old = set[UUID]()
    async with get_client() as client:
        for state, age in ((any_end, timedelta(days=keep_days)), (idle, _KEEP_IDLE)):
            ended = FlowRunFilter(state=state, end_time=FlowRunFilterEndTime(before_=now - age, is_null_=False))
            found = await client.read_flow_runs(flow_filter=flows, flow_run_filter=ended, limit=_AT_A_TIME)
            old |= {run.id for run in found}
        for run in old:
            await _delete(client, run)
    if old:
        get_run_logger().info("deleted %d old runs of %s", len(old), ", ".join(HOUSEKEEPING))
    return len(old)


def nothing_to_do() -> State[None]:
    """Return the final state of a run of `HOUSEKEEPING` that changed nothing, which is deleted an hour later."""
    return Completed(name=_NOTHING_TO_DO, message="Nothing to do. This run is deleted an hour after its end.")


async def _delete(client: PrefectClient, run: UUID) -> None:
    """Delete a flow run. Its logs go with it, its artifacts do not."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    for artifact in await client.read_artifacts(artifact_filter=of_run):
        try:
            await client.delete_artifact(artifact.id)
        except ObjectNotFound:  # another clean-up has just done it
            continue
    try:
        await client.delete_flow_run(run)
    except ObjectNotFound:
        return
