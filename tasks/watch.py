"""News of a run for whoever started it from a terminal: a run tells, and a display in the same process listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from blocks import Asset
from jobs.report import Progress

__all__ = ["News", "tell", "watching"]


@dataclass(frozen=True)
class News:
    """What has just become of a stage.

    Args:
        stage: the stage's name: "train".
        part: which part of it, where it is done in parts; "" for the whole.
        state: waiting for something, running, or done.
        words: what it waits for, or "" where that is plain.
        progress: how far it is, as its job said last.
        asset: its result, once it is done.
        was_there: whether the result was registered before this run.
    """

    stage: str
    part: str = ""
    state: Literal["waiting", "running", "done"] = "running"
    words: str = ""
    progress: Progress | None = None
    asset: Asset | None = None
    was_there: bool = False


Listener = Callable[[News], None]

_listeners: list[Listener] = []


@contextmanager
def watching(listener: Listener) -> Iterator[None]:
    """Call `listener` with all news of this process's runs, from whichever thread has them."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(news: News) -> None:
    """Pass news on to whoever listens; in a worker, nobody does."""
    for listener in list(_listeners):
        listener(news)
