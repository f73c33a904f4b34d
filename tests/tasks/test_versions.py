"""Models of a scene's versions, side by side, with training jobs that are real processes but know their figures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

import tasks
from blocks import Asset, LocalWorkspace
from jobs.errors import GateRefused
from jobs.options import TrainOptions
from jobs.web.quality import Version
from tasks.wanted import current_run
from tests.faults.chain import started
from tests.tasks.test_choice import put
from tests.trainer import trainer, visit

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return trainer(tmp_path)


async def train(
    workspace: LocalWorkspace,
    capture: int,
    psnr: float,
    most: float | None = None,
    steps: int = 5,
    refresh: bool = False,
    earlier: Asset | None = None,
) -> list[Version]:
    """Train on a capture in a flow that shows the versions."""
    options = TrainOptions(max_num_iterations=steps, start="earlier" if earlier else "fresh")

    @flow(name="train")
    async def run() -> list[Version]:
        dataset = visit(workspace, capture, psnr)
        gate = None if most is None else tasks.psnr_gate(most, options)
        model: Asset = await tasks.train.with_options(refresh=refresh)(workspace, dataset, options, gate, earlier)
        return (await tasks.show_quality(workspace, "street", model)).versions

    versions: list[Version] = await run()
    return versions


async def shown() -> Artifact:
    """Return what the UI shows of the newest run."""
    async with get_client() as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=["street-quality"]))
        found = await client.read_artifacts(artifact_filter=chosen)
    return max(found, key=lambda artifact: artifact.created or 0)


async def test_a_worse_model_is_marked_and_refused_on_request(workspace: LocalWorkspace) -> None:
    [only] = await train(workspace, 1, 24.0, most=1.0)
    assert (only.psnr, only.image_size, only.steps, only.seconds) == (24.0, 96, 5, None)
    assert "dB below" not in str((await shown()).data)

    with pytest.raises(GateRefused, match=r"scene street: .*22\.5 dB.* 1\.50 dB .* 1-.* 1 dB"):
        await train(workspace, 2, 22.5, most=1.0)
    assert len(workspace.assets("street-nerf")) == 1
    await train(workspace, 2, 22.5, most=1.0, steps=6)  # of other options: there is nothing to compare it with
    assert len(started(workspace)) == 3

    versions = await train(workspace, 2, 22.5)  # what was trained is taken, and nothing is trained again
    assert len(started(workspace)) == 3
    assert [(version.capture, version.psnr, version.steps) for version in versions] == [
        *((1, 24.0, 5), (2, 22.5, 6), (2, 22.5, 5)),
    ]
    artifact = await shown()
    assert "PSNR is 1.5 dB below that of 1-" in str(artifact.description)
    assert "**PSNR is 1.5 dB below that of 1-" in str(artifact.data)
    assert "data:image/svg+xml;base64," in str(artifact.data)
    assert "dB below" not in str((await train(workspace, 3, 21.6)) and (await shown()).data)


async def test_a_refused_model_is_trained_again_only_by_a_refresh(workspace: LocalWorkspace) -> None:
    await train(workspace, 1, 24.0)
    for refresh, trained in ((False, 2), (False, 2), (True, 3), (False, 3)):
        with pytest.raises(GateRefused, match="refresh"):
            await train(workspace, 2, 22.5, most=1.0, refresh=refresh)
        assert len(started(workspace)) == trained
    versions = await train(workspace, 2, 22.5, refresh=True)  # the last that was refused, without a gate
    assert len(started(workspace)) == 3
    assert [version.version[-2:] == "-2" for version in versions] == [False, True]

    # A run that dies after its job has ended but before the gate continues with that job: nobody has seen the refusal.
    @flow(name="dies")
    async def dies() -> None:
        run = str(current_run())
        dataset = visit(workspace, 3, 21.0)
        options = TrainOptions(max_num_iterations=5)
        plan = tasks.train.plan(dataset, options, tasks.psnr_gate(1.0, options))
        job = plan.spec(1)
        workspace.follow(job.name, run)
        workspace.submit(job)
        while (status := workspace.find_job(job.name)) and not status.state.ended:
            await asyncio.sleep(0.1)
        training = tasks.train.with_options(refresh=True)
        await training(workspace, dataset, options, tasks.psnr_gate(1.0, options))

    with pytest.raises(GateRefused, match=r"21\.0 dB"):
        await dies()
    assert len(started(workspace)) == 4


async def test_a_revisit_is_compared_with_earlier_models_whatever_they_started_from(workspace: LocalWorkspace) -> None:
    await train(workspace, 1, 24.0)
    [first] = workspace.assets("street-nerf")
    with pytest.raises(GateRefused, match=r"scene street: .*23\.5 dB.* 0\.50 dB .* 1-"):
        await train(workspace, 2, 23.5, most=0.3, earlier=first)
    assert len(await train(workspace, 2, 23.8, most=0.3, earlier=first)) == 2
    [_, second] = sorted(workspace.assets("street-nerf"), key=lambda model: model.created)
    with pytest.raises(GateRefused, match=r"23\.4 dB.* 0\.40 dB .* 2-"):
        await train(workspace, 3, 23.4, most=0.3)  # from the beginning, after a revisit
    assert len(await train(workspace, 3, 23.6, most=0.3, earlier=second)) == 3


async def test_a_later_version_that_is_much_better_is_named(workspace: LocalWorkspace) -> None:
    for capture, psnr in ((1, 24.0), (2, 25.9), (3, 27.5)):
        put(workspace, "street-nerf", f"{capture}-0a", capture, capture_version=capture, psnr=psnr)

    @flow(name="compare")
    async def compare() -> list[tuple[int, int | None]]:
        compared = [await tasks.show_quality(workspace, "street", model) for model in workspace.assets("street-nerf")]
        return [(len(each.versions), each.better.capture if each.better else None) for each in compared]

    assert await compare() == [(1, 3), (2, None), (3, None)]


async def test_the_cost_of_a_version(workspace: LocalWorkspace) -> None:
    await train(workspace, 1, 24.0)
    [model] = workspace.assets("street-nerf")
    seconds = float(model.tags["job_seconds"])
    assert seconds >= 1 and model.tags["tier"] == "gpu"
    assert workspace.cost(model) == pytest.approx(seconds)
    free = workspace.model_copy(update={"gpu_price_per_hour": None})
    assert free.cost(model) is None
    by_hand = model.model_copy(update={"tags": {}})
    assert workspace.cost(by_hand) is None
