from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from selenium.webdriver import ActionChains
from websockets.sync.client import connect

import tasks
from blocks import Asset, LocalWorkspace, PageAddress
from commands.path import SavePath, save
from commands.shell.run import parse_command
from jobs import camera_path
from jobs.options import RenderOptions, TrainOptions
from jobs.path import trajectory
from tasks import wait_for_page
from tasks.stage import Plan
from tasks.view import ServedPage
from tests.browser import Browser, browser
from tests.faults.chain import FirstOptions, chain_workspace
from tests.processes import free_port

__all__ = ["browser"]


@pytest.fixture
def home(tiny_dataset: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """Return a workspace with a registered model and its dataset."""
    for name, source in (("street-images-to-nerf-dataset", tiny_dataset), ("street-nerf", tiny_model)):
        folder = tmp_path / "assets" / name / "1-c0ffee00"
        shutil.copytree(source, folder)
        about = {"name": name, "version": folder.name, "kind": "model", "tags": {}, "checksums": {}}
        (folder / "asset.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))
    return tmp_path


def view(home: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> subprocess.Popen[str]:
    monkeypatch.setenv("REBEL_NERF_HOME", str(home))
    command = [sys.executable, "-m", "commands.view", "--scene", "street", "--no-browser", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_registered_model_can_be_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with view(home, monkeypatch, "--port", str(port)) as viewer:
        try:
            assert viewer.stdout
            assert "street-nerf:1-c0ffee00" in viewer.stdout.readline()
            assert f"Look at http://localhost:{port}" in viewer.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert b"<html" in answer.read()
            with connect(f"ws://127.0.0.1:{port}", max_size=None) as tab:
                assert tab.recv(timeout=60)
            with view(home, monkeypatch, "--port", str(port)) as other:
                assert other.stdout and f"InvalidInput: Port {port} is in use" in other.stdout.read()
            assert other.returncode == 1
        finally:
            viewer.terminate()
    with pytest.raises(OSError):  # its process has ended
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")


def test_a_model_that_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with view(home, monkeypatch, "--model-version", "7") as viewer:
        assert viewer.stdout and "no model 7 of street-nerf" in viewer.stdout.read()
    assert viewer.returncode == 1


def test_a_model_whose_dataset_is_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = home / "assets/street-nerf/1-c0ffee00/asset.json"
    dataset = {"dataset": "street-images-to-nerf-dataset:1-c0ffee00"}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "tags": dataset}))
    shutil.rmtree(home / "assets/street-images-to-nerf-dataset")
    with view(home, monkeypatch) as viewer:
        assert viewer.stdout and "no version 1-c0ffee00 of street-images-to-nerf-dataset" in viewer.stdout.read()
    assert viewer.returncode == 1


@pytest.mark.slow
def test_a_path_drawn_in_a_browser_is_downloaded_and_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser, tmp_path: Path
) -> None:
    def registered() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in (home / "assets").rglob("*")}

    before = registered()
    port, scratch = free_port(), tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with view(home, monkeypatch, "--port", str(port)) as viewer:
        try:
            assert viewer.stdout and any("Look at" in line for line in viewer.stdout)
            browser.resize(1000, 900)
            browser.download_to(tmp_path / "downloads")
            browser.get(f"http://localhost:{port}")
            browser.until(lambda: "Render" in browser.text())
            canvas = browser.find_element("tag name", "canvas")
            browser.until(lambda: _commonest(browser, tmp_path / "screen.png") < 0.5)  # else it is the empty ground
            shown = browser.text()
            assert "Connected" in shown and "Resolution: 0" not in shown
            assert "Step: 30" in shown or "Step: 29" in shown, "as long as the model was trained"
            assert "Train Speed" not in shown and "Train Util" not in shown
            assert not [url for url in browser.requested() if "nerf.studio" in url], "a logo from the network"
            assert "Training" not in shown and "Show Train Cams" in shown and "Hide Train Cams" not in shown
            browser.click("Render")
            browser.click("Add Keyframe")
            # A busy viewer adds it late, and then from where the camera is by that time.
            browser.until(lambda: _keyframes(browser, scratch) == 1)
            browser.until(lambda: "Add at least two keyframes" in browser.text())
            ActionChains(browser).drag_and_drop_by_offset(canvas, 120, 30).perform()
            browser.click("Add Keyframe")
            browser.until(lambda: "\n59\n" in browser.text())  # the last frame of a way between two keyframes
            browser.click("Generate Command")
            file = tmp_path / "downloads/camera_path.json"
            browser.until(file.is_file)
            browser.until(lambda: "camera_path.json is downloaded" in browser.text())
            assert "ns-render" not in browser.text()
        finally:
            viewer.terminate()
    assert registered() == before, "a registered asset was written to"

    path = camera_path.read(file)
    dataset = "street-images-to-nerf-dataset:1-c0ffee00"
    assert path.rebel_nerf and path.rebel_nerf.model_dump() == {"model": "street-nerf:1-c0ffee00", "frame": dataset}
    first, last = (np.array(frame.camera_to_world) for frame in (path.camera_path[0], path.camera_path[-1]))
    assert np.abs(first - last).max() > 0.01, "the camera was not moved"
    places = [home / f"assets/street-{name}/1-c0ffee00" for name in ("images-to-nerf-dataset", "nerf")]
    tour = trajectory.generate("tour", places[0], places[1], RenderOptions().with_profile("preview"))
    np.testing.assert_allclose(first, tour.camera_path[0].camera_to_world, atol=0.01)
    monkeypatch.setattr("tasks.shot.TRAJECTORIES", tmp_path / "trajectories")
    save(parse_command(SavePath, ["--scene", "street", str(file)]))
    assert camera_path.read(tmp_path / "trajectories/street.json") == path


