"""Read files of a capture, and notice that one changes or vanishes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from jobs.errors import InvalidInput
from jobs.opening import open_plain

__all__ = ["Stamp", "changed", "reading", "stamp"]


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
        raise _vanished(file) from None
    return Stamp(stat.st_size, stat.st_mtime_ns)


@contextmanager
def reading(file: Path) -> Iterator[BufferedReader]:
    """Open a file of a capture.

    Args:
        file: a path without links, see `jobs.opening`.

    Raises:
        InvalidInput: it is gone, is now a link or no regular file, or cannot be read.
    """
    try:
        stream = open_plain(file)
    except FileNotFoundError:
        raise _vanished(file) from None
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}). Has somebody replaced it by a link?") from None
    with stream:
        yield stream


def _vanished(file: Path) -> InvalidInput:
    """Return the error for a file that is gone."""
    return InvalidInput(f"{file} vanished while it was read. Is an upload or a clean-up running?")


def changed(file: Path) -> InvalidInput:
    """Return the error for a file that was written while it was read."""
    return InvalidInput(f"{file} changed while it was read. If it is still being written, wait for that to end.")
