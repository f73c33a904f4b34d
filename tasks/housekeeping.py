"""Delete old runs of the housekeeping flows, whose schedules start 87,600 runs a year."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import UUID

from prefect import get_run_logger, task
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.exceptions import ObjectNotFound

__all__ = ["HOUSEKEEPING", "forget_old_runs"]

HOUSEKEEPING = ("clean-up", "reprocess")
"""The flows whose old runs are deleted. Runs of scenes are kept."""

_AT_A_TIME = 200  # maximum number of runs per call: ten times as many as start between two calls


@task(description="Delete old runs of the flows that only look after others.")
async def forget_old_runs(keep_days: float) -> int:
    """Delete runs of `HOUSEKEEPING` that ended long ago, with their logs and artifacts, and return how many.

    Args:
        keep_days: how old a run must be, in days since its end.
    """
    before = datetime.now(timezone.utc) - timedelta(days=keep_days)
    ended = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
        end_time=FlowRunFilterEndTime(before_=before, is_null_=False),
    )
    flows = FlowFilter(name=FlowFilterName(any_=[*HOUSEKEEPING]))
    async with get_client() as client:
        old = [
            run.id for run in await client.read_flow_runs(flow_filter=flows, flow_run_filter=ended, limit=_AT_A_TIME)
        ]
        for run in old:
            await _delete(client, run)
    if old:
        get_run_logger().info("deleted %d runs of %s that ended before %s", len(old), ", ".join(HOUSEKEEPING), before)
    return len(old)


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