def _keyframes(browser: Browser, scratch: Path) -> int:
    """Return the number of keyframes that the viewer writes to its file on request."""

    def written() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in scratch.rglob("camera_paths/*.json")}

    def count() -> list[int]:
        with suppress(ValueError):  # it is just being written
            return [len(json.loads(file.read_text())["keyframes"]) for file in written()]
        return []

    before = written()
    browser.click("Generate Command")  # once: the viewer shows no more than a few notifications
    browser.until(lambda: written() != before)
    return max(browser.until(count))


@flow
async def training_of(home: Path, options: TrainOptions) -> Asset:
    """Train the registered dataset of a scene, as its flow does."""
    workspace = LocalWorkspace(root=home)
    dataset = await asyncio.to_thread(workspace.find_asset, "street-images-to-nerf-dataset", "1-c0ffee00")
    assert dataset
    known = {"scene": "street", "capture_version": "1", "fingerprint": "c0ffee"}
    made: Asset = await tasks.train(workspace, dataset.model_copy(update={"tags": known}), options)
    return made


async def link_of(key: str) -> str:
    """Wait for the link in an artifact of the flow run, and return it."""
    of_key = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    while True:
        async with get_client() as client:
            for artifact in await client.read_artifacts(artifact_filter=of_key):
                if found := re.search(r"\((http://localhost:\d+)\)", str(artifact.data)):
                    return found[1]
        await asyncio.sleep(0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
async def test_the_flow_runs_link_shows_a_training_which_ends_on_its_own(
    home: Path, browser: Browser, tmp_path: Path
) -> None:
    steps = 600
    options = TrainOptions(max_num_iterations=steps, model_size="small", max_image_size=96, rays_per_batch=256)
    run = asyncio.create_task(training_of(home, options))

    def look(link: str) -> None:
        browser.resize(1000, 900)
        browser.get(link)
        browser.until(lambda: "Connected" in browser.text(), 300)
        browser.until(lambda: _commonest(browser, tmp_path / "screen.png") < 0.5, 300)  # else it is the empty ground
        assert "Resolution: 0" not in browser.text() and "Pause Training" not in browser.text()
        with Image.open(tmp_path / "screen.png") as image:
            left = np.asarray(image.convert("RGB"))[:, : image.width // 2]
        assert 60 < np.median(left) < 220, "the street is neither dark nor white, as the empty ground is"
        browser.click("Render")
        browser.until(lambda: "Generate Command" in browser.text())

    link = asyncio.create_task(link_of("street-viewer"))
    await asyncio.wait([run, link], return_when=asyncio.FIRST_COMPLETED)
    assert link.done(), "it ended before anybody looked on"
    await asyncio.to_thread(look, link.result())
    assert not run.done(), "it ended before anybody looked on"
    model = await run  # the tab is open
    content = json.loads((LocalWorkspace(root=home).fetch(model) / "model.json").read_text())
    assert content["steps"] == steps and 100 < len(content["curve"]["loss"]) <= 200
    browser.until(lambda: "Connected" not in browser.text())
    async with get_client() as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=["street-viewer"]))
        [artifact] = await client.read_artifacts(artifact_filter=chosen)
    assert "Closed" in str(artifact.description) and "rebel-nerf view --scene street" in str(artifact.data)
    assert link.result() not in str(artifact.data)


