"""Follow a job: its state, its log, and what it reports."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from prefect import get_run_logger

from blocks import JobSpec, JobState, JobStatus, Workspace
from blocks.retries import POLL_SECONDS
from jobs.errors import (
    JobCancelled,
    JobFailed,
    JobInterrupted,
    RebelNerfError,
    WorkspaceUnavailable,
)
from jobs.report import Failure, Figures, PageReport, Progress, parse
from tasks.curves import Curves
from tasks.gpu_slots import waits_for
from tasks.news import News, tell
from tasks.progress import ProgressReporter, close_page, show_page
from tasks.wanted import raise_if_stopped

__all__ = ["Outcome", "follow_to_end", "read_figures"]

_LOG_LINES_IN_AN_ERROR = 15
_SILENT_SECONDS = 10.0  # every job is queued at first: no message before that
_LONGEST_SLEEP_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """What a completed job reported.

    Args:
        figures: the figures of its result, which become tags.
        seconds: how long it ran.
    """

    figures: dict[str, str]
    seconds: float


async def follow_to_end(workspace: Workspace, spec: JobSpec, follower: str) -> Outcome:
    """Follow a job until it completes, and show its log and progress in Prefect.

    Raises:
        RebelNerfError: see `tasks.run.run_to_end`.
        WorkspaceUnavailable: the workspace did not answer for half an hour.
    """
    reporter, curves, log = ProgressReporter(spec), Curves(workspace, spec.name), _Log()
    states = _States(spec, reporter)
    shown: UUID | None = None
    start = answered = time.monotonic()
    offset = 0
    while True:
        try:
            await asyncio.to_thread(workspace.follow, spec.name, follower)
            status = await asyncio.to_thread(workspace.find_job, spec.name)
            text, offset = await asyncio.to_thread(workspace.read_log, spec.name, offset)
            answered = time.monotonic()
        except WorkspaceUnavailable as error:  # a poll that fails is not a job that failed
            if time.monotonic() - answered > POLL_SECONDS:
                raise
            get_run_logger().warning("%s; the job goes on, trying again", error)
            await _wait(workspace.poll_seconds(time.monotonic() - start), spec)
            continue
        if status:
            await states.show(status)
        for report in log.read(text):
            if isinstance(report, Progress):
                curves.add(report)
                await reporter.update(report)
            elif status and not status.state.ended:
                shown = await show_page(workspace, spec, report)
        if status is None:
            raise JobFailed(
                f"scene {spec.scene}: job {spec.name} no longer exists in {workspace.identity}. Run the flow again."
            )
        if status.state.ended and not text:  # the whole log has been read
            break
        await curves.post()
        if not status.state.ended:
            await _wait(workspace.poll_seconds(time.monotonic() - start), spec)
    tell(News(spec.stage, spec.part, ended=status, tier=spec.tier))
    await curves.end(log.figures)
    if shown:
        await close_page(workspace, spec, shown)
    if status.state is JobState.COMPLETED:
        await reporter.done()
        return Outcome(_as_tags(log.figures), status.seconds)
    raise _error(spec, status, log)


class _States:
    """Shows the changes of a job's state, and what a queued job waits for."""

    def __init__(self, spec: JobSpec, reporter: ProgressReporter) -> None:
        self._spec, self._reporter = spec, reporter
        self._reason = ""
        self._state: JobState | None = None
        self._in_line = time.monotonic()

    async def show(self, status: JobStatus) -> None:
        """Show what has changed since the last call."""
        name, state, reason = self._spec.name, status.state, status.reason
        if reason != self._reason and not state.ended:  # no quota, no node …
            self._reason = reason
            get_run_logger().warning("job %s is %s: %s", name, state.value.lower(), reason or "as before")
        if state is not self._state:
            self._state = state
            if state is JobState.RUNNING:
                tell(News(self._spec.stage, self._spec.part))
        if state is JobState.QUEUED:
            if status.behind:
                self._in_line = time.monotonic()
                await self._reporter.wait(waits_for(self._spec.tier, status.place, status.behind))
            elif reason or time.monotonic() - self._in_line > _SILENT_SECONDS:
                await self._reporter.wait(f"is queued{f': {reason}' if reason else ''}")


class _Log:
    """What a job's log says, as far as it has been read: its figures, its failure, and the last lines for people."""

    def __init__(self) -> None:
        self.figures: dict[str, str | int | float] = {}
        self.failure: Failure | None = None
        self.last_lines: deque[str] = deque(maxlen=_LOG_LINES_IN_AN_ERROR)

    def read(self, text: str) -> Iterator[Progress | PageReport]:
        """Read the next whole lines, and yield the progress and the pages in them."""
        for line in text.splitlines():
            report = parse(line)
            if isinstance(report, Progress | PageReport):
                yield report
            elif isinstance(report, Figures):
                self.figures |= report.result
            elif isinstance(report, Failure):
                self.failure = report
            else:
                self.last_lines.append(line)


def read_figures(workspace: Workspace, job: str) -> dict[str, str]:
    """Return the figures of a job's result from its log, as tags."""
    result: dict[str, str | int | float] = {}
    text, offset = workspace.read_log(job, 0)
    while text:
        for report in map(parse, text.splitlines()):
            if isinstance(report, Figures):
                result |= report.result
        text, offset = workspace.read_log(job, offset)
    return _as_tags(result)


def _as_tags(result: dict[str, str | int | float]) -> dict[str, str]:
    return {name: str(value) for name, value in result.items()}


async def _wait(seconds: float, spec: JobSpec) -> None:
    """Wait. If this flow run is cancelled or suspended meanwhile, leave it within seconds, with or without a worker."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        await raise_if_stopped(spec)
        await asyncio.sleep(min(left, _LONGEST_SLEEP_SECONDS))


def _error(spec: JobSpec, status: JobStatus, log: _Log) -> RebelNerfError:
    """Return the error for a job that ended without its result."""
    what = f"scene {spec.scene}, {spec.stage}"
    if status.state is JobState.CANCELED:
        return JobCancelled(f"{what}: job {spec.name} was cancelled.")
    if log.failure and status.state is JobState.FAILED:
        error = log.failure.exception()
        return type(error)(f"{what}: {error} (log: {status.url})")
    lines = "\n".join(["", "The last lines of its log:", *log.last_lines] if log.last_lines else [""])
    kind = JobInterrupted if status.state is JobState.INTERRUPTED else JobFailed
    return kind(f"{what}: job {spec.name}: {status.reason} ({status.url}){lines}")
