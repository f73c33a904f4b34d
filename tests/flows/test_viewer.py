from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from tasks import running_page
from tasks.stage import Plan
from tests.browser import Browser, browser
from tests.faults.chain import FirstOptions, workspace
from tests.processes import free_port

__all__ = ["browser"]


@pytest.fixture
def home(tiny_dataset: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """A workspace with a registered model and its dataset."""
    for name, source in (("street-images-to-nerf-dataset", tiny_dataset), ("street-nerf", tiny_model)):
        folder = tmp_path / "assets" / name / "1-c0ffee00"
        shutil.copytree(source, folder)
        about = {"name": name, "version": folder.name, "kind": "model", "tags": {}, "checksums": {}}
        (folder / "asset.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))
    return tmp_path


def view(home: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> subprocess.Popen[str]:
    monkeypatch.setenv("REBEL_NERF_HOME", str(home))
    command = [sys.executable, "-m", "flows.viewer", "--scene", "street", "--no-browser", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


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
                assert other.stdout and f"InvalidInput: port {port} is taken" in other.stdout.read()
            assert other.returncode == 1
        finally:
            viewer.terminate()
    with pytest.raises(OSError):  # nothing of it is left
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")


def test_a_model_that_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with view(home, monkeypatch, "--model-version", "7") as viewer:
        assert viewer.stdout and "no version 7 of street-nerf" in viewer.stdout.read()
    assert viewer.returncode == 1


def test_a_model_whose_dataset_is_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = home / "assets/street-nerf/1-c0ffee00/asset.json"
    dataset = {"dataset": "street-images-to-nerf-dataset:1-c0ffee00"}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "tags": dataset}))
    shutil.rmtree(home / "assets/street-images-to-nerf-dataset")
    with view(home, monkeypatch) as viewer:
        assert viewer.stdout and "no version 1-c0ffee00 of street-images-to-nerf-dataset" in viewer.stdout.read()
    assert viewer.returncode == 1


@pytest.mark.slow  # the picture is rendered again and again on two cores, and so is the browser's
def test_a_browser_shows_a_registered_model(
    home: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser, tmp_path: Path
) -> None:
    port = free_port()
    with view(home, monkeypatch, "--port", str(port)) as viewer:
        try:
            assert viewer.stdout and any("Look at" in line for line in viewer.stdout)
            browser.resize(1000, 700)
            browser.get(f"http://localhost:{port}")
            text = "return document.body.innerText"
            browser.until(lambda: "Render" in browser.execute_script(text))
            assert browser.find_elements("tag name", "canvas")
            browser.until(lambda: _commonest(browser, tmp_path / "screen.png") < 0.5)  # else it is the empty ground
            assert "Connected" in browser.execute_script(text) and "Resolution: 0" not in browser.execute_script(text)
        finally:
            viewer.terminate()


def _commonest(browser: Browser, file: Path) -> float:
    """The share of the commonest colour in the left half of the screen, where the scene is."""
    browser.photograph(file)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))[:, : image.width // 2].reshape(-1, 3)
    return float(np.unique(pixels, axis=0, return_counts=True)[1].max()) / len(pixels)


def test_a_training_that_runs_is_found(tmp_path: Path) -> None:
    place = workspace(tmp_path / "home")
    assert running_page(place, "street") is None
    options = FirstOptions(seconds=1000)
    plan = Plan("street", "1", options, "street-nerf", "model", "output", {})
    job = plan.spec(1, {}).model_copy(update={"family": "street-train-1-c0ffee00"})
    place.follow(job.name, "somebody")
    place.submit(job)
    try:
        log = place.folder / "jobs" / job.name / "std_log.txt"
        while not log.exists():
            pass
        with log.open("a") as stream:
            stream.write('plain\n{"stage": "train", "page": "viewer", "port": 7009}\n')
        found = None
        while not found:
            found = running_page(place, "street")
        assert (found[0], place.reach(job.name, found[1].port)) == (job.name, "http://localhost:7009")
    finally:
        place.cancel(job.name)
    assert running_page(place, "street") is None
