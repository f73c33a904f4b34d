"""Check and open the files of a capture, which somebody else may have put there, and may replace at any moment."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from jobs.errors import InvalidInput

__all__ = ["find_plain", "open_plain"]

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe that nobody writes into is opened at once


def find_plain(file: Path, folder: Path) -> Path:
    """Return the regular file behind a path, as a path without links. Links inside the folder are followed.

    Anything else could disclose a private file of this machine, or never end.

    Args:
        file: a path below the folder, with no link among the folders on the way.
        folder: as `Path.resolve` returns it; or a single file.

    Raises:
        InvalidInput: it is no regular file, or a link that leads out of the folder; the message is the reason alone.
    """
    try:
        mode = file.lstat().st_mode
        if stat.S_ISREG(mode):  # nearly always
            return file
        mode, target = file.stat().st_mode, file.resolve(strict=True)
    except PermissionError:
        raise InvalidInput("no permission to read it") from None
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle, before Python 3.13
        raise InvalidInput("a link to nowhere") from None
    if not stat.S_ISREG(mode):
        raise InvalidInput("not a regular file")
    if folder.is_dir() and not target.is_relative_to(folder):
        raise InvalidInput("a link that leads out of the folder; copy the file instead")
    return target


def open_plain(file: Path) -> BufferedReader:
    """Open a regular file for reading, if no part of its path is a link.

    Since `find_plain` has looked at it, somebody may have put a link or a pipe in its place. So the path is walked
    folder by folder, and no link is followed.

    Args:
        file: an absolute path, as `find_plain` returned it.

    Raises:
        OSError: it is no regular file any more, there is a link on the way, or it cannot be opened.
    """
    descriptor = os.open(file.anchor, _FOLDER)
    try:
        for number, part in enumerate(file.parts[1:], start=2):
            flags = _FILE if number == len(file.parts) else _FOLDER
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
