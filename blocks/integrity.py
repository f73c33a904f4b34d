"""Checksums of a local workspace's assets: compared before a job reads them, and on demand."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.local_files import damage, read_manifest, replace_durably
from blocks.records import Asset
from jobs.environment import child_environment
from jobs.errors import InvalidInput
from jobs.manifest import checksum
from jobs.program import typed
from jobs.text import printable

__all__ = ["ASIDE", "Damage", "check_input", "damaged_assets", "set_aside"]

ASIDE = ".damaged-"
"""How the names of damaged assets begin that were set aside."""
_Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, and inode of a file."""


@dataclass(frozen=True)
class Damage:
    """A damaged asset of a local workspace.

    Args:
        folder: the asset's folder.
        fault: which file is damaged, and how.
    """

    folder: Path
    fault: str

    @property
    def asset(self) -> str:
        """Return the name and version."""
        return printable(f"{self.folder.parent.name}:{self.folder.name}")


def check_input(asset: Asset, folder: Path, memory: Path, scene: str) -> None:
    """Compare the files of an asset with the checksums in its `asset.json`.

    A file that was intact is not read again until it changes or the machine restarts.

    Args:
        asset: what is compared.
        folder: the asset's.
        memory: a folder that keeps what was compared.
        scene: the scene whose job reads the asset, named in the error.

    Raises:
        InvalidInput: a file is missing or damaged; names it, the asset and the remedy.
    """
    notes = memory / asset.name / f"{asset.version}.json"
    known = _recall(notes)
    try:
        content = read_manifest(folder / "asset.json")
        fault, seen = _compare(folder, content.checksums if content else {}, known)
    except (OSError, ValueError) as error:
        fault, seen = f"asset.json: {error}", known
    if fault:
        remedy = "Then give your own copy of the photos as images: they become the next version."
        if asset.kind != "capture":
            remedy = "Then run the flow again, which recreates the asset."
        raise InvalidInput(
            f"scene {scene}: asset {asset} is damaged: {fault}. No job was started. "
            f"`{typed('doctor --assets --whole --repair')}` sets the asset aside. {remedy}"
        )
    if seen != known:
        _note(notes, seen)


def damaged_assets(root: Path, *, whole: bool) -> Iterator[Damage]:
    """Find the damaged assets of a local workspace; nothing is changed.

    Args:
        root: the workspace's folder.
        whole: compare checksums, which reads every file. Otherwise only sizes are compared.
    """
    for folder in sorted((root / "assets").glob("*/[!.]*")):
        if folder.is_dir() and (fault := _fault(folder, whole)):
            yield Damage(folder, fault)


def set_aside(folder: Path) -> Path | None:
    """Rename the folder of a damaged asset, so that the stage can run again. Nothing in it is deleted.

    Returns:
        The new path; None if another process was faster.
    """
    aside = folder.with_name(f"{ASIDE}{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def _fault(folder: Path, whole: bool) -> str:
    try:
        content = read_manifest(folder / "asset.json")
        if content is None:
            return ""
        fault = damage(folder, content.sizes)
    except FileNotFoundError:
        return "asset.json is missing"
    except (ValueError, OSError, InvalidInput) as error:
        return f"asset.json: {error}"
    if not fault and whole:
        fault, _ = _compare(folder, content.checksums, {})
    return fault


def _compare(folder: Path, checksums: Mapping[str, str], known: Mapping[str, _Stamp]) -> tuple[str, dict[str, _Stamp]]:
    """Return the first fault, or "", and the stamps of the files that are intact."""

    def look(path: str) -> tuple[str, _Stamp | None]:
        file = folder / path
        try:
            stamp = _stamp(file)
            if known.get(path) != stamp and checksum(file) != checksums[path]:
                return f"{printable(path)} does not have the checksum that it was registered with", None
        except OSError as error:
            return f"{printable(path)} cannot be read ({error.strerror})", None
        return "", stamp

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing does not hold the interpreter's lock
        found = dict(zip(checksums, pool.map(look, checksums), strict=True))
    fault = next((fault for fault, _ in found.values() if fault), "")
    return fault, {path: stamp for path, (_, stamp) in found.items() if stamp}


def _stamp(file: Path) -> _Stamp:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@functools.cache
def _boot() -> str:
    """Return what identifies the time since the machine was started; a new value if that is unknown."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):  # macOS
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        asked = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=10)
        if asked.returncode == 0:
            return asked.stdout.strip()
    return uuid.uuid4().hex


def _recall(notes: Path) -> dict[str, _Stamp]:
    try:
        content: dict[str, Any] = json.loads(notes.read_bytes())
        if content["boot"] != _boot():
            return {}
        return {path: (int(size), int(time), int(inode)) for path, (size, time, inode) in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # then every file is read again


def _note(notes: Path, seen: Mapping[str, _Stamp]) -> None:
    with suppress(OSError):  # a full disk: every file is read again the next time
        replace_durably(notes, json.dumps({"boot": _boot(), "files": seen}))
