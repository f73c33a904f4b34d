"""What tests ask the system about processes and ports."""

from __future__ import annotations

import socket
from pathlib import Path

__all__ = ["free_port", "supervisor_of"]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def supervisor_of(job: Path) -> int | None:
    """The number of the process that supervises the local job of a folder; None if there is none."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_text()
        except OSError:
            continue
        if "supervisor.py" in line and str(job) in line:
            return int(entry.parent.name)
    return None
