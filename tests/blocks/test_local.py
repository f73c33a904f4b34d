"""Jobs on this machine: real processes, each a line of shell."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blocks import JobSpec, JobState, LocalWorkspace
from blocks.local_jobs import gpus
from jobs.errors import InvalidInput
from tests.blocks.shell import PHOTOS, finish, spec, state, workspace
from tests.processes import supervisor_of
from tests.waiting import until

__all__ = ["workspace"]

LONG = "sleep 1000 & sleep 1000"  # two processes and the shell around them


def status_file(workspace: LocalWorkspace, job: JobSpec) -> dict[str, int]:
    content: dict[str, int] = json.loads((workspace.folder / "jobs" / job.name / "status.json").read_text())
    return content


def processes(workspace: LocalWorkspace, job: JobSpec) -> set[int]:
    """Return the numbers of all processes that work in the job's folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if entry.resolve() == workspace.folder / "jobs" / job.name:
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def kill_supervisor(workspace: LocalWorkspace, job: JobSpec) -> None:
    supervisor = supervisor_of(workspace.folder / "jobs" / job.name)
    assert supervisor, "no supervisor runs"
    os.kill(supervisor, signal.SIGKILL)


def start(workspace: LocalWorkspace, job: JobSpec) -> None:
    workspace.submit(job)
    until(lambda: state(workspace, job) is JobState.RUNNING and len(processes(workspace, job)) >= 3)


def test_a_job_runs_to_its_end_and_its_output_becomes_an_asset(workspace: LocalWorkspace) -> None:
    job = spec(PHOTOS)
    assert workspace.find_job(job.name) is None
    finish(workspace, job)
    text, offset = workspace.read_log(job.name, 0)
    assert state(workspace, job) is JobState.COMPLETED, text
    assert text == "rendering\n"
    assert workspace.read_log(job.name, offset) == ("", offset)

    sizes = workspace.output_sizes(job.name, "capture")
    assert sizes.keys() == {"truth.json", "photos/1.jpg"} and sizes["photos/1.jpg"] == len("one\n")
    left = workspace.folder / "assets/street-photos/.killed.part"
    left.mkdir(parents=True)
    asset = workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {"scene": "street"})
    assert not left.exists(), "what a killed process left is cleared away"
    folder = workspace.fetch(asset)
    assert (folder / "photos" / "1.jpg").read_text() == "one\n"
    assert workspace.find_asset("street-photos", "1-abcd") == asset
    assert workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {}) == asset
    manifest = json.loads((folder / "asset.json").read_text())
    assert set(manifest["checksums"]) == {"truth.json", "photos/1.jpg"}


