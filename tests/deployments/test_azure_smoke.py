"""The check at the end of set-up: with a stand-in for the program that its jobs run, and once with the real one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from azure.ai.ml.entities import Environment

from blocks.azure import AzureMLWorkspace
from deployments.azure import common, smoke
from jobs import code
from jobs.errors import JobFailed
from tests.azureml.stack import AzureStack
from tests.deployments.conftest import Command

PASSES = """
print("ok       0.1 s  python: 3.12", flush=True)
print('{"stage": "check", "result": {"steps": 1}}')
"""
FAILS = """
import sys, time
print("FAILED   0.1 s  gpu: torch finds no CUDA GPU")
print('{"stage": "check", "error": "JobFailed", "message": "this environment fails at: gpu"}', flush=True)
time.sleep(2)  # the log is there before the job has ended
sys.exit(1)
"""
LASTS = "import time; print('ok       0.1 s  python: 3.12', flush=True); time.sleep(300)"

Program = Callable[[str], None]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    """Return a function that replaces `jobs.check` in jobs. At first, it is a program that passes."""
    text, copy = [PASSES], code.copy_to

    def copy_to(folder: Path, stage: str) -> None:
        copy(folder, stage)
        (folder / "jobs" / "check.py").write_text(text[0])

    monkeypatch.setattr(code, "copy_to", copy_to)
    return lambda wanted: text.__setitem__(0, wanted)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", lambda self, waited: 0.1)


@pytest.fixture
def workspace(stack: AzureStack) -> AzureMLWorkspace:
    """Return a workspace with an environment, which uses the emulator's own cluster for everything."""
    place = common.AzureOptions().described(gpu_cluster="other", cpu_cluster="other", environment="rebel-nerf:1")
    place.client.environments.create_or_update(Environment(name="rebel-nerf", version="1", image="ubuntu"))
    return place


def check(workspace: AzureMLWorkspace, size: str) -> smoke.Check:
    """Return a check that no other test has, because the size is part of its name. It was looked for already."""
    made = smoke.Check(workspace, "gpu", size)
    made.find()
    return made


@pytest.mark.usefixtures("prefect_server")
def test_set_up_ends_with_a_check_on_each_cluster(
    empty_workspace: AzureStack, command: Command, program: Program
) -> None:
    stack = empty_workspace
    clusters = ("--gpu-cluster", "gpu-smoke", "--cpu-cluster", "cpu-smoke", "--no-deploy", "--name", "smoke")
    status, said = command("setup", *clusters, "--smoke-test", "--dry-run")
    assert status == 0 and said.count("would be run") == 2 and not stack.jobs, said
    program(FAILS)
    status, said = command("setup", *clusters, "--smoke-test")
    assert status == 1 and "gpu-smoke: FAILED   0.1 s  gpu: torch finds no CUDA GPU" in said, said
    assert "The check on gpu-smoke failed: this environment fails at: gpu. Its log: https://ml.azure.com" in said
    assert "The check on cpu-smoke failed" in said and "Ready" not in said
    program(PASSES)
    status, said = command("setup", *clusters, "--smoke-test")
    assert status == 0 and "check: passed" in said and "Ready" in said, said
    for cluster in ("cpu-smoke", "gpu-smoke"):
        assert f"{cluster}: ok       0.1 s  python: 3.12" in said and f"{cluster}: completed" in said
    gpu = {name: job for name, job in stack.jobs.items() if "check-gpu" in name}
    assert [name[-2:] for name in gpu] == ["-1", "-2"]
    [first, _] = gpu.values()
    assert first.request["command"] == "python -m jobs.check --output ${{outputs.report}} --require gpu"
    cpu = next(job for name, job in stack.jobs.items() if "check-cpu" in name)
    assert cpu.request["command"] == "python -m jobs.check --output ${{outputs.report}}"

    # What has passed is not run again, until the cluster is another one.
    before = len(stack.jobs)
    status, said = command("setup", *clusters, "--smoke-test")
    assert status == 0 and said.count("passed before") == 2 and len(stack.jobs) == before, said
    stack._workspaces[stack.workspace].computes["cpu-smoke"].created = "2030-01-01T00:00:00+00:00"
    status, said = command("setup", *clusters, "--smoke-test")
    assert status == 0 and said.count("passed before") == 1 and len(stack.jobs) == before + 1, said


