"""Find and remove what a local workspace no longer needs: assets, and remains of ended jobs."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blocks.integrity import ASIDE
from blocks.records import Leftover
from blocks.supervisor import unlocked
from jobs.names import scene_of

__all__ = ["find_leftovers", "remove_folder", "size_of"]


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder; a file with several names in it counts once."""
    files = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                stat = os.lstat(os.path.join(place, name))
                files[stat.st_ino] = stat.st_size
    return sum(files.values())


def remove_folder(folder: Path) -> None:
    """Remove a folder. Other processes see it whole or not at all. Do nothing if it does not exist."""
    doomed = folder.with_name(f".{uuid.uuid4().hex}.part")  # if this is interrupted, the rest is a leftover
    with suppress(FileNotFoundError):
        folder.rename(doomed)
        shutil.rmtree(doomed)


def find_leftovers(root: Path, older_than: float) -> Iterator[Leftover]:
    """Find unfinished folders of killed processes, damaged assets, and the code and useless output of ended jobs.

    Damaged captures stay: nothing can make them again. The log, the specification and the status of a job stay. So does
    the output of a completed job: a gate may have refused it, and a later run may register it.

    Args:
        root: the workspace's folder.
        older_than: seconds since anything in it last changed.
    """
    for pattern in ("jobs/.*.part", "assets/*/.*.part", "verified/*/.*.part", "spent/*/.*.part"):
        for part in root.glob(pattern):
            with suppress(FileNotFoundError):  # its process has just finished it
                if _age(part) > older_than and unlocked(part / "alive"):
                    yield Leftover(str(part), "unfinished folder of a killed process", _size(part))
    for aside in root.glob(f"assets/*/{ASIDE}*"):
        with suppress(FileNotFoundError):  # a person has just removed it
            if _age(aside) > older_than and not _may_be_a_capture(aside):
                yield Leftover(str(aside), "damaged asset", size_of(aside))
    for job in (root / "jobs").glob("[!.]*"):
        with suppress(FileNotFoundError):  # a person has just removed it
            if _age(job) > older_than and unlocked(job / "alive"):
                yield from _remains(job)


def _remains(job: Path) -> Iterator[Leftover]:
    """Yield what an ended job no longer needs."""
    for name, what in (("code", "code of a job that ended"), ("outputs", "output of a job that failed")):
        folder = job / name
        if folder.is_dir() and (name == "code" or not _completed(job)):
            yield Leftover(str(folder), what, size_of(folder))


def _may_be_a_capture(aside: Path) -> bool:
    """Return whether a damaged asset may be a capture: by its name, or by what is left of its manifest."""
    name = aside.parent.name
    with suppress(OSError):
        return scene_of(name) == name or b'"capture"' in (aside / "asset.json").read_bytes()
    return False


def _completed(job: Path) -> bool:
    """Return whether a job completed, according to the shell that ran it."""
    with suppress(OSError):
        return (job / "exit_code").read_text().strip() == "0"
    return False


def _size(path: Path) -> int:
    return size_of(path) if path.is_dir() else path.lstat().st_size


def _age(path: Path) -> float:
    """Return the seconds since a file, or anything directly in a folder, last changed.

    Raises:
        FileNotFoundError: it has vanished.
    """
    newest = path.lstat().st_mtime
    for each in path.iterdir() if path.is_dir() else ():
        with suppress(FileNotFoundError):
            newest = max(newest, each.lstat().st_mtime)
    return time.time() - newest
