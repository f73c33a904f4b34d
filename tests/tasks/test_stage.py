"""The life of a stage, on a real Prefect server and jobs that are real processes, but short."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Cancelled, Cancelling

import tasks
from blocks import Asset, JobState, LocalWorkspace
from flows.clean_up import clean_up
from jobs.errors import JobFailed, RunCancelled
from tasks import wanted
from tests.faults.chain import (
    FirstOptions,
    SecondOptions,
    _plan,
    capture,
    chain_workspace,
    first,
    second,
    started,
    states,
)
from tests.waiting import async_until

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return chain_workspace(tmp_path / "home")


async def both(
    workspace: LocalWorkspace, scene: str = "street", refresh: str = "", seconds: float = 0.1
) -> list[Asset]:
    """Run both stages."""

    @flow(name="both")
    async def run() -> list[Asset]:
        start = capture(workspace, scene)
        one = await first.with_options(refresh=refresh == "first")(workspace, start, FirstOptions(seconds=seconds))
        other = second.with_options(refresh=refresh == "second")
        return [one, await other(workspace, one, SecondOptions(seconds=seconds))]

    made: list[Asset] = await run()
    return made


async def test_a_refreshed_stage_is_kept_beside_the_old_and_used_from_then_on(workspace: LocalWorkspace) -> None:
    before = await both(workspace)
    assert await both(workspace) == before
    assert len(started(workspace)) == 2
    again = await both(workspace, refresh="first")
    assert [asset.version for asset in again] != [asset.version for asset in before]
    assert again[0].version == f"{before[0].version}-2"
    assert again[1].tags["input"] == str(again[0])
    assert (Path(before[0].uri) / "made").exists()
    assert await both(workspace) == again
    assert len(started(workspace)) == 4
    third = await both(workspace, refresh="first")
    assert third[0].version == f"{before[0].version}-3"


async def test_a_run_that_is_repeated_refreshes_once(workspace: LocalWorkspace) -> None:
    """As when its worker is stopped, or somebody retries it: it is the same flow run."""
    [before, _] = await both(workspace)

    @flow(name="repeated")
    async def run() -> list[Asset]:
        again = first.with_options(refresh=True)
        return [await again(workspace, capture(workspace), FirstOptions(seconds=0.1)) for _ in range(2)]

    assert [asset.version for asset in await run()] == [f"{before.version}-2"] * 2
    assert started(workspace) == ["first", "second", "first"]
    assert (await run())[0].version == f"{before.version}-3"


async def test_a_missing_result_is_computed_again_with_the_same_version(workspace: LocalWorkspace) -> None:
    before = await both(workspace)
    shutil.rmtree(before[1].uri)
    assert [asset.version for asset in await both(workspace)] == [asset.version for asset in before]
    assert started(workspace) == ["first", "second", "second"]


async def test_an_incomplete_output_is_not_registered(workspace: LocalWorkspace) -> None:
    """A missing or an empty file is refused. The job completed, so it runs again only after a refresh."""

    @tasks.stage.Stage
    def hollow(before: Asset, options: FirstOptions) -> tasks.stage.Plan:
        """Plan a stage that requires a file which the job does not write."""
        return dataclasses.replace(_plan(before, options), must_have=("made", "model.json"))

    @flow(name="hollow")
    async def run(refresh: bool = False) -> None:
        await hollow.with_options(refresh=refresh)(workspace, capture(workspace), FirstOptions(seconds=0.1))

    for refresh, jobs in ((False, 1), (False, 1), (True, 2)):
        with pytest.raises(JobFailed, match=r"model\.json .*dataset"):
            await run(refresh)
        assert workspace.assets("street-first") == [] and len(started(workspace)) == jobs
    for made in (workspace.folder / "jobs").glob("*/outputs/output"):
        (made / "model.json").touch()
    with pytest.raises(JobFailed, match=r"model\.json .*dataset"):
        await run()
    for made in (workspace.folder / "jobs").glob("*/outputs/output"):
        (made / "model.json").write_text("{}")
    await run()
    assert len(workspace.assets("street-first")) == 1 and len(started(workspace)) == 2


async def test_a_result_of_another_machine_is_used(workspace: LocalWorkspace, tmp_path: Path) -> None:
    before = await both(workspace)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "results of another"}):
        assert await both(workspace) == before
    assert len(started(workspace)) == 2


async def test_who_comes_first_is_served_first_and_never_two_at_once(workspace: LocalWorkspace) -> None:
    limited = LocalWorkspace(root=workspace.root, python=workspace.python, jobs_at_once=1000, gpu_jobs_at_once=1)
    running = [asyncio.create_task(both(limited, f"scene-{number}", seconds=0.5)) for number in range(3)]
    most = 0
    while not all(task.done() for task in running):
        most = max(most, sum(not state.ended for state in states(workspace)))
        await asyncio.sleep(0.02)
    await asyncio.gather(*running)
    assert most == 1
    assert len(started(workspace)) == 6


async def test_a_job_ends_with_the_last_run_that_waits_for_it(workspace: LocalWorkspace) -> None:
    one, other = (asyncio.create_task(both(workspace, seconds=1000)) for _ in range(2))
    await async_until(
        lambda: states(workspace) == [JobState.RUNNING] and [*map(len, workspace.followers().values())] == [2]
    )
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert states(workspace) == [JobState.RUNNING]
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    assert states(workspace) == [JobState.CANCELED]
    assert len(started(workspace)) == 1


async def test_a_run_without_a_worker_sees_that_it_was_cancelled(
    workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "_SECONDS_BETWEEN_REQUESTS", 0.5)
    waiting = asyncio.create_task(both(workspace, seconds=1000))
    await async_until(lambda: states(workspace) == [JobState.RUNNING])
    [[run]] = [list(ages) for ages in workspace.followers().values()]
    async with get_client() as client:
        await client.set_flow_run_state(run, Cancelling())
    with pytest.raises(RunCancelled, match="scene street, first: "):
        await waiting
    assert states(workspace) == [JobState.CANCELED]
    assert workspace.followers() == {}


@pytest.mark.parametrize("how", ["silent", "cancelled", "alive", "suspended", "ended"])
async def test_the_clean_up_cancels_jobs_that_nobody_waits_for(
    workspace: LocalWorkspace, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.objects import FlowRun

    async with get_client() as client:
        run: FlowRun = await client.create_flow_run(clean_up)
    plan = tasks.stage.Plan(  # as `first` makes it
        scene="street", capture_version="1", options=FirstOptions(seconds=0.1 if how == "ended" else 1000),
        asset_name="street-first", kind="dataset", output="output", inputs={"input": capture(workspace)},
    )  # fmt: skip
    job = plan.spec(1)
    alive = how in ("alive", "suspended")
    follower = str(uuid4() if alive else run.id)
    workspace.follow(job.name, follower)
    workspace.submit(job)
    if how == "ended":
        await async_until(lambda: states(workspace) == [JobState.COMPLETED])
    if how in ("silent", "suspended", "ended"):
        an_hour_ago = time.time() - 3600
        os.utime(workspace.folder / "followers" / job.name / follower, (an_hour_ago, an_hour_ago))
    if how == "cancelled":
        async with get_client() as client:
            await client.set_flow_run_state(run.id, Cancelled(), force=True)
    await workspace.save("small", overwrite=True)
    looked = LocalWorkspace.followers

    def look(workspace: LocalWorkspace, name: str | None = None) -> dict[str, dict[str, float]]:
        found = looked(workspace, name)
        if how == "suspended":  # the run goes on a moment after the clean-up has begun
            workspace.follow(job.name, follower)
        return found

    monkeypatch.setattr(LocalWorkspace, "followers", look)
    await clean_up(["rebel-nerf-local-workspace/small", "rebel-nerf-local-workspace/gone"])
    if alive:
        assert states(workspace)[0] in (JobState.QUEUED, JobState.RUNNING)
        assert list(workspace.followers()) == [job.name]
        workspace.cancel(job.name)
    else:
        assert states(workspace) == [JobState.COMPLETED if how == "ended" else JobState.CANCELED]
        assert workspace.followers() == {}
