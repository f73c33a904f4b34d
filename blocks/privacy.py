"""Folders that only their owner can enter."""

from __future__ import annotations

import functools
from pathlib import Path
from shlex import quote

from prefect.logging import get_logger

__all__ = ["make_private"]


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can enter. An existing folder keeps its mode. If it is open, warn once.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        if folder.stat().st_mode & 0o077:
            _warn(folder)


@functools.cache
def _warn(folder: Path) -> None:
    get_logger(__name__).warning(
        "%s can be entered by other users of this machine. If they should not, run: chmod 700 %s",
        *(folder, quote(str(folder))),
    )