def test_a_running_check_is_followed(
    stack: AzureStack, workspace: AzureMLWorkspace, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    program("import pathlib, time\nwhile not pathlib.Path('../go').exists(): time.sleep(0.05)\n" + PASSES)
    first = check(workspace, "attach")
    first.start()
    job = stack.wait(first.spec.name, "Running")
    second = check(workspace, "attach")
    assert second.spec.name == first.spec.name and not second.passed
    (stack.folder / "jobs" / stack.workspace / job.name / "1" / "go").touch()
    smoke.follow([second])
    assert second.passed and job.attempts == 1
    said = capsys.readouterr().out
    assert f"attached to job {job.name}" in said and "other: ok       0.1 s  python: 3.12" in said


def test_ctrl_c_cancels_the_jobs(
    stack: AzureStack, workspace: AzureMLWorkspace, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(LASTS)
    interrupted = check(workspace, "ctrl-c")

    def wait(self: AzureMLWorkspace, waited: float) -> float:
        if stack.jobs[interrupted.spec.name].status == "Running":
            raise KeyboardInterrupt
        return 0.1

    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", wait)
    with pytest.raises(KeyboardInterrupt):
        smoke.follow([interrupted])
    assert stack.wait(interrupted.spec.name).status == "Canceled"


def test_a_check_whose_node_is_taken_away_begins_again(
    stack: AzureStack, workspace: AzureMLWorkspace, program: Program
) -> None:
    program("import os, time\nif not os.environ['AZUREML_RUN_ID'].endswith('-3'): time.sleep(300)\n" + PASSES)
    preempted = check(workspace, "preempted")
    family = preempted.spec.family
    with stack.faults.add("preemption_error", f"{family}-[12]$"):
        smoke.follow([preempted])
    assert preempted.passed and [job for job in stack.jobs if family in job] == [f"{family}-{n}" for n in (1, 2, 3)]


def test_a_check_that_gets_no_node_is_given_up(
    stack: AzureStack, workspace: AzureMLWorkspace, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "_LONGEST_WAIT", 0.0)
    waiting = check(workspace, "no-node")
    with stack.faults.add("quota", waiting.spec.name), pytest.raises(JobFailed, match="no node"):
        smoke.follow([waiting])
    assert stack.wait(waiting.spec.name).status == "Canceled"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("prefect_server")
def test_set_up_runs_the_real_check_on_both_clusters(
    stack: AzureStack, command: Command, job_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the job environment; without a GPU, every stage passes, and set-up names what the GPU cluster lacks."""
    monkeypatch.setattr(stack, "python", str(job_python))
    has_gpu = subprocess.run([job_python, "-c", "import torch; assert torch.cuda.is_available()"]).returncode == 0
    clusters = ("--gpu-cluster", "gpu-real", "--cpu-cluster", "cpu-real", "--no-deploy", "--name", "real")
    status, said = command("setup", *clusters, "--smoke-test")
    for cluster in ("cpu-real", "gpu-real"):
        for stage in ("prepare", "scale", "train", "render", "shard", "join", "compare", "export", "changes", "page"):
            assert re.search(rf"  {cluster}: ok +[0-9.]+ s  {stage}: ", said), said
    assert "  cpu-real: completed" in said and "The check on cpu-real failed" not in said
    if has_gpu:
        assert status == 0 and "check: passed" in said, said
    else:
        assert status == 1 and "The check on gpu-real failed: this environment fails at: gpu" in said, said
        assert re.search("  gpu-real: FAILED.*gpu: ", said)
