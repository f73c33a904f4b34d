"""The deployment as the README has it: a server, a worker, `prefect deployment run nerf/scene`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks import LocalWorkspace

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def service(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server and a worker of their own; the environment in which commands reach them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "REBEL_NERF_HOME": str(tmp_path / "home"),
        "REBEL_NERF_PROJECT": str(ROOT),
    }
    running = []

    def start(*command: str) -> None:
        log = (tmp_path / f"{command[0]}.log").open("w")
        running.append(
            subprocess.Popen([BIN / "prefect", *command], env=environment, cwd=tmp_path, stdout=log, stderr=log)
        )

    try:
        start("server", "start", "--port", str(port))
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=2)
                break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        subprocess.run([sys.executable, "-m", "deployments.worker", "--pool-only"], env=environment, check=True)
        prefect(environment, "--no-prompt", "deploy", "--all", cwd=ROOT)
        start("worker", "start", "--pool", "rebel-nerf", "--limit", "10")
        yield environment
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def prefect(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> str:
    ended = subprocess.run(
        [BIN / "prefect", *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_deployment_goes_from_photos_to_a_video(service: dict[str, str], street: Path, tmp_path: Path) -> None:
    given = [
        *("-p", "scene=street"),
        *("-p", f"images={street / 'photos'}"),
        *("-p", "profile=preview"),
        *("-p", 'train={"max_num_iterations": 20}'),
        *("-p", 'render={"width": 64, "height": 36, "seconds": 0.25}'),
    ]
    prefect(service, "deployment", "run", "nerf/scene", *given, "--watch", cwd=tmp_path)
    videos = LocalWorkspace(root=tmp_path / "home").assets("street-video")
    assert len(videos) == 1
    assert (Path(videos[0].uri) / "video.mp4").stat().st_size > 0