def test_submitting_again_is_the_same_job(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    first = status_file(workspace, job)["group"]
    assert workspace.submit(job).state is JobState.RUNNING
    assert status_file(workspace, job)["group"] == first
    assert [p.name for p in (workspace.folder / "jobs").iterdir()] == [job.name]
    workspace.cancel(job.name)


def test_cancel_ends_every_process_of_the_job(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    workspace.cancel(job.name)
    assert state(workspace, job) is JobState.CANCELED
    until(lambda: not processes(workspace, job), 5)
    workspace.cancel(job.name)  # again: nothing happens


def test_a_job_outlives_the_process_that_started_it_and_its_ctrl_c(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    program = (
        "import sys, time; from blocks import Asset, JobSpec, LocalWorkspace\n"
        "job, workspace = sys.argv[1:]\n"
        "LocalWorkspace.model_validate_json(workspace).submit(JobSpec.model_validate_json(job)); time.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, job.model_dump_json(), workspace.model_dump_json()], start_new_session=True
    )
    until(lambda: workspace.find_job(job.name) is not None and state(workspace, job) is JobState.RUNNING)
    os.killpg(starter.pid, signal.SIGINT)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    time.sleep(0.5)
    assert state(workspace, job) is JobState.RUNNING
    workspace.cancel(job.name)


def test_a_killed_supervisor_loses_neither_the_job_nor_its_result(workspace: LocalWorkspace) -> None:
    job = spec(f"{PHOTOS}; sleep 2 & sleep 3")
    start(workspace, job)
    kill_supervisor(workspace, job)
    assert state(workspace, job) is JobState.RUNNING
    until(lambda: state(workspace, job).ended)
    assert state(workspace, job) is JobState.COMPLETED
    workspace.register(job, "capture", "street-photos", "1", "dataset", {})


def test_a_job_whose_supervisor_was_killed_can_be_cancelled(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    kill_supervisor(workspace, job)
    workspace.cancel(job.name)
    assert state(workspace, job) is JobState.CANCELED
    assert not processes(workspace, job)


def test_killed_from_outside_is_interrupted_and_a_wrong_call_failed(workspace: LocalWorkspace) -> None:
    killed, wrong = spec(LONG, "street-shell-1-aa"), spec("exit 3", "street-shell-1-bb", tier="cpu")
    start(workspace, killed)
    os.killpg(status_file(workspace, killed)["group"], signal.SIGKILL)
    workspace.submit(wrong)
    until(lambda: state(workspace, killed).ended and state(workspace, wrong).ended)
    assert state(workspace, killed) is JobState.INTERRUPTED
    assert state(workspace, wrong) is JobState.FAILED
    assert "exit code 3" in workspace.find_job(wrong.name).reason  # type: ignore[union-attr]


def test_a_job_without_any_process_is_interrupted(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    kill_supervisor(workspace, job)
    os.killpg(status_file(workspace, job)["group"], signal.SIGKILL)
    until(lambda: state(workspace, job).ended)
    assert state(workspace, job) is JobState.INTERRUPTED


def test_exit_code_75_means_that_a_job_can_resume(workspace: LocalWorkspace) -> None:
    job = spec("exit 75")
    finish(workspace, job)
    assert state(workspace, job) is JobState.INTERRUPTED


def test_attempts_share_the_scratch_folder_until_the_result_is_registered(workspace: LocalWorkspace) -> None:
    folders = ("--", "{scratch.checkpoints}", "{outputs.model}")
    first = spec("touch $1/step-1; exit 75", scratch=("checkpoints",), arguments=("touch $1/step-1; exit 75", *folders))
    second = spec(
        "", attempt=2, scratch=("checkpoints",), outputs=("model",), arguments=("cp $1/step-1 $2/model", *folders)
    )
    for job in (first, second):
        finish(workspace, job)
    assert state(workspace, second) is JobState.COMPLETED
    asset = workspace.register(second, "model", "street-nerf", "1", "model", {})
    assert (Path(asset.uri) / "model").exists()
    assert not list((workspace.folder / "scratch").iterdir())


def test_gpu_jobs_queue_for_the_gpu_and_a_queued_one_can_be_cancelled(workspace: LocalWorkspace) -> None:
    first, second, third = (spec(LONG, f"street-shell-{n}-aa") for n in (1, 2, 3))
    start(workspace, first)
    workspace.submit(second)
    time.sleep(1)
    assert state(workspace, second) is JobState.QUEUED
    workspace.cancel(second.name)
    assert state(workspace, second) is JobState.CANCELED
    workspace.submit(third)
    workspace.cancel(first.name)
    until(lambda: state(workspace, third) is JobState.RUNNING)
    workspace.cancel(third.name)


def test_more_gpu_jobs_than_gpus_share_the_gpus(workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    shared = workspace.model_copy(update={"jobs_at_once": 2})
    jobs = [spec("echo on $CUDA_VISIBLE_DEVICES; sleep 1000", f"street-shell-{n}-aa") for n in (1, 2)]
    for job in jobs:
        start(shared, job)
    until(lambda: all(shared.read_log(job.name, 0)[0] == "on 4\n" for job in jobs))
    for job in jobs:
        shared.cancel(job.name)


@pytest.mark.parametrize(
    ("visible", "found"),
    [("0,1", ["0", "1"]), ("GPU-8932f937, 2", ["GPU-8932f937", "2"]), ("1,-1,2", ["1"]), ("-1", []), ("", [])],
)
def test_gpus_that_the_environment_hides_are_not_used(
    visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 7\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == ["7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found


def test_a_job_over_its_time_limit_is_ended(workspace: LocalWorkspace) -> None:
    job = spec(LONG, time_limit=1)
    finish(workspace, job)
    assert state(workspace, job) is JobState.FAILED
    assert "time limit of 1 s" in workspace.find_job(job.name).reason  # type: ignore[union-attr]


def test_the_time_limit_holds_without_a_supervisor(workspace: LocalWorkspace) -> None:
    job = spec(LONG, time_limit=2)
    start(workspace, job)
    kill_supervisor(workspace, job)
    until(lambda: state(workspace, job).ended)
    status = workspace.find_job(job.name)
    assert status and status.state is JobState.FAILED
    assert status.reason == "over its time limit of 2 s"
    until(lambda: not processes(workspace, job), 5)


def test_a_job_whose_supervisor_is_stopped_can_be_cancelled(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    supervisor = supervisor_of(workspace.folder / "jobs" / job.name)
    assert supervisor
    os.kill(supervisor, signal.SIGSTOP)
    workspace.cancel(job.name)
    assert state(workspace, job) is JobState.CANCELED


def test_how_long_a_job_ran_is_not_the_wall_clocks_to_say(workspace: LocalWorkspace) -> None:
    """Status files of a job during which the clock was set back or forward by a day."""
    job = spec("true")
    finish(workspace, job)
    file = workspace.folder / "jobs" / job.name / "status.json"
    for ended in (-90_000.0, 90_000.0):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "ended": content["started"] + ended}))
        status = workspace.find_job(job.name)
        assert status and 0 <= status.seconds < 60
    del content["seconds"]  # by an earlier version
    file.write_text(json.dumps({**content, "ended": content["started"] - 5}))
    status = workspace.find_job(job.name)
    assert status and status.seconds == 0


@pytest.mark.parametrize("content", ["", "{", "[]", 50_000 * "[", '{"state": "Later"}', '{"seconds": "x"}', "\xff"])
def test_a_damaged_status_does_not_hide_how_a_job_ended(workspace: LocalWorkspace, content: str) -> None:
    job = spec("true")
    finish(workspace, job)
    (workspace.folder / "jobs" / job.name / "status.json").write_text(content, encoding="latin-1")
    until(lambda: state(workspace, job) is JobState.COMPLETED)  # once the supervisor is gone


def test_a_job_ends_with_its_workspace(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    folder = workspace.folder / "jobs" / job.name
    running, supervisor = processes(workspace, job), supervisor_of(folder)
    workspace.folder.rename(workspace.folder.with_name("moved"))
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in {*running, supervisor}))
    with pytest.raises(InvalidInput):
        workspace.follow(job.name, "a run")
    assert not workspace.folder.exists()


def test_a_job_that_saves_its_work_does_not_bring_its_workspace_back(workspace: LocalWorkspace) -> None:
    job = spec("trap 'mkdir -p $1; echo saved >$1/work' TERM; while true; do sleep 0.1; done")
    start(workspace, job)
    folder = workspace.folder / "jobs" / job.name
    running, supervisor = processes(workspace, job), supervisor_of(folder)
    workspace.folder.rename(workspace.folder.with_name("moved"))
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in {*running, supervisor}))
    assert not workspace.folder.exists()


def test_a_full_disk_is_reported_and_leaves_nothing_behind(
    workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, stage: str) -> None:
        folder.mkdir()
        (folder / "half.py").write_text("half")
        raise shutil.Error(100 * [("half.py", "half.py", f"[Errno {errno.ENOSPC}] No space left on device")])

    monkeypatch.setattr("jobs.code.copy_to", full)
    with pytest.raises(InvalidInput, match="street-shell-1-abcd-1.*No space left") as refused:
        workspace.submit(spec("true"))
    assert len(str(refused.value)) < 400, "one file that could not be written is enough"
    assert list((workspace.folder / "jobs").iterdir()) == []


def test_no_secret_of_the_scheduler_reaches_a_job(workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "AZURE_CLIENT_SECRET PREFECT_API_KEY MY_PASSWORD DATABASE_URL SAS_URL SSH_PASSPHRASE GITHUB_PAT TORCH_TOKEN "
        "CUDA_PASS TRITON_PAT TORCHINDUCTOR_REDIS_URL NCCL_SAS "
        "PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING PREFECT_PROFILES_PATH"
    )
    for name in secrets.split():
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = spec(LONG)
    start(workspace, job)
    running = processes(workspace, job)
    assert running
    for process in running:
        assert b"hunter2" not in Path(f"/proc/{process}/environ").read_bytes()
        assert b"hunter2" not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{process}/environ").read_bytes()
    workspace.cancel(job.name)


def test_a_workspace_that_cannot_work_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="root"):
        LocalWorkspace(root=tmp_path / "file" / "home").check()
    with pytest.raises(InvalidInput, match="python"):
        LocalWorkspace(root=tmp_path / "home", python="/no/such/python").check()
