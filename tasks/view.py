"""Pages that can be looked at: of a job that runs, or of a model that stands."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jobs
from blocks import Asset, JobState, JobStatus, Workspace
from blocks.environment import job_environment
from jobs import report
from jobs.errors import InvalidInput, JobFailed, WorkspaceUnavailable
from jobs.report import Failure, Page, Progress
from tasks.frames import frame_of

__all__ = ["find_training", "opened_page", "served_page", "until_ended", "wait_for_page"]

_LONGEST_PAUSE_SECONDS = 5.0  # somebody sits there and waits
_LAST_LINES = 15
_CODE = Path(jobs.__file__).resolve().parent.parent


def find_training(workspace: Workspace, scene: str) -> tuple[JobStatus, Page | None] | None:
    """The job that trains a scene, and the page that it serves, None as long as that is to come.

    One that has no page and will have none, because it trains already, is passed over.
    """
    name = re.compile(rf"{re.escape(scene)}-train-[^-]+-[0-9a-f]{{8}}(-\d+)?-\d+")  # scenes may be called a-train-b
    for job in workspace.followers():
        status = workspace.find_job(job) if name.fullmatch(job) else None
        if status is None or status.state.ended:
            continue
        told = list(_told(workspace, job)) if status.state is JobState.RUNNING else []
        page = next((line for line in reversed(told) if isinstance(line, Page)), None)
        if page or not any(isinstance(line, Progress) and line.metrics for line in told):
            return status, page
    return None


def _told(workspace: Workspace, job: str) -> Iterator[object]:
    """What a job has reported so far."""
    offset = 0
    while True:
        text, offset = workspace.read_log(job, offset)
        if not text:
            return
        yield from map(report.parse, text.splitlines())


def wait_for_page(workspace: Workspace, scene: str, say: Callable[[str], None]) -> tuple[str, Page] | None:
    """The job that trains a scene, once it serves its page; None if there is none, or it ended before.

    Args:
        workspace, scene: where and of what.
        say: is given what a person should know who waits.
    """
    said, start = "", time.monotonic()
    while True:
        try:
            found = find_training(workspace, scene)
            if found is None or found[1]:
                return (found[0].name, found[1]) if found and found[1] else None
            status = found[0]
            state = "queued" if status.state is JobState.QUEUED else "starting"
            news = f"{status.name} is {state}: waiting for its viewer.{f' {status.reason}.' if status.reason else ''}"
        except WorkspaceUnavailable as error:
            if not said:  # nothing is known yet
                raise
            news = f"{error}; asking again."
        if news != said:
            say(news if said else f"{news} Ctrl-C ends waiting; --model-version shows a model that stands.")
            said = news
        time.sleep(_pause(workspace, start))


@contextmanager
def opened_page(
    workspace: Workspace, job: str, page: Page, port: int
) -> Iterator[tuple[str, subprocess.Popen[bytes] | None]]:
    """The link to a running job's page, and the process of this machine that keeps the way to it open, if it needs one.

    Args:
        workspace, job, page: what is to be looked at.
        port: of this machine, where there must be a way.

    Raises:
        NotFound, InvalidInput: there is no way to the job, or the port is taken.
        WorkspaceUnavailable: the way did not open.
    """
    *commands, link = workspace.reach(job, page.port, port).splitlines()
    if not commands:
        yield link, None
        return
    [command] = commands
    if _answers(port):
        raise InvalidInput(f"port {port} of this machine is taken (by another viewer?): choose another with --port")
    with subprocess.Popen(shlex.split(command)) as way:
        try:
            while not _answers(port):
                if way.poll() is not None:
                    raise WorkspaceUnavailable(
                        f"the way to {job} did not open: its command ended with {way.returncode}, and said why above. "
                        f"It was: {command}"
                    )
                time.sleep(0.2)
            yield link, way
        finally:
            way.terminate()


def until_ended(workspace: Workspace, job: str, way: subprocess.Popen[bytes]) -> str:
    """Wait until a job has ended, with the way to its page open; what became of it, in a word.

    Raises:
        WorkspaceUnavailable: the way was cut before.
    """
    start = time.monotonic()
    while True:
        closed = way.poll()  # asked first: a way ends with its job, too
        status = None
        with suppress(WorkspaceUnavailable):  # a failing poll is not a failing job
            status = workspace.find_job(job)
        if status and status.state.ended:
            return status.state.value.lower()
        if status and closed is not None:
            raise WorkspaceUnavailable(
                f"the way to {job} was closed though the job runs: its command ended with {closed}. "
                "Give the same command again."
            )
        with suppress(subprocess.TimeoutExpired):
            way.wait(_pause(workspace, start))


def _pause(workspace: Workspace, start: float) -> float:
    return min(_LONGEST_PAUSE_SECONDS, workspace.poll_seconds(time.monotonic() - start))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def served_page(workspace: Workspace, dataset: Asset, model: Asset, port: int) -> Iterator[Iterator[str]]:
    """A process of this machine that serves the viewer of a model; inside, it answers, and what it prints can be read.

    Raises:
        InvalidInput: the port is taken, or the model cannot be shown.
        JobFailed: it could not serve it, or ended while what it prints was read; its own words are in the text.
    """
    places = ("--model", str(workspace.fetch(model)), "--dataset", str(workspace.fetch(dataset)), "--port", str(port))
    about = ("--version", str(model), "--frame", frame_of(dataset))
    program = [getattr(workspace, "python", sys.executable), "-m", "jobs.view", *places, *about]
    with subprocess.Popen(
        program,
        env={**job_environment(), "PYTHONPATH": str(_CODE), "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as serving:
        try:
            lines = _printed(model, serving)
            while not isinstance(report.parse(next(lines)), Page):
                pass
            yield lines
        finally:
            with suppress(ProcessLookupError):  # the processes that load photos, too
                os.killpg(serving.pid, signal.SIGTERM)


def _printed(model: Asset, serving: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that the viewer of a model prints, and then the error of its end."""
    assert serving.stdout
    last: deque[str] = deque(maxlen=_LAST_LINES)
    for line in serving.stdout:
        if isinstance(told := report.parse(line), Failure):
            raise told.exception()
        last.append(line)
        yield line
    raise JobFailed(f"the viewer of {model} ended with {serving.wait()}:\n{''.join(last)}")
