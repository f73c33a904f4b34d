"""The deployments as the README has them: a server, a worker, `prefect deployment run nerf/scene`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Cancelling

from blocks import JobState, LocalWorkspace
from tests.browser import Browser, browser
from tests.service import Service

__all__ = ["browser"]

pytestmark = pytest.mark.slow

SMALL = ["-p", "profile=preview", "-p", 'render={"width": 64, "height": 36, "seconds": 0.25}']


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    try:
        service.start_server()
        service.deploy()
        service.start_worker()
        yield service
    finally:
        service.close()


@pytest_asyncio.fixture(loop_scope="function")
async def client(service: Service) -> AsyncIterator[PrefectClient]:
    async with service.client() as client:
        yield client


async def test_from_photos_to_a_video_and_another(
    service: Service, client: PrefectClient, street: Path, tmp_path: Path, browser: Browser
) -> None:
    scene = ["-p", "scene=street", *SMALL]
    photos = ["-p", f"images={street / 'photos'}", "-p", 'train={"max_num_iterations": 20}']
    service.run("prefect", "deployment", "run", "nerf/scene", *scene, *photos, "--watch")
    home = LocalWorkspace(root=tmp_path / "rebel-nerf")
    [video] = home.assets("street-video")
    assert (Path(video.uri) / "video.mp4").stat().st_size > 0
    orbit = 'render={"width": 64, "height": 36, "seconds": 0.25, "camera_path": "orbit"}'
    service.run("prefect", "deployment", "run", "render/scene", *scene, "-p", "model_version=1", "-p", orbit, "--watch")
    assert [asset.tags["path"] for asset in home.assets("street-video")] == ["tour", "orbit"]

    # What a person sees of the run in Prefect's UI.
    pages = {artifact.key: artifact for artifact in await client.read_artifacts()}
    ui = service.url.removesuffix("/api")
    browser.resize(1400, 900)
    browser.get(f"{ui}/runs/flow-run/{pages['street-page'].flow_run_id}")
    field = browser.until(lambda: browser.find_elements("css selector", "input[type=password]"))[0]
    field.send_keys(service.password + "\n")
    text = "return document.body.innerText"
    browser.until(lambda: browser.find_elements("id", "artifacts"))[0].click()
    browser.until(
        lambda: all(f"street-{name}" in browser.execute_script(text) for name in ("page", "quality", "summary"))
    )
    browser.get(f"{ui}/artifacts/artifact/{pages['street-page'].id}")
    widths = "return [...document.images].filter(i => i.src.startsWith('data:')).map(i => i.naturalWidth)"
    assert browser.until(lambda: browser.execute_script(widths)) == [460]
    assert "rebel-nerf page --scene street" in browser.execute_script(text)


async def test_a_run_that_is_cancelled_while_its_worker_is_dead(
    service: Service, client: PrefectClient, street: Path, tmp_path: Path
) -> None:
    deployment = await client.read_deployment_by_name("nerf/scene")
    parameters: dict[str, Any] = {"scene": "street", "images": str(street / "photos"), "profile": "preview"}
    parameters["train"] = {"max_num_iterations": 100_000}
    run: FlowRun = await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    home = LocalWorkspace(root=tmp_path / "rebel-nerf")

    def training() -> list[JobState]:
        found = [home.find_job(folder.name) for folder in (tmp_path / "rebel-nerf" / "jobs").glob("street-train-*")]
        return [status.state for status in found if status]

    deadline = time.monotonic() + 240
    while training() != [JobState.RUNNING]:
        assert time.monotonic() < deadline, service.log("worker")
        time.sleep(0.5)
    service.end("worker", signal.SIGKILL)
    await client.set_flow_run_state(run.id, Cancelling())
    service.start_worker()  # clean-up/jobs is started by the event; it only wants a worker
    start = time.monotonic()
    while training() != [JobState.CANCELED]:
        assert time.monotonic() < start + 60, service.log("worker")
        time.sleep(0.5)


async def test_an_announced_upload_is_processed_at_once_and_others_on_schedule(
    service: Service, client: PrefectClient, tmp_path: Path
) -> None:
    deployment = await client.read_deployment_by_name("reprocess/captures")
    [schedule] = deployment.schedules
    assert schedule.active and schedule.schedule == CronSchedule(cron="*/15 * * * *", timezone="UTC")
    folder = tmp_path / "rebel-nerf" / "captures" / "noise"
    folder.mkdir(parents=True)
    for index in range(8):
        Image.effect_noise((64, 48), 100).save(folder / f"{index}.jpg")
    resource = {"prefect.resource.id": "rebel-nerf.capture.noise", "scene": "noise", "workspace": "local"}
    service.run("prefect", "event", "emit", "rebel-nerf.capture.uploaded", "--resource", json.dumps(resource))
    scene = await client.read_deployment_by_name("nerf/scene")
    deadline = time.monotonic() + 240
    while True:
        runs = [run for run in await client.read_flow_runs() if run.deployment_id == scene.id]
        if runs and runs[0].state and runs[0].state.is_final():
            break
        assert time.monotonic() < deadline, service.log("worker")
        time.sleep(0.5)
    [run] = runs
    assert (run.parameters["scene"], run.parameters["workspace"], run.parameters["version"]) == ("noise", "local", 1)
    assert run.state and "noise" in (run.state.message or ""), "noise is no place: the dataset is refused"
    parameters = next(run.parameters for run in await client.read_flow_runs() if run.deployment_id == deployment.id)
    assert parameters["scenes"] == ["noise"] and parameters["settle_minutes"] == 0 and parameters["enabled"]
