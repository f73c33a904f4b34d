"""Measure free main memory, and share it between threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import InvalidInput

__all__ = ["Room", "available", "check"]


def available() -> int:
    """Return the bytes of main memory that the system and the control group still allow this process."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        kilobytes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(kilobytes["MemAvailable"].split()[0]) * 1024
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):
        pass  # not Linux, or no limit
    return free


def check(needed: int) -> None:
    """Raise `InvalidInput` if decoding a file needs more memory than is free; the text is the reason alone."""
    if needed > (free := available()):
        raise InvalidInput(
            f"too large to decode here: about {needed / 1e9:.1f} GB of memory are needed, {free / 1e9:.1f} GB are free"
        )


class Room:
    """A number of bytes that threads share. A request that is larger than all of it runs alone."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._change = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold `size` bytes. Wait until they fit, or until no other thread holds any."""
        with self._change:
            self._change.wait_for(lambda: self._taken == 0 or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._change:
                self._taken -= size
                self._change.notify_all()
