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
from tests.faults.chain import FirstOptions, SecondOptions, _plan, capture, first, second, started, workspace
from tests.waiting import async_until

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def place(tmp_path: Path) -> LocalWorkspace:
    return workspace(tmp_path / "home")


async def both(place: LocalWorkspace, scene: str = "street", refresh: str = "", seconds: float = 0.1) -> list[Asset]:
    """Run both stages."""

    @flow(name="both")
    async def run() -> list[Asset]:
        start = capture(place, scene)
        one = await first.with_options(refresh=refresh == "first")(place, start, FirstOptions(seconds=seconds))
        other = second.with_options(refresh=refresh == "second")
        return [one, await other(place, one, SecondOptions(seconds=seconds))]

    made: list[Asset] = await run()
    return made


def states(place: LocalWorkspace) -> list[JobState]:
    found = [place.find_job(folder.name) for folder in (place.folder / "jobs").glob("[!.]*")]
    return [status.state for status in found if status]


async def test_a_refreshed_stage_is_kept_beside_the_old_and_used_from_then_on(place: LocalWorkspace) -> None:
    before = await both(place)
    assert await both(place) == before
    assert len(started(place)) == 2
    again = await both(place, refresh="first")
    assert [asset.version for asset in again] != [asset.version for asset in before]
    assert again[0].version == f"{before[0].version}-2"
    assert again[1].tags["input"] == str(again[0])
    assert (Path(before[0].uri) / "made").exists()
    assert await both(place) == again
    assert len(started(place)) == 4
    third = await both(place, refresh="first")
    assert third[0].version == f"{before[0].version}-3"


async def test_a_run_that_is_repeated_refreshes_once(place: LocalWorkspace) -> None:
    """As when its worker is stopped, or somebody retries it: it is the same flow run."""
    [before, _] = await both(place)

    @flow(name="repeated")
    async def run() -> list[Asset]:
        again = first.with_options(refresh=True)
        return [await again(place, capture(place), FirstOptions(seconds=0.1)) for _ in range(2)]

    assert [asset.version for asset in await run()] == [f"{before.version}-2"] * 2
    assert started(place) == ["first", "second", "first"]
    assert (await run())[0].version == f"{before.version}-3"


async def test_a_missing_result_is_computed_again_with_the_same_version(place: LocalWorkspace) -> None:
    before = await both(place)
    shutil.rmtree(before[1].uri)
    assert [asset.version for asset in await both(place)] == [asset.version for asset in before]
    assert started(place) == ["first", "second", "second"]


async def test_an_incomplete_output_is_not_registered(place: LocalWorkspace) -> None:
    """A missing or an empty file is refused. The job completed, so it runs again only after a refresh."""

    @tasks.stage.Stage
    def hollow(before: Asset, options: FirstOptions) -> tasks.stage.Plan:
        """Plan a stage that requires a file which the job does not write."""
        return dataclasses.replace(_plan(before, options), must_have=("made", "model.json"))

    @flow(name="hollow")
    async def run(refresh: bool = False) -> None:
        await hollow.with_options(refresh=refresh)(place, capture(place), FirstOptions(seconds=0.1))

    for refresh, jobs in ((False, 1), (False, 1), (True, 2)):
        with pytest.raises(JobFailed, match=r"model\.json .*dataset"):
            await run(refresh)
        assert place.assets("street-first") == [] and len(started(place)) == jobs
    for made in (place.folder / "jobs").glob("*/outputs/output"):
        (made / "model.json").touch()
    with pytest.raises(JobFailed, match=r"model\.json .*dataset"):
        await run()
    for made in (place.folder / "jobs").glob("*/outputs/output"):
        (made / "model.json").write_text("{}")
    await run()
    assert len(place.assets("street-first")) == 1 and len(started(place)) == 2


async def test_a_result_of_another_machine_is_used(place: LocalWorkspace, tmp_path: Path) -> None:
    before = await both(place)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "results of another"}):
        assert await both(place) == before
    assert len(started(place)) == 2


async def test_who_comes_first_is_served_first_and_never_two_at_once(place: LocalWorkspace) -> None:
    limited = LocalWorkspace(root=place.root, python=place.python, jobs_at_once=1000, gpu_jobs_at_once=1)
    running = [asyncio.create_task(both(limited, f"scene-{number}", seconds=0.5)) for number in range(3)]
    most = 0
    while not all(task.done() for task in running):
        most = max(most, sum(not state.ended for state in states(place)))
        await asyncio.sleep(0.02)
    await asyncio.gather(*running)
    assert most == 1
    assert len(started(place)) == 6


async def test_a_job_ends_with_the_last_run_that_waits_for_it(place: LocalWorkspace) -> None:
    one, other = (asyncio.create_task(both(place, seconds=1000)) for _ in range(2))
    await async_until(lambda: states(place) == [JobState.RUNNING] and [*map(len, place.followers().values())] == [2])
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert states(place) == [JobState.RUNNING]
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    assert states(place) == [JobState.CANCELED]
    assert len(started(place)) == 1


async def test_a_run_without_a_worker_sees_that_it_was_cancelled(
    place: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "_SECONDS_BETWEEN_REQUESTS", 0.5)
    waiting = asyncio.create_task(both(place, seconds=1000))
    await async_until(lambda: states(place) == [JobState.RUNNING])
    [[run]] = [list(ages) for ages in place.followers().values()]
    async with get_client() as client:
        await client.set_flow_run_state(run, Cancelling())
    with pytest.raises(RunCancelled, match="scene street, first: "):
        await waiting
    assert states(place) == [JobState.CANCELED]
    assert place.followers() == {}


@pytest.mark.parametrize("how", ["silent", "cancelled", "alive", "suspended", "ended"])
async def test_the_clean_up_cancels_jobs_that_nobody_waits_for(
    place: LocalWorkspace, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.objects import FlowRun

    async with get_client() as client:
        run: FlowRun = await client.create_flow_run(clean_up)
    plan = tasks.stage.Plan(  # as `first` makes it
        scene="street", capture_version="1", options=FirstOptions(seconds=0.1 if how == "ended" else 1000),
        asset_name="street-first", kind="dataset", output="output", inputs={"input": capture(place)},
    )  # fmt: skip
    job = plan.spec(1)
    alive = how in ("alive", "suspended")
    follower = str(uuid4() if alive else run.id)
    place.follow(job.name, follower)
    place.submit(job)
    if how == "ended":
        await async_until(lambda: states(place) == [JobState.COMPLETED])
    if how in ("silent", "suspended", "ended"):
        an_hour_ago = time.time() - 3600
        os.utime(place.folder / "followers" / job.name / follower, (an_hour_ago, an_hour_ago))
    if how == "cancelled":
        async with get_client() as client:
            await client.set_flow_run_state(run.id, Cancelled(), force=True)
    await place.save("small", overwrite=True)
    looked = LocalWorkspace.followers

    def look(place: LocalWorkspace, name: str | None = None) -> dict[str, dict[str, float]]:
        found = looked(place, name)
        if how == "suspended":  # the run goes on a moment after the clean-up has begun
            place.follow(job.name, follower)
        return found

    monkeypatch.setattr(LocalWorkspace, "followers", look)
    await clean_up(["rebel-nerf-local-workspace/small", "rebel-nerf-local-workspace/gone"])
    if alive:
        assert states(place)[0] in (JobState.QUEUED, JobState.RUNNING)
        assert list(place.followers()) == [job.name]
        place.cancel(job.name)
    else:
        assert states(place) == [JobState.COMPLETED if how == "ended" else JobState.CANCELED]
        assert place.followers() == {}
