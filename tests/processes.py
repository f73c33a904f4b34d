"""Processes and ports of tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

__all__ = ["free_port", "helps", "supervisor_of"]

ROOT = Path(__file__).resolve().parents[1]
_PORTS = count()
# Runs each program as `python -m` does, in one interpreter: most of their time goes into the same imports.
_HELPS = """
import contextlib, io, json, runpy, sys
said = {}
for module in sys.argv[1:]:
    sys.argv = [module, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, module
    said[module] = printed.getvalue()
print(json.dumps(said))
"""


def helps(*modules: str) -> dict[str, str]:
    """Return what `python -m <module> --help` prints, by module."""
    command = [sys.executable, "-W", "ignore", "-c", _HELPS, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    return said


def free_port() -> int:
    """Return a port of 127.0.0.1 that no process listens on, and that no other process of tests is about to take.

    Linux gives ports from 32768 on to connections, even while a server that had one is started again.
    """
    while True:
        port = 10_000 + (20 * os.getpid() + next(_PORTS)) % 22_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def supervisor_of(job: Path) -> int | None:
    """Return the number of the process that supervises the local job of a folder, or None."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_text()
        except OSError:
            continue
        if "supervisor.py" in line and str(job) in line:
            return int(entry.parent.name)
    return None
