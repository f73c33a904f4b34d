"""The whole flow on Azure ML: the emulator's ARM, real blob storage, the real SDKs, real jobs on small photos."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import av
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import tasks
from blocks import Asset
from blocks.azure import AzureMLWorkspace
from flows.nerf import nerf
from jobs.base_options import Options
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput, JobFailed
from jobs.options import PrepareOptions, RenderOptions, TrainOptions
from jobs.report import Progress, parse
from tasks.stage import Plan, Stage
from tests import job_environment
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack
from tests.runs import outcome

__all__ = ["stack", "workspace"]

pytestmark = pytest.mark.usefixtures("prefect_server")

SCENE = "row"
STAGES = ("prepare", "train", "render", "page")
PREPARE = PrepareOptions(feature_image_size=320, max_features=1000)
TRAIN = TrainOptions(max_num_iterations=20, model_size="small", max_image_size=96, rays_per_batch=256)
RENDER = RenderOptions(width=64, height=36, seconds=0.25)


@pytest.fixture
async def saved(workspace: AzureMLWorkspace, monkeypatch: pytest.MonkeyPatch) -> AzureMLWorkspace:
    """Save the workspace as a block that polls jobs more often than Azure would allow."""
    await workspace.credential.save("azure", overwrite=True)
    await workspace.save("azure", overwrite=True)
    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", lambda self, waited: 0.5)
    return workspace


async def run(**given: Any) -> tuple[Asset, dict[str, str]]:
    """Run the flow, and return its video and the final state of each of its tasks from the server."""
    common = {"scene": SCENE, "profile": "preview", "workspace": "rebel-nerf-azure-ml/azure", "render": RENDER}
    return await outcome(nerf, **{**common, "prepare": PREPARE, "train": TRAIN, **given})


def jobs(stack: AzureStack, stage: str = "") -> list[str]:
    return [name for name in stack.jobs if name.startswith(f"{SCENE}-{stage}")]


async def test_from_photos_to_a_video_without_repeating_work(
    stack: AzureStack, saved: AzureMLWorkspace, street: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack.ssh_at("20.1.2.3", 50000)
    with stack.faults.add("throttle", "GET .*/jobs/", times=3), stack.faults.add("storage_busy", times=3):
        video, states = await run(images=street / "photos")
    assert states == {"capture": "Completed", **dict.fromkeys(STAGES, "Completed")}
    assert [stack.jobs[name].status for name in jobs(stack)] == ["Completed"] * 4
    assert len(saved.client.data.get(SCENE, "1").tags["content"]) == 64
    [model] = saved.assets(f"{SCENE}-nerf")
    assert model.kind == "model" and model.tags["scene"] == SCENE and model.tags["job"] in stack.jobs
    assert (model.number, list(stack.assets("models")[model.name])) == (1, ["1"])
    assert str(tasks.find_registered_model(saved, SCENE, 1)) == str(model) == video.tags["model"]
    assert float(model.tags["job_seconds"]) > 0
    job = saved.client.jobs.get(model.tags["job"])
    assert job.experiment_name == SCENE and f"Scene **{SCENE}**" in job.description
    assert f"/runs/flow-run/{model.tags['flow_run']})" in job.description
    curve = stack.jobs[job.name].metrics
    assert {"loss", "psnr", "steps/s", "result/psnr", "result/ssim"} <= {metric["key"] for metric in curve}
    assert [metric["step"] for metric in curve if metric["key"] == "loss"][-1] == 20
    with av.open(str(saved.fetch(video) / "video.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6

    async with get_client() as client:
        [way, page] = [
            (await client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))))[0]
            for key in (f"{SCENE}-viewer", f"{SCENE}-train-job")
        ]
    found = re.search(r"ssh -N -L (\d+):localhost:\1 azureuser@20.1.2.3 -p 50000", caplog.text)
    assert found and f"http://localhost:{found[1]}" in caplog.text
    assert "ssh" not in str(way.data) and f"rebel-nerf view --scene {SCENE}" in str(way.data), "training has ended"
    assert f"(https://ml.azure.com/runs/{model.tags['job']}?" in str(page.data)

    again, states = await run(images=street / "photos")
    assert again == video
    assert states == {"capture": "Completed", **dict.fromkeys(STAGES, "Cached")}
    assert len(jobs(stack)) == 4


async def test_faults_of_the_workspace_are_reported_before_a_job_starts(
    stack: AzureStack, saved: AzureMLWorkspace, street: Path
) -> None:
    # A new block, because a copy of a saved one keeps its ID and would replace it.
    wrong = AzureMLWorkspace(**{**dict(saved), "gpu_cluster": "nowhere"})
    await wrong.save("no-cluster", overwrite=True)
    before = len(stack.jobs)
    with pytest.raises(InvalidInput, match="gpu_cluster: .*'nowhere'"):
        await run(images=street / "photos", workspace="rebel-nerf-azure-ml/no-cluster")
    assert len(stack.jobs) == before


class NothingOptions(Options):
    """Options of a stage that has no program."""

    STAGE: ClassVar[str] = "nothing"


@Stage
def nothing(capture: Asset) -> Plan:
    """Plan a job that fails without a report of its own."""
    return Plan(capture.name, capture.version, NothingOptions(), "well-none", "dataset", "none", {"images": capture})


async def test_a_failed_job_speaks_in_the_error_of_its_task(saved: AzureMLWorkspace, tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"a photo")
    capture = await asyncio.to_thread(saved.take_in, "well", {"0.jpg": tmp_path / "0.jpg"}, {})

    @flow(name="in-vain")
    async def in_vain() -> Asset:
        made: Asset = await nothing(saved, capture)
        return made

    with pytest.raises(JobFailed) as failed:
        await in_vain()
    said = str(failed.value)
    assert "scene well, nothing: job well-nothing-1-" in said
    assert "UserError: " in said and "exited with status code 1" in said, "the service's words"
    _, _, log = said.partition("The last lines of its log:")
    assert "No module named jobs.nothing" in log
    assert "https://ml.azure.com/runs/well-nothing-1-" in said


async def test_why_a_job_waits_is_said_and_nobody_waiting_ends_it(
    stack: AzureStack,
    saved: AzureMLWorkspace,
    street: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("blocks.azure.status._LONG_QUEUED_SECONDS", 0.0)
    with stack.faults.add("quota", "wall-prepare-.*"):
        waiting = asyncio.create_task(run(scene="wall", images=street / "photos"))
        while "gets no node" not in caplog.text:
            assert not waiting.done()
            await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    [job] = [name for name in stack.jobs if name.startswith("wall-")]
    assert stack.wait(job).status == "Canceled"


@pytest.mark.slow
async def test_training_resumes_where_a_lost_node_left_it(
    stack: AzureStack, saved: AzureMLWorkspace, street: Path
) -> None:
    options = TrainOptions(max_num_iterations=2000, steps_per_save=10)
    train = asyncio.create_task(run(images=street / "photos", train=options))
    while not (names := jobs(stack, "train")) or not checkpoints(saved, names[0]):
        assert not train.done()
        await asyncio.sleep(0.5)
    with stack.faults.add("preempt", names[0], times=1) as fault:
        while not fault.hits:
            await asyncio.sleep(0.2)
    log = stack.folder / "jobs" / stack.workspace / names[0] / "2" / "std_log.txt"
    while not log.exists() or '"total": 2000' not in (text := log.read_text()):
        assert not train.done()
        await asyncio.sleep(0.5)
    reports = [report for line in text.splitlines() if isinstance(report := parse(line), Progress)]
    first = next(report for report in reports if report.total == 2000)
    assert first.step >= 10
    train.cancel()
    with pytest.raises(asyncio.CancelledError):
        await train
    assert stack.wait(names[0]).status == "Canceled"


def checkpoints(workspace: AzureMLWorkspace, job: str) -> bool:
    """Return whether a checkpoint is complete: its JSON file comes last."""
    folder = f"rebel-nerf/scratch/{job.rpartition('-')[0]}/checkpoints/"
    return any(blob.path.endswith(".json") for blob in workspace._connection.store().container.blobs(folder))


@pytest.mark.slow
async def test_a_later_dataset_is_brought_into_the_first_ones_frame(
    stack: AzureStack, saved: AzureMLWorkspace, street: Path
) -> None:
    @flow(name="prepared")
    async def prepared(factor: int) -> Asset:
        options = PREPARE.model_copy(update={"downscale_factor": factor})
        capture = await tasks.capture(saved, "lane", None, street / "photos", options)
        dataset = await tasks.prepare(saved, capture, options, await tasks.find_scene_frames(saved, "lane"))
        pose = json.loads(saved.read(dataset, "transforms.json"))["frames"][0]["transform_matrix"]
        content = {"render_width": 64, "render_height": 36, "seconds": 1}
        path = CameraPath.model_validate({**content, "camera_path": [{"camera_to_world": pose, "fov": 50}] * 2})
        shot = tasks.Shot(RenderOptions(camera_path="file"), path, chosen=True)
        assert await tasks.fit_shot(saved, "lane", dataset, shot) == shot
        return dataset

    first, later = await prepared(1), await prepared(2)
    assert first.tags["frame"] == "new" and "reference_1" not in first.tags
    assert later.tags["frame"] == later.tags["reference_1"] == str(first)


@pytest.mark.slow
@pytest.mark.timeout(3000)
async def test_the_whole_flow_in_the_job_environment(
    stack: AzureStack, saved: AzureMLWorkspace, street: Path, job_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "python", str(job_python))
    video, states = await run(scene="gate", images=street / "photos")
    assert states == {"capture": "Completed", **dict.fromkeys(STAGES, "Completed")}
    locked = dict(re.findall(r"^(.+)==(.+)$", job_environment.LOCK.read_text(), re.M))
    versions = json.loads(saved.read(video, "video.json"))["versions"]
    assert versions.pop("python").startswith("3.12.")
    assert versions["pycolmap-cuda12"] and versions == {name: locked[name] for name in versions}
