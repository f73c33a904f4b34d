"""The deployments as the README has them: a server, a worker, `prefect deployment run nerf/scene`."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from PIL import Image
from prefect import State
from prefect.automations import AutomationCore, EventTrigger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from prefect.states import Cancelling, Crashed, Running, Suspended
from selenium.webdriver.common.keys import Keys

from blocks import JobState, LocalWorkspace
from tasks.sign_in import link_settings
from tests.browser import Browser, browser
from tests.service import Service
from tests.waiting import async_until

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

    # What a person sees in Prefect's UI: the run, and the form for the next one.
    pages = {artifact.key: artifact for artifact in await client.read_artifacts()}
    with temporary_settings({PREFECT_API_URL: service.url}):
        ui = link_settings()[PREFECT_UI_URL]  # which links have: the browser has not signed in yet
    browser.resize(1400, 900)
    browser.get(f"{ui}/runs/flow-run/{pages['street-page'].flow_run_id}")
    field = browser.until(lambda: browser.find_elements("css selector", "input[type=password]"))[0]
    field.send_keys(service.password + "\n")
    browser.until(lambda: browser.find_elements("xpath", "//*[@role='tab' and normalize-space()='Artifacts']"))[
        0
    ].click()
    browser.until(lambda: all(f"street-{name}" in browser.text() for name in ("page", "quality", "summary")))
    browser.get(f"{ui}/artifacts/artifact/{pages['street-page'].id}")
    widths = "return [...document.images].filter(i => i.src.startsWith('data:')).map(i => i.naturalWidth)"
    assert browser.until(lambda: browser.execute_script(widths)) == [460]
    browser.until(lambda: "rebel-nerf page --scene street" in browser.text())
    form = (await client.read_deployment_by_name("nerf/scene")).id
    browser.get(f"{ui}/deployments/deployment/{form}/run")
    scene_field, images_field = browser.until(lambda: browser.find_elements("css selector", "textarea"))[:2]
    assert 5 < browser.text().count("(Optional)") < 20, "the groups of options are folded"
    scene_field.send_keys("Quay")
    browser.click("Submit")
    browser.until(lambda: "'1 to 63 lower-case letters, digits and hyphens" in browser.text())
    scene_field.send_keys(Keys.CONTROL, "a", Keys.NULL, "quay")
    images_field.send_keys(str(street / "photos"))
    browser.until(lambda: "Error creating flow run" not in browser.text())  # it covers the button for some seconds
    browser.click("Submit")
    browser.until(lambda: not browser.current_url.endswith("/run"))
    parameters = [run.parameters for run in await client.read_flow_runs() if run.parameters.get("scene") == "quay"]
    assert [each["images"] for each in parameters] == [str(street / "photos")]


async def test_a_run_that_is_suspended_and_resumed_and_cancelled_while_its_worker_is_dead(
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

    def until(states: list[JobState], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while sorted(training()) != sorted(states):
            assert time.monotonic() < deadline, (training(), service.log("worker"))
            time.sleep(0.5)

    until([JobState.RUNNING], 240)
    await client.set_flow_run_state(run.id, Suspended(timeout_seconds=3600))  # as the UI's button does
    until([JobState.CANCELED], 60)
    await async_until(lambda: "is suspended" in service.log("worker"), otherwise=lambda: service.log("worker"))
    left = await client.read_flow_run(run.id)
    assert left.state_name == "Suspended"
    assert "ERROR" not in service.log("worker"), "what a person asked for is no error"
    await client.resume_flow_run(run.id)
    until([JobState.CANCELED, JobState.RUNNING], 120)

    service.end("worker", signal.SIGKILL)
    await client.set_flow_run_state(run.id, Cancelling())
    service.start_worker()  # clean-up/jobs is started by the event; it only wants a worker
    until([JobState.CANCELED, JobState.CANCELED], 60)


async def test_the_jobs_of_a_crashed_run_are_looked_after_unless_it_goes_on(
    service: Service, client: PrefectClient
) -> None:
    [shipped] = await client.read_automations_by_name("rebel-nerf: clean up half an hour after a run crashed")
    assert isinstance(shipped.trigger, EventTrigger) and shipped.trigger.within == timedelta(minutes=31)
    await client.delete_automation(shipped.id)
    trigger = shipped.trigger.model_copy(
        update={"id": uuid4(), "within": timedelta(seconds=12)}
    )  # as long as a test can wait
    await client.create_automation(AutomationCore(name="sooner", trigger=trigger, actions=shipped.actions))
    scene = await client.read_deployment_by_name("nerf/scene")
    cleaning = await client.read_deployment_by_name("clean-up/jobs")
    service.end("worker")  # it would begin the runs

    async def crash(goes_on: bool) -> None:
        run = await client.create_flow_run_from_deployment(scene.id, parameters={"scene": "street"})
        states: list[State[Any]] = [Running(), Crashed(), *([Running()] if goes_on else [])]
        for state in states:
            await client.set_flow_run_state(run.id, state, force=True)

    async def cleanings() -> int:
        runs = await client.read_flow_runs()
        return sum(run.deployment_id == cleaning.id and run.auto_scheduled is False for run in runs)

    await crash(goes_on=True)
    await asyncio.sleep(25)
    assert await cleanings() == 0
    await crash(goes_on=False)
    deadline = time.monotonic() + 60
    while await cleanings() != 1:
        assert time.monotonic() < deadline, service.log("server")
        await asyncio.sleep(0.5)


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
