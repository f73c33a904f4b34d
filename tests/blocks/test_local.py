"""The processes here are real; what they do is a line of shell, through an interpreter that takes one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blocks import Asset, JobSpec, JobState, LocalWorkspace
from jobs.errors import InvalidInput, NotFound
from jobs.manifest import checksum
from tests.processes import supervisor_of

PHOTOS = "mkdir -p $1/photos && echo rendering && echo one >$1/photos/1.jpg && echo two >$1/truth.json"
LONG = "sleep 1000 & sleep 1000"  # two processes and the shell around them


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    shell = tmp_path / "python"
    shell.write_text('#!/bin/sh\nshift 2\nexec /bin/sh -c "$@"\n')
    shell.chmod(0o755)
    return LocalWorkspace(root=tmp_path / "home", python=str(shell))


def spec(line: str, name: str = "street-shell-1-abcd", attempt: int = 1, **more: object) -> JobSpec:
    given = {"family": name, "scene": "street", "stage": "shell", "outputs": ("capture",)}
    arguments = (line, "sh", "{outputs.capture}")
    return JobSpec.model_validate({**given, "arguments": arguments, "attempt": attempt, **more})


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def finish(workspace: LocalWorkspace, job: JobSpec) -> None:
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)


def state(workspace: LocalWorkspace, job: JobSpec) -> JobState:
    status = workspace.find_job(job.name)
    assert status is not None
    return status.state


def status_file(workspace: LocalWorkspace, job: JobSpec) -> dict[str, int]:
    content: dict[str, int] = json.loads((workspace.folder / "jobs" / job.name / "status.json").read_text())
    return content


def processes(workspace: LocalWorkspace, job: JobSpec) -> set[int]:
    """The numbers of all processes that work in the job's folder."""
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
    wait(lambda: state(workspace, job) is JobState.RUNNING and len(processes(workspace, job)) >= 3)


def test_a_job_runs_to_its_end_and_its_output_becomes_an_asset(workspace: LocalWorkspace) -> None:
    job = spec(PHOTOS)
    assert workspace.find_job(job.name) is None
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)
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
    wait(lambda: not processes(workspace, job), 5)
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
    wait(lambda: workspace.find_job(job.name) is not None and state(workspace, job) is JobState.RUNNING)
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
    wait(lambda: state(workspace, job).ended)
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
    wait(lambda: state(workspace, killed).ended and state(workspace, wrong).ended)
    assert state(workspace, killed) is JobState.INTERRUPTED
    assert state(workspace, wrong) is JobState.FAILED
    assert "exit code 3" in workspace.find_job(wrong.name).reason  # type: ignore[union-attr]


def test_a_job_without_any_process_is_interrupted(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    kill_supervisor(workspace, job)
    os.killpg(status_file(workspace, job)["group"], signal.SIGKILL)
    wait(lambda: state(workspace, job).ended)
    assert state(workspace, job) is JobState.INTERRUPTED


def test_exit_code_75_means_that_a_job_can_resume(workspace: LocalWorkspace) -> None:
    job = spec("exit 75")
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)
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
    wait(lambda: state(workspace, third) is JobState.RUNNING)
    workspace.cancel(third.name)


def test_a_job_over_its_time_limit_is_ended(workspace: LocalWorkspace) -> None:
    job = spec(LONG, time_limit=1)
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)
    assert state(workspace, job) is JobState.FAILED
    assert "time limit of 1 s" in workspace.find_job(job.name).reason  # type: ignore[union-attr]


def test_the_time_limit_holds_without_a_supervisor(workspace: LocalWorkspace) -> None:
    job = spec(LONG, time_limit=2)
    start(workspace, job)
    kill_supervisor(workspace, job)
    wait(lambda: state(workspace, job).ended)
    status = workspace.find_job(job.name)
    assert status and status.state is JobState.FAILED
    assert status.reason == "over its time limit of 2 s"
    wait(lambda: not processes(workspace, job), 5)


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
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)
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


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_status_does_not_hide_how_a_job_ended(workspace: LocalWorkspace, content: str) -> None:
    job = spec("true")
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)
    (workspace.folder / "jobs" / job.name / "status.json").write_text(content)
    wait(lambda: state(workspace, job) is JobState.COMPLETED)  # once the supervisor is gone


