"""Notice that a file of this machine changes or vanishes while it is read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jobs.errors import InvalidInput

__all__ = ["Stamp", "changed", "stamp", "vanished"]


class Stamp(NamedTuple):
    """A file's size in bytes and the time of its last change in ns. It differs if the file was written meanwhile."""

    size: int
    modified: int


def stamp(file: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        InvalidInput: the file is gone.
    """
    try:
        stat = file.stat()
    except FileNotFoundError:
        raise vanished(file) from None
    return Stamp(stat.st_size, stat.st_mtime_ns)


def vanished(file: Path) -> InvalidInput:
    """Return the error for a file that is gone."""
    return InvalidInput(f"{file} vanished while it was read. Is an upload or a clean-up running?")


def changed(file: Path) -> InvalidInput:
    """Return the error for a file that was written while it was read."""
    return InvalidInput(f"{file} changed while it was read. If it is still being written, wait for that to end.")
