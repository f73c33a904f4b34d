"""Pass on news of this process's runs to listeners, such as the display on a terminal or the worker's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from blocks import Asset, JobStatus
from blocks.records import Tier
from jobs.report import Progress

__all__ = ["News", "tell", "watching"]


@dataclass(frozen=True)
class News:
    """A change in the state or the progress of a stage.

    Args:
        stage: the stage's name: "train".
        part: which part of it, if it is done in parts; "" for the whole.
        state: waiting for something, running, or done.
        words: what it waits for, or what it does; "" if that is obvious.
        progress: what its job reported last.
        asset: its result, once it is done.
        was_there: whether the result was registered before this run.
        ended: the status of its job, once the job has ended.
        tier: the kind of machine on which that job ran.
    """

    stage: str
    part: str = ""
    state: Literal["waiting", "running", "done"] = "running"
    words: str = ""
    progress: Progress | None = None
    asset: Asset | None = None
    was_there: bool = False
    ended: JobStatus | None = None
    tier: Tier = "gpu"


Listener = Callable[[News], None]

_listeners: list[Listener] = []


@contextmanager
def watching(listener: Listener) -> Iterator[None]:
    """Call `listener` with all news of this process's runs. It is called in the thread that has the news."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(news: News) -> None:
    """Pass news to all listeners."""
    for listener in list(_listeners):
        listener(news)