def _commonest(browser: Browser, file: Path) -> float:
    """Return the share of the commonest colour in the left half of the screen, where the scene is."""
    browser.photograph(file)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))[:, : image.width // 2].reshape(-1, 3)
    return float(np.unique(pixels, axis=0, return_counts=True)[1].max()) / len(pixels)


def training(workspace: LocalWorkspace, scene: str, stage: str = "train") -> str:
    """Submit a job of the scene that runs until it is cancelled."""
    plan = Plan(scene, "1", FirstOptions(seconds=1000), f"{scene}-nerf", "model", "output", {})
    job = plan.spec(1).model_copy(update={"family": f"{scene}-{stage}-1-c0ffee00"})
    workspace.follow(job.name, "somebody")
    workspace.submit(job)
    return job.name


def tell(workspace: LocalWorkspace, job: str, line: str) -> None:
    """Let a job print a line."""
    log = workspace.folder / "jobs" / job / "std_log.txt"
    while not log.exists():
        pass
    with log.open("a") as stream:
        stream.write(f"plain\n{line}\n")


def page(port: int) -> str:
    return json.dumps({"stage": "train", "page": "viewer", "port": port})


def test_a_training_that_runs_is_found(tmp_path: Path) -> None:
    workspace = chain_workspace(tmp_path / "home")
    said: list[str] = []

    def found() -> ServedPage | None:
        return wait_for_page(workspace, "street", said.append)

    assert found() is None
    # Names that begin alike, and jobs of other stages.
    others = [training(workspace, scene) for scene in ("street-train", "street-train-x", "street-train-1-c0ffee00")]
    others += [training(workspace, "street-train", "prepare"), training(workspace, "street", "render")]
    for job in others:
        tell(workspace, job, page(7009))
    try:
        assert found() is None and not said
        job = training(workspace, "street")
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(found)
            while not said:
                assert not waiting.done()
            assert re.match(rf"{job} is (starting|queued): waiting for its viewer", said[0])
            tell(workspace, job, page(7010))
            assert waiting.result(60) == ServedPage(job, 7010)
        assert workspace.reach(job, 7010, 7011) == PageAddress(link="http://localhost:7010")
        workspace.cancel(job)
        assert found() is None
    finally:
        for job in workspace.followers():
            workspace.cancel(job)


def test_a_training_without_a_viewer_is_not_waited_for(tmp_path: Path) -> None:
    workspace = chain_workspace(tmp_path / "home")
    job = training(workspace, "street")
    try:
        tell(workspace, job, '{"stage": "train", "step": 20, "total": 300, "metrics": {"loss": 0.5}}')
        assert wait_for_page(workspace, "street", print) is None
    finally:
        workspace.cancel(job)


@pytest.mark.slow
def test_a_viewer_that_dies_is_no_success(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with view(home, monkeypatch, "--port", str(port)) as viewer:
        assert viewer.stdout and any("Look at" in line for line in viewer.stdout)
        [serving] = map(int, Path(f"/proc/{viewer.pid}/task/{viewer.pid}/children").read_text().split())
        os.killpg(serving, signal.SIGKILL)
        assert "JobFailed: the viewer of street-nerf:1-c0ffee00 ended with -9" in viewer.stdout.read()
    assert viewer.returncode == 1
