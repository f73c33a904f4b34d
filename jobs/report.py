"""What a job tells the one who follows it: one JSON object a line on standard output, and its exit status.

A progress line is `{"stage", "step", "total", "metrics", "seconds_left", "time"}`, a page line
`{"stage", "page", "port"}`, a result line `{"stage", "result"}`, a failure line `{"stage", "error", "message"}`.
Everything else on standard output is plain log.
"""

from __future__ import annotations

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
    """How far a stage is.

    Args:
        stage: the stage's name and, after a colon, the step of it that runs: "prepare:features".
        step: units done, out of `total`.
        total: units of the whole of this step (photos, iterations, frames).
        metrics: the newest figures by name, e.g. {"psnr": 21.3}.
        seconds_left: the estimated time to the end of the step; None while unknown.
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
        """Done, 0 to 100."""
        return 100.0 * self.step / self.total if self.total else 0.0

    def __str__(self) -> str:
        figures = "".join(f", {name} {value:.4g}" for name, value in self.metrics.items())
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return f"{self.stage} {self.step}/{self.total} ({self.percent:.0f} %){figures}{left}"


@dataclass(frozen=True)
class Page:
    """A page that a job serves while it runs, at a port of the machine that it runs on."""

    stage: str
    page: str
    """What it shows: "viewer"."""
    port: int


@dataclass(frozen=True)
class Result:
    """The figures by which a stage's result is known at a glance; they become tags of the asset."""

    stage: str
    result: dict[str, str | int | float]


@dataclass(frozen=True)
class Failure:
    """Why a job ended without its result: `error` is the name of a class of `jobs.errors`, or of any exception."""

    stage: str
    error: str
    message: str

    def exception(self) -> errors.RebelNerfError:
        """The error of `jobs.errors` that this line stands for; `JobFailed` for anything foreign."""
        known = getattr(errors, self.error, None)
        if isinstance(known, type) and issubclass(known, errors.RebelNerfError):
            return known(self.message)
        return errors.JobFailed(f"{self.error}: {self.message}")


def duration(seconds: float) -> str:
    """A length of time for people: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def emit(line: Progress | Page | Result | Failure) -> None:
    """Print one line for the follower; figures that JSON cannot hold (NaN, infinity) are left out."""
    content = asdict(line)
    if isinstance(line, Progress):
        content["time"] = round(time.time(), 1)
        content["metrics"] = {k: round(v, 6) for k, v in line.metrics.items() if math.isfinite(v)}
        if line.seconds_left is not None:
            content["seconds_left"] = round(line.seconds_left, 1)
    print(json.dumps(content), flush=True)


_KINDS: dict[str, type[Progress | Page | Result | Failure]] = {"error": Failure, "result": Result, "page": Page}


def parse(line: str) -> Progress | Page | Result | Failure | None:
    """The report in one line of a job's log, or None for plain text."""
    if not line.startswith('{"stage"'):
        return None
    try:
        content = json.loads(line)
        kind = next((kind for name, kind in _KINDS.items() if name in content), Progress)
        return kind(**content)
    except (ValueError, TypeError):
        return None


class Meter:
    """Emits the progress of one step at most every `every` seconds, with the time left from the pace so far."""

    def __init__(self, stage: str, total: int, *, done: int = 0, every: float = 2.0) -> None:
        self._stage, self._total, self._first, self._every = stage, total, done, every
        self._done = done
        self._start = time.monotonic()
        self._last = -math.inf
        self.update(done)

    def update(self, step: int, metrics: dict[str, float] | None = None) -> None:
        """Say that `step` units are done; the last one is always emitted."""
        self._done = step
        now = time.monotonic()
        if step < self._total and now - self._last < self._every:
            return
        self._last = now
        done = step - self._first
        left = (now - self._start) / done * (self._total - step) if done > 0 else None
        emit(Progress(self._stage, step, self._total, metrics or {}, left))

    def advance(self) -> None:
        """Say that one more unit is done."""
        self.update(self._done + 1)


def interruption(words: str) -> Callable[..., NoReturn]:
    """A handler of SIGTERM that ends a job as interrupted, with these words."""

    def interrupted(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the end
        raise errors.JobInterrupted(words)

    return interrupted


def run(stage: str, main: Callable[[], None]) -> None:
    """Run a job's program and end the process: the one way in which a job's outcome reaches its follower."""
    try:
        main()
    except Exception as raised:
        error = _interruption_behind(raised) or raised
        known = isinstance(error, errors.RebelNerfError)
        if not known:
            traceback.print_exc()
        emit(Failure(stage, type(error).__name__, str(error) or "no further words"))
        if not known:
            sys.exit(1)
        sys.exit(EXIT_INTERRUPTED if errors.is_transient(error) else EXIT_REFUSED)


def _interruption_behind(error: BaseException | None) -> errors.JobInterrupted | None:
    """The interruption that struck in the middle of a library, which made an error of its own of it."""
    while error is not None and not isinstance(error, errors.JobInterrupted):
        error = error.__cause__ or error.__context__
    return error
