"""Report the progress of COLMAP's steps, and cancel a step before the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pycolmap

from jobs.report import Meter

__all__ = ["reported"]

_ROOM_BYTES = 16_000_000  # free disk space that COLMAP's steps must leave


@contextmanager
def reported(
    step: str, total: int, database: Path, count: Callable[[pycolmap.Database], int]
) -> Iterator[pycolmap.CancellationToken]:
    """Report the progress of a step from a thread that reads the step's database. Yield the step's cancellation token.

    The database is read through pycolmap alone: a second SQLite library in a process breaks the first one's locks.

    Args:
        step: of the stage `prepare`.
        total: number of units that this step adds.
        database: COLMAP's.
        count: returns the number of units in the database, including those of earlier steps.

    Raises:
        OSError: the disk is nearly full. On a full disk, COLMAP would abort the process.
    """
    with pycolmap.Database.open(database) as opened:
        before = count(opened)
    meter = Meter(f"prepare:{step}", total)
    ended = threading.Event()
    cancellation = pycolmap.CancellationToken()

    def watch() -> None:
        with pycolmap.Database.open(database) as opened:
            while not ended.wait(1.0):
                meter.update(min(count(opened) - before, total - 1))
                if shutil.disk_usage(database.parent).free < _ROOM_BYTES:
                    cancellation.cancel()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield cancellation
    except InterruptedError:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(database.parent)) from None
    finally:
        ended.set()
        thread.join()
    meter.update(total)
