"""Open the viewer: of a running job, or of a registered model."""

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
from dataclasses import dataclass
from pathlib import Path

import jobs
from blocks import Asset, JobState, JobStatus, LocalWorkspace, Workspace
from jobs import report
from jobs.environment import FOR_PYTHON, child_environment
from jobs.errors import InvalidInput, JobFailed, WorkspaceUnavailable
from jobs.report import Failure, PageReport, Progress
from tasks.scene_frame import scene_frame_of

__all__ = ["OpenPage", "ServedPage", "find_training", "opened_page", "served_page", "until_ended", "wait_for_page"]

_LONGEST_PAUSE_SECONDS = 5.0  # a person is waiting
_LAST_LINES = 15
_CODE = Path(jobs.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Training:
    """A job that trains a scene, and the page that it serves; None until it does."""

    status: JobStatus
    page: PageReport | None


@dataclass(frozen=True)
class ServedPage:
    """A page that a running job serves, at a port of the job's machine."""

    job: str
    port: int


def find_training(workspace: Workspace, scene: str) -> Training | None:
    """Find the job that trains a scene.

    A job that already reports figures but has no page is skipped: it will not serve one.
    """
    name = re.compile(rf"{re.escape(scene)}-train-[^-]+-[0-9a-f]{{8}}(-\d+)?-\d+")  # a scene may be called a-train-b
    for job in workspace.followers():
        status = workspace.find_job(job) if name.fullmatch(job) else None
        if status is None or status.state.ended:
            continue
        reports = list(_reports(workspace, job)) if status.state is JobState.RUNNING else []
        page = next((report for report in reversed(reports) if isinstance(report, PageReport)), None)
        if page or not any(isinstance(report, Progress) and report.metrics for report in reports):
            return Training(status, page)
    return None


def _reports(workspace: Workspace, job: str) -> Iterator[object]:
    """Yield what a job has reported so far."""
    offset = 0
    while True:
        text, offset = workspace.read_log(job, offset)
        if not text:
            return
        yield from map(report.parse, text.splitlines())


def wait_for_page(workspace: Workspace, scene: str, say: Callable[[str], None]) -> ServedPage | None:
    """Wait until the job that trains a scene serves its page. Return None if there is no job, or it ended before.

    Args:
        workspace, scene: what to look at.
        say: called with a message for the person who waits.
    """
    last_news, start = "", time.monotonic()
    while True:
        try:
            training = find_training(workspace, scene)
            if training is None:
                return None
            if training.page:
                return ServedPage(training.status.name, training.page.port)
            status = training.status
            state = "queued" if status.state is JobState.QUEUED else "starting"
            news = f"{status.name} is {state}: waiting for its viewer.{f' {status.reason}.' if status.reason else ''}"
        except WorkspaceUnavailable as error:
            if not last_news:  # nothing is known yet
                raise
            news = f"{error}; trying again."
        if news != last_news:
            say(news if last_news else f"{news} Ctrl-C stops waiting; --model-version shows a registered model.")
            last_news = news
        time.sleep(_pause(workspace, start))


@dataclass(frozen=True)
class OpenPage:
    """A page of a running job that a browser can open.

    Args:
        link: the page's URL.
        tunnel: the process of this machine that keeps the connection open, if one is needed.
    """

    link: str
    tunnel: subprocess.Popen[bytes] | None = None


@contextmanager
def opened_page(workspace: Workspace, page: ServedPage, port: int) -> Iterator[OpenPage]:
    """Open the connection to a running job's page, and close it at the end.

    Args:
        workspace, page: what to open.
        port: the port of this machine to use if the connection needs one.

    Raises:
        NotFound, InvalidInput: the job cannot be reached, or the port is taken.
        WorkspaceUnavailable: the connection could not be opened.
    """
    address = workspace.reach(page.job, page.port, port)
    if not address.command:
        yield OpenPage(address.link)
        return
    if _answers(port):
        raise InvalidInput(f"port {port} of this machine is taken (by another viewer?): choose another with --port")
    with subprocess.Popen(address.command, env=child_environment(address.variables)) as tunnel:
        try:
            while not _answers(port):
                if tunnel.poll() is not None:
                    raise WorkspaceUnavailable(
                        f"the connection to {page.job} could not be opened: its command ended with "
                        f"{tunnel.returncode}, and printed why above. The command: {shlex.join(address.command)}"
                    )
                time.sleep(0.2)
            yield OpenPage(address.link, tunnel)
        finally:
            tunnel.terminate()


def until_ended(workspace: Workspace, job: str, tunnel: subprocess.Popen[bytes]) -> str:
    """Wait until a job has ended, and return how, in one word. Its page stays open meanwhile.

    Raises:
        WorkspaceUnavailable: the connection was cut before.
    """
    start = time.monotonic()
    while True:
        closed = tunnel.poll()  # first: the connection ends when the job ends, too
        status = None
        with suppress(WorkspaceUnavailable):  # a failing poll is not a failing job
            status = workspace.find_job(job)
        if status and status.state.ended:
            return status.state.value.lower()
        if status and closed is not None:
            raise WorkspaceUnavailable(
                f"the connection to {job} was closed although the job runs: its command ended with {closed}. "
                "Run the same command again."
            )
        with suppress(subprocess.TimeoutExpired):
            tunnel.wait(_pause(workspace, start))


def _pause(workspace: Workspace, start: float) -> float:
    return min(_LONGEST_PAUSE_SECONDS, workspace.poll_seconds(time.monotonic() - start))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def served_page(workspace: Workspace, dataset: Asset, model: Asset, port: int) -> Iterator[Iterator[str]]:
    """Serve the viewer of a model in a process of this machine. Inside, it answers, and its output can be read.

    Raises:
        InvalidInput: the port is taken, or the model cannot be shown.
        JobFailed: the process failed, or ended while its output was read. The text has its last lines.
    """
    python = workspace.python if isinstance(workspace, LocalWorkspace) else sys.executable
    places = ("--model", str(workspace.fetch(model)), "--dataset", str(workspace.fetch(dataset)), "--port", str(port))
    about = ("--version", str(model), "--frame", scene_frame_of(dataset))
    program = [python, "-m", "jobs.view", *places, *about]
    with subprocess.Popen(
        program,
        env={**child_environment(), "PYTHONPATH": str(_CODE), **FOR_PYTHON},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as serving:
        try:
            lines = _printed(model, serving)
            while not isinstance(report.parse(next(lines)), PageReport):
                pass
            yield lines
        finally:
            with suppress(ProcessLookupError):  # also end the processes that load photos
                os.killpg(serving.pid, signal.SIGTERM)


def _printed(model: Asset, serving: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines that the viewer of a model prints. When it ends, raise its error."""
    assert serving.stdout
    last: deque[str] = deque(maxlen=_LAST_LINES)
    for line in serving.stdout:
        if isinstance(found := report.parse(line), Failure):
            raise found.exception()
        last.append(line)
        yield line
    raise JobFailed(f"the viewer of {model} ended with {serving.wait()}:\n{''.join(last)}")
