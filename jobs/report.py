"""How a job reports to the flow that follows it: lines of JSON on standard output, and its exit status.

A progress line is `{"stage", "step", "total", "metrics", "seconds_left", "time"}`, a page line
`{"stage", "page", "port"}`, a result line `{"stage", "result"}`, a failure line `{"stage", "error", "message"}`.
Every other line on standard output is plain log.
"""

from __future__ import annotations

import atexit
import gc
import json
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from jobs import errors

EXIT_REFUSED = 65  # EX_DATAERR of sysexits.h: the same input will be refused again
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: another attempt can succeed


@dataclass(frozen=True)
class Progress:
    """The progress of one step of a stage.

    Args:
        stage: the stage's name and, after a colon, its current step: "prepare:features".
        step: number of finished units.
        total: number of all units of this step (photos, iterations, frames).
        metrics: the latest figures by name, e.g. {"psnr": 21.3}.
        seconds_left: estimated remaining time of the step; None if unknown.
        time: when the line was printed, in seconds since 1970 by the job's clock.
    """

    stage: str
    step: int
    total: int
    metrics: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    time: float | None = field(default=None, compare=False)

    @property
    def percent(self) -> float:
        """Return the finished share, 0 to 100."""
        return 100.0 * self.step / self.total if self.total else 0.0

    def __str__(self) -> str:
        figures = "".join(f", {name} {value:.4g}" for name, value in self.metrics.items())
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return f"{self.stage} {self.step}/{self.total} ({self.percent:.0f} %){figures}{left}"


@dataclass(frozen=True)
class PageReport:
    """A web page that a job serves while it runs, at a port of its machine."""

    stage: str
    page: str
    """The kind of page: "viewer"."""
    port: int


@dataclass(frozen=True)
class Figures:
    """The main figures of a stage's result. They become tags of the asset."""

    stage: str
    result: dict[str, str | int | float]


@dataclass(frozen=True)
class Failure:
    """Why a job ended without a result. `error` is the name of a class of `jobs.errors` or of another exception."""

    stage: str
    error: str
    message: str

    def exception(self) -> errors.RebelNerfError:
        """Return the error of `jobs.errors` that this line names, or `JobFailed` for another exception."""
        known = getattr(errors, self.error, None)
        if isinstance(known, type) and issubclass(known, errors.RebelNerfError):
            return known(self.message)
        return errors.JobFailed(f"{self.error}: {self.message}")


def duration(seconds: float) -> str:
    """Return a length of time as text: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def emit(line: Progress | PageReport | Figures | Failure) -> None:
    """Print one line for the flow. Metrics that JSON cannot express (NaN, infinity) are left out."""
    content = asdict(line)
    if isinstance(line, Progress):
        content["time"] = round(time.time(), 1)
        content["metrics"] = {k: round(v, 6) for k, v in line.metrics.items() if math.isfinite(v)}
        if line.seconds_left is not None:
            content["seconds_left"] = round(line.seconds_left, 1)
    print(json.dumps(content), flush=True)


_KINDS: dict[str, type[Progress | PageReport | Figures | Failure]] = {
    "error": Failure,
    "result": Figures,
    "page": PageReport,
}


def parse(line: str) -> Progress | PageReport | Figures | Failure | None:
    """Return the report in one line of a job's log, or None for plain text."""
    if not line.startswith('{"stage"'):
        return None
    try:
        content = json.loads(line)
        kind = next((kind for name, kind in _KINDS.items() if name in content), Progress)
        return kind(**content)
    except (ValueError, TypeError):
        return None


class Meter:
    """Reports the progress of one step every few seconds, with the remaining time at the average pace.

    Args:
        stage: see `Progress`.
        total: number of all units.
        done: number of units that an earlier attempt finished.
        every: the least number of seconds between two lines.
    """

    def __init__(self, stage: str, total: int, *, done: int = 0, every: float = 2.0) -> None:
        self._stage, self._total, self._first, self._every = stage, total, done, every
        self._done = done
        self._start = time.monotonic()
        self._last = -math.inf
        self.update(done)

    def update(self, step: int, metrics: dict[str, float] | None = None) -> None:
        """Report that `step` units are finished. The last unit is always reported."""
        self._done = step
        now = time.monotonic()
        if step < self._total and now - self._last < self._every:
            return
        self._last = now
        done = step - self._first
        left = (now - self._start) / done * (self._total - step) if done > 0 else None
        emit(Progress(self._stage, step, self._total, metrics or {}, left))

    def advance(self) -> None:
        """Report that one more unit is finished."""
        self.update(self._done + 1)


def interruption(words: str) -> Callable[..., NoReturn]:
    """Return a handler for SIGTERM that ends the job with `JobInterrupted` and this text."""

    def interrupted(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not disturb the shutdown
        raise errors.JobInterrupted(words)

    return interrupted


def end_imports() -> None:
    """Keep the garbage collector from what a program has imported.

    These objects, a million with nerfstudio, live until the end. To look for garbage among them, and once more at the
    end, takes a third of the CPU time of a short program.
    """
    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)  # with what is imported later


def run(stage: str, main: Callable[[], None]) -> None:
    """Run a job's program, report an error as a `Failure` line, and exit with the matching status."""
    end_imports()
    try:
        main()
    except Exception as raised:
        error = _interruption_behind(raised) or raised
        known = isinstance(error, errors.RebelNerfError)
        if not known:
            traceback.print_exc()
        emit(Failure(stage, type(error).__name__, str(error) or "the exception has no text"))
        if not known:
            sys.exit(1)
        sys.exit(EXIT_INTERRUPTED if errors.is_transient(error) else EXIT_REFUSED)


def _interruption_behind(error: BaseException | None) -> errors.JobInterrupted | None:
    """Return the interruption that a library caught and raised again as its own error, if there is one."""
    while error is not None and not isinstance(error, errors.JobInterrupted):
        error = error.__cause__ or error.__context__
    return error
