"""What people dropped into a folder of this machine. No file is read twice unless it changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from blocks.workspace import DroppedCapture, DroppedFile
from jobs import media
from jobs.manifest import checksum

__all__ = ["list_dropped"]

# By path from the captures' folder: size, times of the last change of content and of anything (ns), and checksum.
_Memory = dict[str, tuple[int, int, int, str]]


def list_dropped(captures: Path, memory: Path, scene: str | None) -> list[DroppedCapture]:
    """The folders in `captures`, or the scene's.

    The age is by the times of the last change of anything (`st_ctime`), for those of content come along with a copy;
    and by the clock of the file system, which may be another machine's.

    Args:
        captures: the folder with a folder for each scene.
        memory: a file beside it that keeps checksums from one time to the next.
        scene: the one to look at; None for all.
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
            with suppress(FileNotFoundError):  # it vanished meanwhile
                found.append(_look_at(folder, known, seen, now))
    if scene is not None:
        seen = {path: entry for path, entry in known.items() if not path.startswith(f"{scene}/")} | seen
    if seen != known:
        _write(memory, seen)
    return found


def _look_at(folder: Path, known: _Memory, seen: _Memory, now: float) -> DroppedCapture:
    files, changed = {}, [folder.stat().st_ctime, *_changes(folder)]
    there, *_ = media.find(folder)
    for path, file in there.items():
        if not media.may_be_read(file, folder):
            continue
        key = f"{folder.name}/{path}"
        try:
            before = _stamp(file)
            entry = known.get(key)
            if entry is None or entry[:3] != before:
                entry = (*before, checksum(file))
            after = _stamp(file)
            changed.append(after[2] / 1e9)  # of what a link leads to
        except OSError:  # it vanished, leads nowhere, or may not be read
            continue
        if before == after:
            seen[key] = entry
        files[path] = DroppedFile(after[0], entry[3])
    return DroppedCapture(folder.name, files, now - max(changed), folder=folder)


def _changes(folder: Path) -> Iterator[float]:
    """When everything below a folder last changed: what is no photo, or hidden, may be the part of one that comes."""
    for place, _, names in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in names)):
            with suppress(OSError):  # it vanished
                yield os.lstat(path).st_ctime


def _stamp(file: Path) -> tuple[int, int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _clock(folder: Path) -> float:
    """Now, in seconds since 1970, as the folder's file system has it."""
    with NamedTemporaryFile(dir=folder, prefix=".") as probe:
        return os.fstat(probe.fileno()).st_ctime


def _read(memory: Path) -> _Memory:
    try:
        content: dict[str, list[int | str]] = json.loads(memory.read_text())
        return {path: (int(e[0]), int(e[1]), int(e[2]), str(e[3])) for path, e in content.items()}
    except (FileNotFoundError, ValueError):  # read anew, which only takes longer
        return {}


def _write(memory: Path, content: _Memory) -> None:
    part = memory.with_name(f".{memory.name}.{os.getpid()}.{os.urandom(4).hex()}")
    part.write_text(json.dumps(content))
    part.replace(memory)
