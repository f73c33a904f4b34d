"""Jobs of a local workspace: folders and processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from itertools import takewhile
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from blocks import supervisor
from blocks.local_files import files_below, write_durably, writing
from blocks.records import JobSpec, JobState, JobStatus, Tier
from blocks.supervisor import unlocked
from jobs import code
from jobs.environment import FOR_PYTHON, child_environment
from jobs.errors import NotFound

__all__ = ["LocalJobs", "gpus"]

_GPU = re.compile(r"\d+|(GPU|MIG)-.+")  # an index, or an ID of a GPU or of a part of one


class LocalJobs:
    """The jobs below a workspace's folder: `jobs/<name>/`, `scratch/<family>/` and `slots/`.

    Args:
        home: the workspace's folder.
        python: the interpreter that runs jobs.
        gpu_jobs: GPU jobs at the same time; None for the number of CUDA GPUs.
    """

    def __init__(self, home: Path, python: str, gpu_jobs: int | None) -> None:
        self._home, self._python, self._gpu_jobs = home, python, gpu_jobs

    def find(self, name: str) -> JobStatus | None:
        folder = self._job(name)
        if not (folder / "spec.json").exists():
            return None
        alive = not unlocked(folder / "alive")  # first: a status that is read later can only be newer
        status = _read_status(folder)
        state, reason = status.get("state", JobState.QUEUED), status.get("reason", "")
        if alive and state is JobState.RUNNING:
            supervisor.enforce_limit(folder, status)
        if not state.ended and not alive:
            ended, reason = supervisor.ended_state(folder)
            state = JobState(ended)
        wall = max(0.0, status["ended"] - status["started"]) if "ended" in status else 0.0
        seconds = status.get("seconds", wall)  # earlier versions noted only the wall clock
        place, behind = _place(folder) if state is JobState.QUEUED else (0, "")
        return JobStatus(
            name=name, state=state, reason=reason, url=folder.as_uri(), seconds=seconds, place=place, behind=behind
        )

    def submit(self, spec: JobSpec) -> JobStatus:
        part = self._home / "jobs" / f".{uuid.uuid4().hex}.part"
        try:
            with writing(f"scene {spec.scene}: job {spec.name} in {part.parent}"):
                part.mkdir(parents=True)
                self._start(spec, part)
        finally:
            shutil.rmtree(part, ignore_errors=True)  # if it has not become the job's folder
        status = self.find(spec.name)
        assert status is not None
        return status

    def _start(self, spec: JobSpec, part: Path) -> None:
        """Fill a job's folder, rename it to the job's name, and start the job. Do nothing if the job exists."""
        final = self._job(spec.name)
        for name, text in spec.files.items():
            write_durably(part / "files" / name, text)
        for name in spec.outputs:
            (part / "outputs" / name).mkdir(parents=True)
        for name in spec.scratch:
            self._scratch(spec, name).mkdir(parents=True, exist_ok=True)
        code.copy_to(part / "code", spec.stage)

        def place(group: str, name: str) -> str:
            if group == "inputs":
                return spec.inputs[name].uri
            return str(self._scratch(spec, name) if group == "scratch" else final / group / name)

        run = {
            "command": [self._python, "-m", f"jobs.{spec.stage}", *spec.resolve(place)],
            "environment": {"PYTHONPATH": str(final / "code"), **FOR_PYTHON},
            "slots": self._slots(spec.tier),
            "gpus": gpus() if spec.tier == "gpu" else [],
            "time_limit": spec.time_limit,
        }
        write_durably(part / "run.json", json.dumps(run, indent=2))
        write_durably(part / "spec.json", spec.model_dump_json(indent=2))
        alive = supervisor.lock(part / "alive")
        assert alive is not None
        with alive:
            try:
                part.rename(final)
            except OSError:
                if not final.exists():
                    raise
            else:
                # The supervisor inherits the lock, so the job is never seen without a holder.
                subprocess.run(
                    [sys.executable, "-I", supervisor.__file__, str(final), str(alive.fileno())],
                    env=child_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[alive.fileno()],
                    check=True,
                )

    def read_log(self, name: str, offset: int) -> tuple[str, int]:
        try:
            with (self._job(name) / "std_log.txt").open("rb") as log:
                log.seek(offset)
                content = log.read()
        except FileNotFoundError:
            return "", offset
        whole = content[: content.rfind(b"\n") + 1]
        return whole.decode(errors="replace"), offset + len(whole)

    def cancel(self, name: str) -> None:
        folder = self._job(name)
        if not folder.exists():
            return
        while not unlocked(folder / "alive"):
            (folder / "cancel").touch()
            status = _read_status(folder)
            if "supervisor" in status and not unlocked(folder / "supervised"):
                supervisor.wake(status)
            elif "group" in status:
                supervisor.end_group(status["group"], lambda: unlocked(folder / "alive"))
            time.sleep(0.1)

    def output(self, job: str, name: str) -> Path:
        """Return the folder of a job's output.

        Raises:
            NotFound: it does not exist.
        """
        folder = self._job(job) / "outputs" / name
        if not folder.is_dir():
            raise NotFound(f"job {job} no longer has the output {name!r} in {folder.parent}.")
        return folder

    def output_sizes(self, job: str, output: str) -> dict[str, int]:
        source = self.output(job, output)
        return {file.relative_to(source).as_posix(): file.stat().st_size for file in files_below(source)}

    def discard(self, spec: JobSpec) -> None:
        """Delete a job's outputs and scratch folders, which are of no use after its result is registered."""
        shutil.rmtree(self._job(spec.name) / "outputs", ignore_errors=True)
        shutil.rmtree(self._home / "scratch" / spec.family, ignore_errors=True)

    def _job(self, name: str) -> Path:
        return self._home / "jobs" / name

    def _scratch(self, spec: JobSpec, name: str) -> Path:
        return self._home / "scratch" / spec.family / name

    def _slots(self, tier: Tier) -> list[str]:
        folder = self._home / "slots"
        folder.mkdir(exist_ok=True)
        # A CPU job, structure from motion, uses several cores.
        at_once = {"gpu": self._gpu_jobs or max(1, len(gpus())), "cpu": max(1, (os.cpu_count() or 1) // 4)}
        return [str(folder / f"{tier}-{index}") for index in range(at_once[tier])]


def gpus() -> list[str]:
    """Return the indices of the CUDA GPUs that jobs may use, as CUDA_VISIBLE_DEVICES takes them.

    If that variable is set, CUDA sees the GPUs in it up to the first that is not valid: "" or "-1" hides all.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return list(takewhile(_GPU.fullmatch, (each.strip() for each in visible.split(","))))
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return listing.stdout.split() if listing.returncode == 0 else []


def _place(folder: Path) -> tuple[int, str]:
    """Return a queued job's place in its line, and the job before it; 0 and "" if unknown."""
    try:
        return supervisor.place_of(folder.name, json.loads((folder / "run.json").read_bytes())["slots"])
    except (OSError, ValueError):  # the line has just moved on
        return 0, ""


class _Status(TypedDict, total=False):
    """The content of a job's `status.json`, as the supervisor writes it."""

    state: JobState
    reason: str
    group: int
    supervisor: int
    started: float
    ended: float
    seconds: float
    deadline: float
    over_limit: str


_STATUS = TypeAdapter(_Status)


def _read_status(folder: Path) -> _Status:
    try:
        return _STATUS.validate_json((folder / "status.json").read_bytes())
    except (OSError, ValueError):  # not written yet, or lost when the machine lost power
        return {}
