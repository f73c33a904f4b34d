"""The flows as commands: what they say where nothing runs yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import worker
from flows._command import open_workspace, run_as_command, say_errors
from flows.clean_up import clean_up
from flows.nerf import nerf
from tasks import check_server
from tests.processes import free_port


@pytest.fixture
def address() -> Iterator[str]:
    """What PREFECT_API_URL says, where nothing listens."""
    address = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: address}):
        yield address


def open_saved() -> None:
    with say_errors():
        open_workspace("rebel-nerf-local-workspace/x")


@pytest.mark.parametrize(
    "command",
    [
        lambda: run_as_command(nerf, ["--scene", "street"]),
        lambda: run_as_command(clean_up, []),
        open_saved,
    ],
)
def test_a_server_that_is_not_there_is_one_line(
    command: Callable[[], None], address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command()
    [said] = "".join(capfd.readouterr()).strip().splitlines()
    assert end.value.code == 1
    assert f"no Prefect server answers at {address}" in said
    assert "`make server`" in said and "unset PREFECT_API_URL" in said


def test_this_machines_workspace_needs_no_server(address: str) -> None:
    assert open_workspace("local").folder


def test_a_worker_without_a_server_is_one_line() -> None:
    address = f"http://127.0.0.1:{free_port()}/api"
    program = (
        "import deployments.worker as worker; from prefect.settings import *;"
        f"settings = temporary_settings({{PREFECT_API_URL: {address!r}}}); settings.__enter__();"
        "worker.main(worker.Worker(patience=0))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    [said] = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode == 1 and f"no Prefect server answers at {address}" in said


def test_a_server_that_starts_meanwhile_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    late = (
        "import sys, time, http.server as h; time.sleep(1);"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.BaseHTTPRequestHandler).serve_forever()"
    )
    with subprocess.Popen([sys.executable, "-c", late, str(port)], stderr=subprocess.DEVNULL) as server:
        try:
            with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
                check_server(patience=60)
        finally:
            server.terminate()
    assert "Waiting for the Prefect server" in capfd.readouterr().err
    assert worker.Worker().patience >= 30, "a server takes half a minute to start"
