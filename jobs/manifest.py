"""The manifest in every asset: options, package versions, machine and times of the job that made it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from io import BufferedReader
from pathlib import Path
from time import monotonic
from typing import Any

from jobs.base_options import Options

_PACKAGES = (
    "nerfstudio",
    "pycolmap",
    "pycolmap-cuda12",
    "torch",
    "numpy",
    "av",
    "pillow",
    "pillow-heif",
    "tinycudann",
    "nerfacc",
    "gsplat",
    "viser",
)


class Timer:
    """Measures the wall time of a stage's named steps, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the body as the step `name`. Repeated steps add up."""
        start = monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + monotonic() - start, 3)


def peak_memory() -> int:
    """Return the peak of this process's main memory, in bytes.

    On Linux, this is VmHWM of proc(5): the figure of getrusage starts with the peak of the parent process.
    """
    with suppress(FileNotFoundError):
        if found := re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M):
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with file.open("rb") as stream:
        return checksum_of(stream)


def checksum_of(stream: BufferedReader) -> str:
    """Return the SHA-256 of an open file's content, in hex."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def write(file: Path, options: Options, timer: Timer, content: dict[str, Any]) -> None:
    """Write a manifest as JSON: `content`, and the options, times, versions and machine."""
    manifest = {
        "stage": options.STAGE,
        "stage_version": options.STAGE_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "options": options.model_dump(mode="json"),
        **content,
        "seconds": timer.seconds,
        "versions": _versions(),
        "machine": {
            "system": platform.platform(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
    }
    file.write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