def test_a_job_ends_with_its_workspace(workspace: LocalWorkspace) -> None:
    job = spec(LONG)
    start(workspace, job)
    folder = workspace.folder / "jobs" / job.name
    running, supervisor = processes(workspace, job), supervisor_of(folder)
    workspace.folder.rename(workspace.folder.with_name("moved"))
    wait(lambda: not any(Path(f"/proc/{process}").exists() for process in {*running, supervisor}))
    with pytest.raises(InvalidInput, match="no longer exists"):
        workspace.follow(job.name, "a run")
    assert not workspace.folder.exists()


def test_a_full_disk_is_reported_and_leaves_nothing_behind(
    workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, stage: str) -> None:
        folder.mkdir()
        (folder / "half.py").write_text("half")
        raise shutil.Error([("half.py", "half.py", f"[Errno {errno.ENOSPC}] No space left on device")])

    monkeypatch.setattr("jobs.code.copy_to", full)
    with pytest.raises(InvalidInput, match=r"street-shell-1-abcd-1 could not be .*No space left"):
        workspace.submit(spec("true"))
    assert list((workspace.folder / "jobs").iterdir()) == []


def test_a_disk_that_is_full_at_registration_is_said_and_leaves_nothing_behind(
    workspace: LocalWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"one")
    job = spec(PHOTOS)
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)

    def full(file: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("blocks.local.write_durably", full)
        with pytest.raises(InvalidInput, match=r"assets/street could not be written \(No space left .*disk is full"):
            workspace.take_in("street", {"a.jpg": photo}, {})
        with pytest.raises(InvalidInput, match="assets/street-photos could not be written"):
            workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {})
    assert list((workspace.folder / "assets").glob("*/.*.part")) == []
    assert workspace.take_in("street", {"a.jpg": photo}, {}).version == "1"
    assert workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {}).version == "1-abcd"


def test_no_secret_of_the_scheduler_reaches_a_job(workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "AZURE_CLIENT_SECRET PREFECT_API_KEY MY_PASSWORD DATABASE_URL SAS_URL SSH_PASSPHRASE GITHUB_PAT TORCH_TOKEN "
        "PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING PREFECT_PROFILES_PATH"
    )
    for name in secrets.split():
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = spec(LONG)
    start(workspace, job)
    for process in processes(workspace, job):
        assert b"hunter2" not in Path(f"/proc/{process}/environ").read_bytes()
        assert b"hunter2" not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{process}/environ").read_bytes()
    workspace.cancel(job.name)


