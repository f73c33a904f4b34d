"""Lose a machine at every possible moment, and return what storage then contains. Fill a disk."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["files_of_at_most", "lost_anywhere", "torn"]

_OPERATIONS = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link")


class _Lost(BaseException):
    """The machine is gone."""


class _Machine:
    """Counts the operations on files in a folder, and refuses all from the one of a number."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.left = 0
        self.written: Path | None = None
        sys.addaudithook(self._look)  # Python's own; it cannot be removed

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or not (event == "open" or event in _OPERATIONS):
            return
        path = arguments[0]
        if isinstance(path, int) or not Path(os.fsdecode(path)).is_relative_to(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if self.left == 0:
            raise _Lost
        self.left -= 1
        if event == "open":
            self.written = Path(os.fsdecode(path))


_machine = _Machine()


def lost_anywhere(folder: Path, before: Path, work: Callable[[], object]) -> Iterator[Path | None]:
    """Repeat the work, each time up to one more operation on files in the folder, until it completes.

    Nothing can be changed in the folder after the operation at which the machine is lost, not even tidied up.

    Args:
        folder: where the work is done.
        before: a folder with what is there before it.
        work: what is done.

    Yields:
        The file that was written last, None if none was; once for each operation that the work comes to.
    """
    number = 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        _machine.left, _machine.written, _machine.folder = number, None, folder
        try:
            work()
            return
        except _Lost:
            pass
        finally:
            _machine.folder = None
        yield _machine.written
        number += 1


def torn(content: bytes) -> Iterator[bytes | None]:
    """Yield what storage may hold of a file that was being written: nothing at all (None), or too little of it."""
    yield None
    for share in range(4):
        yield content[: len(content) * share // 4]
    yield content[:-1]
    yield content[:-1] + bytes([content[-1] ^ 1])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system refuse larger files: to a program, a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
