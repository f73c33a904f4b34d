"""List what people dropped into a folder of this machine. A file is read again only if it changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from blocks.local_files import replace_durably
from blocks.records import DroppedCapture, DroppedFile
from jobs import media
from jobs.errors import InvalidInput
from jobs.manifest import checksum_of
from jobs.opening import find_plain, open_plain

__all__ = ["list_dropped"]


class _Stamp(NamedTuple):
    """A file's size in bytes, and the times in ns of the last changes of its content and of its metadata."""

    size: int
    modified: int
    changed: int


class _Entry(NamedTuple):
    """The checksum of a file that had this stamp."""

    stamp: _Stamp
    checksum: str


_Memory = dict[str, _Entry]
"""By path below the captures' folder."""


def list_dropped(captures: Path, memory: Path, scene: str | None) -> list[DroppedCapture]:
    """List the folders in `captures`, or the folder of one scene.

    The age follows from `st_ctime`, because a copy keeps `st_mtime`, and from the clock of the file system, which may
    be another machine's.

    Args:
        captures: the folder with a folder for each scene.
        memory: a file that keeps checksums between calls.
        scene: the scene to list; None for all.
    """
    if not captures.is_dir():
        return []
    names = sorted(os.listdir(captures)) if scene is None else [scene]
    now = _clock(memory.parent)
    known = _read(memory)
    seen: _Memory = {}
    found = []
    for name in names:
        folder = captures / name
        if not name.startswith(".") and (folder.is_dir() or media.is_media(name)):
            with suppress(FileNotFoundError):  # it vanished in the meantime
                found.append(_look_at(folder, known, seen, now))
    if scene is not None:
        seen = {path: entry for path, entry in known.items() if not path.startswith(f"{scene}/")} | seen
    if seen != known:
        _write(memory, seen)
    return found


def _look_at(folder: Path, known: _Memory, seen: _Memory, now: float) -> DroppedCapture:
    files, real, changed = {}, folder.resolve(), [folder.stat().st_ctime, *_changes(folder)]
    for path, file in media.find(folder).media.items():
        key = f"{folder.name}/{path}"
        try:
            file = find_plain(file, real)
            before = _stamp(file)
            media.check_size(path, before.size)
            entry = known.get(key)
            if entry is None or entry.stamp != before:
                with open_plain(file) as stream:
                    entry = _Entry(before, checksum_of(stream))
            after = _stamp(file)
            changed.append(after.changed / 1e9)  # of the file behind a link
        except (InvalidInput, OSError):  # it leads out of the folder, is too large, vanished, or cannot be read
            continue
        if before == after:
            seen[key] = entry
        files[path] = DroppedFile(after.size, entry.checksum)
    return DroppedCapture(folder.name, files, now - max(changed), folder=folder)


def _changes(folder: Path) -> Iterator[float]:
    """Yield when each file below a folder last changed. Hidden and other files count, too: they may be uploads."""
    for place, _, names in media.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            with suppress(OSError):  # it vanished
                yield os.lstat(path).st_ctime


def _stamp(file: Path) -> _Stamp:
    stat = file.stat()
    return _Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _clock(folder: Path) -> float:
    """Return the time, in seconds since 1970, by the clock of the folder's file system."""
    with NamedTemporaryFile(dir=folder, prefix=".") as probe:
        return os.fstat(probe.fileno()).st_ctime


def _read(memory: Path) -> _Memory:
    try:
        content: dict[str, tuple[int, int, int, str]] = json.loads(memory.read_bytes())
        return {path: _Entry(_Stamp(*map(int, stamp)), str(known)) for path, (*stamp, known) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # the files are read again, which only takes longer
        return {}


def _write(memory: Path, content: _Memory) -> None:
    with suppress(OSError):  # a full disk: the files are read again the next time
        replace_durably(memory, json.dumps({path: [*stamp, checksum] for path, (stamp, checksum) in content.items()}))