def test_captures_get_versions_by_content(workspace: LocalWorkspace, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    files = {"a.jpg": tmp_path / "a.jpg", "walk/b.jpg": tmp_path / "b.jpg"}
    first = workspace.take_in("street", files, {"source": "here"})
    assert (first.version, first.kind) == ("1", "capture")
    assert (workspace.fetch(first) / "walk" / "b.jpg").read_bytes() == b"two"
    assert workspace.read(first, "walk/b.jpg") == b"two"
    with pytest.raises(NotFound, match="street:1 has no file c.jpg"):
        workspace.read(first, "c.jpg")
    renamed = {"other.jpg": files["a.jpg"], "names.jpg": files["walk/b.jpg"]}
    assert workspace.take_in("street", renamed, {}) == first
    second = workspace.take_in("street", {"a.jpg": files["a.jpg"]}, {})
    assert [asset.version for asset in workspace.assets("street")] == ["1", "2"]
    assert workspace.assets("street")[-1] == second
    assert not list((workspace.folder / "assets" / "street").glob(".*"))


def photo(workspace: LocalWorkspace, tmp_path: Path, content: bytes) -> Asset:
    """A capture of one photo."""
    (tmp_path / "a.jpg").write_bytes(content)
    return workspace.take_in("street", {"a.jpg": tmp_path / "a.jpg"}, {})


def test_an_asset_is_on_the_disk_before_it_has_its_name(
    workspace: LocalWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    at_rename: set[int] = set()
    fsync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def note_rename(source: Path, target: Path) -> None:
        at_rename.update(synced)
        synced.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    (tmp_path / "b.jpg").write_bytes(b"two")
    asset = workspace.take_in("street", {"walk/b.jpg": tmp_path / "b.jpg"}, {})
    folder = Path(asset.uri)
    assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= at_rename
    assert folder.parent.stat().st_ino in synced, "the name itself"


@pytest.mark.parametrize("content", [b"", b"on"], ids=["emptied", "truncated"])
def test_a_capture_that_lost_its_content_is_set_aside_and_taken_in_again(
    workspace: LocalWorkspace, tmp_path: Path, content: bytes
) -> None:
    lost = Path(photo(workspace, tmp_path, b"one").uri)
    (lost / "a.jpg").write_bytes(content)
    after = LocalWorkspace(root=workspace.root)  # as after a boot: another process
    assert after.find_asset("street", "1") is None and after.assets("street") == []
    [aside] = lost.parent.glob(".damaged-1-*")
    assert (aside / "a.jpg").read_bytes() == content
    again = photo(after, tmp_path, b"one")
    assert again.version == "2", "the number of a damaged version is not used again"
    assert after.read(again, "a.jpg") == b"one"


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"name": "street"}', "\xff"])
def test_a_damaged_manifest_hides_no_other_version(workspace: LocalWorkspace, tmp_path: Path, manifest: str) -> None:
    first, second = photo(workspace, tmp_path, b"one"), photo(workspace, tmp_path, b"two")
    Path(first.uri, "asset.json").write_text(manifest, encoding="latin-1")
    assert LocalWorkspace(root=workspace.root).assets("street") == [second]


def test_assets_of_later_and_earlier_versions_are_read(workspace: LocalWorkspace, tmp_path: Path) -> None:
    asset = photo(workspace, tmp_path, b"one")
    manifest = Path(asset.uri, "asset.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "a_later_key": 1}))
    assert workspace.find_asset("street", "1") == asset
    del content["sizes"]
    manifest.write_text(json.dumps(content))
    assert LocalWorkspace(root=workspace.root).find_asset("street", "1") == asset


def test_a_version_that_a_person_renamed_is_passed_over(workspace: LocalWorkspace, tmp_path: Path) -> None:
    folder = Path(photo(workspace, tmp_path, b"one").uri)
    folder.rename(folder.with_name("1-old"))
    assert workspace.assets("street") == []
    assert photo(workspace, tmp_path, b"two").version == "1"
    assert (folder.with_name("1-old") / "a.jpg").exists()


def test_a_folder_without_a_manifest_is_ignored(workspace: LocalWorkspace, tmp_path: Path) -> None:
    job = spec(PHOTOS)
    (workspace.folder / "assets" / "street-video" / "1-abcd").mkdir(parents=True)
    (workspace.folder / "assets" / "street-video" / "1-abcd" / "half").write_text("torn")
    workspace.submit(job)
    wait(lambda: state(workspace, job).ended)
    asset = workspace.register(job, "capture", "street-video", "1-abcd", "video", {})
    assert not (Path(asset.uri) / "half").exists()
    assert list(Path(asset.uri).parent.glob(".damaged-1-abcd-*/half"))


def drop(workspace: LocalWorkspace, path: str, content: bytes) -> Path:
    file = workspace.folder / "captures" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_dropped_captures_are_listed(workspace: LocalWorkspace) -> None:
    assert workspace.dropped() == [] == workspace.dropped("street")
    old = drop(workspace, "street/walk/a.jpg", b"one")
    os.utime(old, (0, 0))  # a copy keeps the time of the photo, and a camera's clock may be wrong
    for name in ("street/notes.txt", "street/.b.jpg", ".hidden/a.jpg", "notes.txt"):
        drop(workspace, name, b"two")
    drop(workspace, "Old Town/a.jpg", b"three")
    drop(workspace, "loose.jpg", b"four")
    (workspace.folder / "captures" / "empty").mkdir()
    drop(workspace, "street/b.jpg", b"").unlink()
    (workspace.folder / "captures" / "street" / "b.jpg").symlink_to("nowhere")
    found = {each.scene: each for each in workspace.dropped()}
    assert {scene: set(each.files) for scene, each in found.items()} == {
        "Old Town": {"a.jpg"}, "empty": set(), "loose.jpg": set(), "street": {"walk/a.jpg"},
    }  # fmt: skip
    assert 0 <= found["street"].age < 60 and found["street"].size == 3
    assert [each.files for each in workspace.dropped("street")] == [found["street"].files]


def test_dropped_captures_are_read_once_and_again_after_a_change(workspace: LocalWorkspace) -> None:
    file = drop(workspace, "street/a.jpg", b"one")
    drop(workspace, "square/a.jpg", b"one")
    [first] = workspace.dropped("street")
    memory = workspace.folder / "checksums.json"
    other = checksum(drop(workspace, "other.jpg", b"remembered"))
    memory.write_text(memory.read_text().replace(first.files["a.jpg"].checksum, other))
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == other, "it is not read again"
    workspace.dropped("square")
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == other, "nor for another scene's sake"
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == checksum(file), (
        "of the same size and time, but new"
    )
    memory.write_text("not what was written")
    assert workspace.dropped("street")[0].files["a.jpg"].checksum == checksum(file)


def test_dropped_captures_are_registered(workspace: LocalWorkspace) -> None:
    drop(workspace, "street/a.jpg", b"one")
    file = drop(workspace, "street/b.jpg", b"two")
    [dropped] = workspace.dropped("street")
    assert workspace.find_capture(dropped) is None
    first = workspace.take_in_dropped(dropped, {"source": "dropped"})
    assert first.tags["content"] == dropped.content
    file.rename(file.with_name("c.jpg"))
    [renamed] = workspace.dropped("street")
    assert workspace.find_capture(renamed) == first == workspace.take_in_dropped(renamed, {})
    with pytest.raises(InvalidInput, match="b.jpg vanished"):
        workspace.take_in_dropped(dropped, {})
    with ThreadPoolExecutor(8) as pool:
        drop(workspace, "street/d.jpg", b"three")
        [grown] = workspace.dropped("street")
        taken = list(pool.map(lambda _: workspace.take_in_dropped(grown, {}), range(8)))
    assert [asset.version for asset in taken] == ["2"] * 8, "however many take it in at once"


def test_missing_things_are_reported(workspace: LocalWorkspace, tmp_path: Path) -> None:
    job = spec(PHOTOS)
    with pytest.raises(NotFound, match="no longer has the output"):
        workspace.output_sizes(job.name, "capture")
    with pytest.raises(NotFound, match="no longer has the output"):
        workspace.register(job, "capture", "street-photos", "1", "dataset", {})
    (tmp_path / "a.jpg").write_bytes(b"one")
    asset = workspace.take_in("street", {"a.jpg": tmp_path / "a.jpg"}, {})
    (Path(asset.uri) / "asset.json").unlink()
    with pytest.raises(NotFound, match="street:1"):
        workspace.submit(spec(PHOTOS, inputs={"images": asset}))
    assert workspace.find_asset("street", "1") is None
    with pytest.raises(InvalidInput, match="vanished"):
        workspace.take_in("street", {"b.jpg": tmp_path / "b.jpg"}, {})


def test_a_workspace_that_cannot_work_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="root"):
        LocalWorkspace(root=tmp_path / "file" / "home").check()
    with pytest.raises(InvalidInput, match="python"):
        LocalWorkspace(root=tmp_path / "home", python="/no/such/python").check()
