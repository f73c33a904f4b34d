"""What a disk holds after a power loss: a file that was not flushed keeps its name and is empty.

That is what ext4 leaves with its default settings. Names are kept, as its journal has them in order.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["SHIM", "SYNCS", "lose_power"]

SHIM = Path(__file__).parent / "power"
"""On PYTHONPATH, it has a process note what it flushes."""
SYNCS = "REBEL_NERF_TEST_SYNCS"
"""The variable that names the file for these notes."""


def lose_power(folder: Path, syncs: Path) -> list[Path]:
    """Empty each file below a folder that was not flushed since it last changed; return those that held something."""
    flushed = set(syncs.read_text().splitlines()) if syncs.exists() else set()
    lost = []
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.is_symlink() or file.parent == folder:
            continue
        stat = file.stat()
        if stat.st_size and f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}" not in flushed:
            os.truncate(file, 0)
            lost.append(file)
    return lost
