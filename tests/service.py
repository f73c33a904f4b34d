"""Prefect as a person runs it: a server and a worker, each a process that can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

from prefect.client.orchestration import PrefectClient

from tests.faults.front import Front
from tests.made_once import prefect_database
from tests.processes import free_port

__all__ = ["Service"]

ROOT = Path(__file__).parents[1]


class Service:
    """A Prefect server of its own, and a worker of this project.

    Args:
        home: a folder for its database, results and logs.
        first_start: let the server make its own home and database, which takes seconds.
    """

    def __init__(self, home: Path, first_start: bool = False) -> None:
        port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        self._home, self.port, self.assets_port = home, port, free_port()
        self.prefect_home = home / "prefect"
        if not (first_start or self.prefect_home.exists()):
            self.prefect_home.mkdir(mode=0o700)
            shutil.copyfile(prefect_database(), self.prefect_home / "prefect.db")
        self.front = Front(port)
        """What worker and tests see of the server: it can be made to fail."""
        self.url = f"http://127.0.0.1:{self.front.port}/api"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PYTHONPATH": str(ROOT),  # the flows of tests are no part of what pip installs
            "PYTHONUNBUFFERED": "1",  # `restart_worker` reads the log
            "PREFECT_HOME": str(self.prefect_home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "REBEL_NERF_HOME": str(home / "rebel-nerf"),
            "REBEL_NERF_PROJECT": str(ROOT),
        }
        self.shell = {**self.environment, "PREFECT_PROFILES_PATH": str(self.prefect_home / "rebel-nerf.toml")}
        """The environment of a terminal in which `prefect` commands work; this project's own need no more than
        `environment`."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_server(self, *command: str) -> None:
        """Start the server, or another by its command, and wait until it answers."""
        own = ("deployments.server", "--assets-port", str(self.assets_port))
        self._start("server", *(command or own), "--port", str(self.port))
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=2)
                return
            except OSError:
                assert time.monotonic() < deadline, self.log("server")
                time.sleep(0.2)

    def start_worker(self, name: str = "worker", *arguments: str) -> None:
        """Start the worker, or another one."""
        self._start(name, "deployments.worker", *arguments)

    def restart_worker(self, name: str = "worker", *arguments: str) -> None:
        """Start the worker, or another one, and wait until it takes runs."""
        before = self.log(name).count("started!")
        self.start_worker(name, *arguments)
        deadline = time.monotonic() + 180
        while self.log(name).count("started!") == before:
            assert self.runs(name) and time.monotonic() < deadline, self.log(name)
            time.sleep(0.1)

    def deploy(self) -> None:
        """Create the work pool and the deployments of `prefect.yaml`."""
        self.run("deployments.worker", "--pool-only")
        self.run("deployments.prefect", "--no-prompt", "deploy", "--all")

    @property
    def password(self) -> str:
        """Return the server's password, which its first start created."""
        profile = tomllib.loads((self.prefect_home / "rebel-nerf.toml").read_text())["profiles"]["rebel-nerf"]
        password: str = profile["PREFECT_API_AUTH_STRING"]
        return password

    def client(self, url: str = "") -> PrefectClient:
        """Return a client of the server, signed in."""
        asks = (self.prefect_home / "rebel-nerf.toml").exists()
        return PrefectClient(url or self.url, auth_string=self.password if asks else None)

    def run(self, module: str, *arguments: str) -> str:
        """Run a command, and return what it prints."""
        ended = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.shell if module == "prefect" else self.environment,
            cwd=ROOT, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the server or worker a signal, and wait for its end."""
        process = self._processes.pop(name, None)
        if process:
            if number is signal.SIGKILL:  # Prefect's command starts the server as another process
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            process.wait(60)

    def pid(self, name: str) -> int:
        """Return the process number, and process group, of the server or worker."""
        return self._processes[name].pid

    def runs(self, name: str) -> bool:
        """Return whether the server or worker runs."""
        return name in self._processes and self._processes[name].poll() is None

    def log(self, name: str) -> str:
        """Return all that the server or worker printed."""
        file = self._home / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def close(self) -> None:
        """End the server and the worker."""
        self.front.failing = None
        for name in reversed(list(self._processes)):
            self.end(name)
        self.front.close()

    def _start(self, name: str, module: str, *arguments: str) -> None:
        with (self._home / f"{name}.log").open("a") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.environment, cwd=self._home, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
