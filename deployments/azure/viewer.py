"""The viewer of a training job: `python -m deployments.azure.viewer --job facade-train-1-0a1b2c3d-1 --open`."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

from pydantic import Field

from deployments.azure.options import Place, run
from jobs.errors import JobFailed


class Viewer(Place):
    """Print the command that opens a tunnel to the viewer of a training job; with --open, open it, and the browser."""

    job: str = Field(description="the training job's name, as the flow's log says it")
    port: int = Field(7007, ge=1, le=65535, description="of the viewer")
    key: Path | None = Field(None, description="your private ssh key, if it is not ssh's default")
    open_it: bool = Field(False, alias="open", description="open the tunnel and the browser here and now")


def main(given: Viewer) -> None:
    """Print or open the tunnel."""
    command = given.open().tunnel(given.job, given.port)
    if given.key:
        command[1:1] = ["-i", str(given.key.expanduser())]
    link = f"http://localhost:{given.port}"
    print(f"{shlex.join(command)}\nThen look at {link}")
    if not given.open_it:
        return
    with subprocess.Popen(command) as tunnel:
        try:
            while not _answers(given.port):
                if tunnel.poll() is not None:
                    raise JobFailed(f"ssh ended with {tunnel.returncode}; its own words are above.")
                time.sleep(0.5)
            webbrowser.open(link)
            tunnel.wait()
        finally:
            tunnel.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    run(Viewer, main, sys.argv[1:])
