"""Old runs of the housekeeping flows are deleted from Prefect's database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, LogCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.states import Completed, Failed, Running, Scheduled

from flows.clean_up import clean_up
from tasks import housekeeping
from tasks.housekeeping import nothing_to_do

pytestmark = pytest.mark.usefixtures("prefect_server")


async def run_of(client: PrefectClient, flow: str, state: State[Any], name: str, tag: str) -> UUID:
    """Return a run of a flow that was left in a state."""

    async def empty() -> None: ...

    run = await client.create_flow_run(Flow(empty, name=flow), name=name, tags=[tag])
    await client.set_flow_run_state(run.id, state, force=True)
    await client.create_logs(
        [LogCreate(name="x", level=20, message=name, timestamp=datetime.now(timezone.utc), flow_run_id=run.id)]
    )
    return run.id


async def test_runs_of_scenes_and_unfinished_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with get_client() as client:
        tag = "housekeeping"
        runs: list[tuple[str, State[None], str]] = [
            ("clean-up", Completed(), "old"),
            ("reprocess", Failed(), "old too"),
            ("reprocess", Running(), "at work"),
            ("clean-up", Scheduled(), "to come"),
            ("nerf", Completed(), "street"),
            ("nerf", Failed(), "mill"),
        ]
        for flow, state, name in runs:
            run = await run_of(client, flow, state, name, tag)
            if name == "old":
                old = run
        await client.create_artifact(ArtifactCreate(key="of-an-old-run", data="nothing", flow_run_id=old))

        async def left() -> set[str]:
            mine = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
            return {run.name for run in await client.read_flow_runs(flow_run_filter=mine)}

        ended: State[Any] = await clean_up(workspaces=[], keep_days=1, return_state=True)
        assert ended.is_completed() and ended.name == "Nothing to do"
        assert await left() == {"old", "old too", "at work", "to come", "street", "mill"}
        await run_of(client, "reprocess", nothing_to_do(), "idle", tag)
        await clean_up(workspaces=[], keep_days=1)
        assert "idle" in await left(), "for an hour"
        monkeypatch.setattr(housekeeping, "_KEEP_IDLE", timedelta())
        await clean_up(workspaces=[], keep_days=1)
        assert await left() == {"old", "old too", "at work", "to come", "street", "mill"}
        await clean_up(workspaces=[], keep_days=0)
        assert await left() == {"at work", "to come", "street", "mill"}
        assert not await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[old])))
        assert not await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["of-an-old-run"]))
        )
