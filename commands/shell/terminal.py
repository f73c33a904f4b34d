"""Show the progress of a run: one live line per stage on a terminal, or plain lines in a file."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from commands.shell.results import words_of
from jobs.report import Progress, duration
from tasks.news import News

__all__ = ["Display"]

_STEPS = {
    "facade:street": "photographing",
    "facade:photos": "photographing",
    "prepare:reading": "reading photos",
    "prepare:features": "finding features",
    "prepare:matching": "matching photos",
    "prepare:mapping": "finding poses",
    "prepare:writing": "writing",
    "train": "training",
    "train:evaluate": "measuring",
    "render": "rendering",
    "page:photos": "photos",
}
_UNITS = {"train": "steps/s", "render": "frames/s", "prepare:features": "photos/s", "prepare:matching": "pairs/s"}

# The remaining time is shown only after this share of a step, and after so many seconds. It is estimated from the pace
# of the last seconds, because a step is slowest at its beginning.
_LEAST_SHARE, _LEAST_SECONDS, _PACE_SECONDS = 0.04, 10.0, 30.0
_PERCENT_BETWEEN_LINES, _SECONDS_BETWEEN_LINES = 25, 15.0
_NARROW = 90  # columns; on a narrower terminal, the pace is left out


@dataclass
class _Row:
    """A stage and its progress."""

    name: str
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    words: str = ""
    started: float | None = None
    seconds: float | None = None
    progress: Progress | None = None
    pace: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, progress: Progress, now: float) -> None:
        """Note the progress of the stage's job."""
        if self.progress is None or self.progress.stage != progress.stage:
            self.pace.clear()
        self.progress = progress
        self.pace.append((progress.time or now, progress.step))
        while len(self.pace) > 2 and self.pace[-1][0] - self.pace[1][0] >= _PACE_SECONDS:
            self.pace.popleft()

    @property
    def rate(self) -> float | None:
        """Return the recent units per second; None if there is no useful estimate yet."""
        (first, before), (last, after) = self.pace[0], self.pace[-1]
        if last - first < _LEAST_SECONDS or after == before:
            return None
        return (after - before) / (last - first)

    @property
    def left(self) -> str:
        """Return the remaining time of this step in words; "" if there is no useful estimate yet."""
        progress = self.progress
        if progress is None or not self.pace or progress.step < _LEAST_SHARE * progress.total or not self.rate:
            return ""
        return f"{duration((progress.total - progress.step) / self.rate)} left"

    @property
    def step(self) -> str:
        """Return what the stage is doing, in words."""
        if self.words:
            return self.words
        if self.progress is None:
            return "starting"
        return _STEPS.get(self.progress.stage, self.progress.stage.rpartition(":")[2])


class Display(AbstractContextManager["Display"]):
    """Shows the progress of a run on standard error.

    Args:
        stages: the names of the expected stages, in order. Other stages are added when they begin.
        console: where to show it; standard error if not given.
        clock: returns the time in seconds.
    """

    def __init__(
        self, stages: Sequence[str], console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._rows: dict[str, _Row] = {name: _Row(name) for name in stages}
        self._clock = clock
        self._start = clock()
        self._preparing = ""
        self._spinner = Spinner("dots")
        self._lock = threading.Lock()
        self._printed: dict[str, tuple[str, float, float]] = {}
        live = Live(self, console=self._console, refresh_per_second=8, transient=False)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live: AbstractContextManager[object] = live if self._is_live else nullcontext()

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            for row in self._rows.values():
                if row.state == "running":
                    row.state, row.seconds = "failed", self._spent(row)
            self._preparing = ""
        self._live.__exit__(kind, None, None)

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._start

    def prepare(self, words: str) -> None:
        """Show what is done before the first stage."""
        self._preparing = words
        self._plainly(words)

    def warn(self, text: str) -> None:
        """Show a lasting line above the stages."""
        self._console.print(Text(f"! {text}", style="yellow"), soft_wrap=not self._console.is_terminal)

    def take(self, news: News) -> None:
        """Show the news of a stage."""
        name, now = f"{news.stage} {news.part}".strip(), self._clock()
        with self._lock:
            self._preparing = ""
            row = self._rows.setdefault(name, _Row(name))
            if row.started is None and news.state != "waiting":
                row.started = now
            row.state, row.words = news.state, news.words or (row.words if news.stage == "capture" else "")
            if news.progress:
                row.take(news.progress, time.time())
            if news.state == "done":
                row.seconds = self._spent(row)
                row.words = words_of(news) or row.words
        self._say(row)

    def _spent(self, row: _Row) -> float:
        return 0.0 if row.started is None else self._clock() - row.started

    # without a terminal, or on one that cannot move its cursor (TERM=dumb)

    def _plainly(self, text: str) -> None:
        if not self._is_live:
            self._console.print(Text(text), soft_wrap=True)

    def _say(self, row: _Row) -> None:
        """Print a line if a stage begins, reaches another step, has advanced by a quarter, or is done."""
        if self._is_live:
            return
        percent = row.progress.percent if row.progress and row.state == "running" else 0.0
        what = f"{row.state} {row.step}"
        before, at, printed = self._printed.get(row.name, ("", 0.0, 0.0))
        now = self._clock()
        far = at + _PERCENT_BETWEEN_LINES <= percent < 100 and now - printed >= _SECONDS_BETWEEN_LINES
        if what == before and not far:
            return
        self._printed[row.name] = what, percent, now
        if row.state == "done":
            words = f", {row.words}" if row.words else ""
            self._plainly(f"{row.name}: done{words} ({duration(row.seconds or 0)})")
        elif row.state == "waiting":
            self._plainly(f"{row.name}: {row.words}")
        else:
            left = f", {row.left}" if row.left and percent else ""
            self._plainly(f"{row.name}: {row.step}{f' {percent:.0f} %' if percent else ''}{left}")

    # on a terminal

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield self._table(options.max_width)

    def _table(self, width: int) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        if self._preparing:
            table.add_row(self._spinner, Text("server"), Text(self._preparing), Text(""))
        for row in self._rows.values():
            table.add_row(*self._cells(row, width))
        table.add_row("", Text("total", style="dim"), "", Text(duration(self.seconds), style="dim"))
        return table

    def _cells(self, row: _Row, width: int) -> tuple[Text | Spinner, Text, Table | Text, Text]:
        name = Text(row.name, style="" if row.state != "waiting" or row.words else "dim")
        if row.state == "done":
            return Text("✓", style="green"), name, Text(row.words), Text(duration(row.seconds or 0), style="dim")
        if row.state == "failed":
            return Text("✗", style="red"), name, Text(row.words), Text(duration(row.seconds or 0), style="dim")
        if row.state == "waiting":
            return Text("·", style="dim"), name, Text(row.words), Text("")
        bar = Table.grid(padding=(0, 2, 0, 0))
        done: list[Text | ProgressBar] = [Text(f"{row.step:<16}")]
        if row.progress and row.progress.total:
            done += [
                ProgressBar(row.progress.total, row.progress.step, width=max(8, min(30, width - 64))),
                Text(f"{row.progress.percent:3.0f} %"),
            ]
            unit = _UNITS.get(row.progress.stage)
            if unit and row.pace and row.rate and width >= _NARROW:
                done.append(Text(f"{row.rate:.1f} {unit}"))
        bar.add_row(*done)
        return self._spinner, name, bar, Text(row.left or duration(self._spent(row)), style="dim")
