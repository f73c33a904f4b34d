"""Connect to the viewer of a training on Azure.

The jobs of the emulator are real and run on this machine. Ports are really forwarded, but not by ssh: machines that run
tests seldom have an sshd.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL
from pydantic_settings import CliApp

from blocks import JobSpec
from blocks.azure import AzureMLWorkspace
from jobs.options import TrainOptions
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack
from tests.processes import free_port

__all__ = ["stack", "workspace"]

pytestmark = pytest.mark.usefixtures("prefect_server")

SSH = '''#!{python}
"""`ssh -N -L local:localhost:remote somebody@somewhere -p port`, where somewhere is this machine."""
import asyncio, sys
local, _, remote = sys.argv[sys.argv.index("-L") + 1].split(":")
assert "azureuser@127.0.0.1" in sys.argv and sys.argv[sys.argv.index("-p") + 1] == "50000", sys.argv


async def pump(reader, writer):
    while block := await reader.read(1 << 16):
        writer.write(block)
        await writer.drain()
    writer.close()


async def forward(reader, writer):
    there = await asyncio.open_connection("localhost", int(remote))
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)


async def main():
    async with await asyncio.start_server(forward, "127.0.0.1", int(local)) as server:
        await server.serve_forever()


asyncio.run(main())
'''


@pytest.fixture
async def saved(
    stack: AzureStack, workspace: AzureMLWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AzureMLWorkspace:
    """Return the workspace as a saved block, and the nodes' ssh port."""
    await workspace.credential.save("azure", overwrite=True)
    await workspace.save("azure", overwrite=True)
    stack.ssh_at("127.0.0.1", 50000)
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(python=sys.executable))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=":")
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value() or "")
    return workspace


def view(port: int) -> subprocess.Popen[str]:
    options = ("--scene", "street", "--workspace", "rebel-nerf-azure-ml/azure", "--no-browser", "--port", str(port))
    command = [sys.executable, "-m", "commands.view", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def training(workspace: AzureMLWorkspace, stack: AzureStack) -> JobSpec:
    """Start a real training that takes very long, on photos that a job has drawn."""
    made = JobSpec(
        family="street-facade-1-c0ffee00", attempt=1, scene="street", stage="facade", outputs=("capture",), tier="cpu",
        arguments=("--output", "{outputs.capture}", "--photos", "8", "--width", "64", "--height", "48"),
    )  # fmt: skip
    workspace.submit(made)
    stack.wait(made.name)
    dataset = workspace.register(made, "capture", "street-images-to-nerf-dataset", "1-c0ffee00", "dataset", {})
    options = TrainOptions(max_num_iterations=1_000_000, model_size="small", max_image_size=64, rays_per_batch=64)
    places = ("--dataset", "{inputs.dataset}/truth.json", "--model", "{outputs.model}")
    return JobSpec(
        family="street-train-1-c0ffee00", attempt=1, scene="street", stage="train", inputs={"dataset": dataset},
        outputs=("model",), scratch=("checkpoints",),
        arguments=(*places, "--checkpoints", "{scratch.checkpoints}", *CliApp.serialize(options)),
    )  # fmt: skip


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_the_tunnel_to_a_training_is_opened_and_closed(
    stack: AzureStack, saved: AzureMLWorkspace, tmp_path: Path
) -> None:
    job, port = training(saved, stack), free_port()
    saved.follow(job.name, "somebody")
    try:
        with stack.faults.add("quota", "street-train-.*"):
            saved.submit(job)
            stack.wait(job.name, "Queued")
            first = view(port)
            assert first.stdout
            assert f"{job.name} is queued: waiting for its viewer" in first.stdout.readline()
        said = ""
        while "Look at" not in said:
            said += (line := first.stdout.readline())
            assert line, said
        assert f"{job.name} is training." in said and f"Look at http://localhost:{port}" in said
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert b"<html" in answer.read()

        with view(port) as second:
            assert second.stdout and f"InvalidInput: port {port} of this machine is taken" in second.stdout.read()
        assert second.returncode == 1

        other = free_port()
        with view(other) as third:
            assert third.stdout and any(f"Look at http://localhost:{other}" in line for line in third.stdout)
            third.send_signal(signal.SIGINT)  # as Ctrl-C
        assert third.returncode == 130 and not answers(other) and answers(port)

        with view(other) as cut:
            assert cut.stdout and any("Look at" in line for line in cut.stdout)
            [way] = map(int, Path(f"/proc/{cut.pid}/task/{cut.pid}/children").read_text().split())
            os.kill(way, signal.SIGTERM)
            assert f"the connection to {job.name} was closed although the job runs" in cut.stdout.read()
        assert cut.returncode == 1

        ssh = tmp_path / "bin/ssh"
        ssh.unlink()  # the one that is open reads it no more
        ssh.write_text("#!/bin/sh\necho Permission denied >&2\nexit 255\n")
        ssh.chmod(0o755)
        with view(other) as refused:
            assert refused.stdout
            said = refused.stdout.read()
        assert "Permission denied" in said and "could not be opened: its command ended with 255" in said, said
        assert refused.returncode == 1 and "Traceback" not in said

        saved.cancel(job.name)
        assert f"{job.name} is canceled." in first.stdout.read()
        assert first.wait(60) == 0 and not answers(port)
    finally:
        first.terminate()
        saved.cancel(job.name)
        saved.unfollow(job.name, "somebody")
