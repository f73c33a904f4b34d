"""Notes each file that a process flushes to the disk: its device, inode, size and time of change, a line each.

Python imports this at its start where the folder is on PYTHONPATH.
"""

import os

_log = os.environ.get("REBEL_NERF_TEST_SYNCS")
if _log:
    _fsync = os.fsync

    def _noted(descriptor: int, log_file: str = _log) -> None:
        _fsync(descriptor)
        stat = os.fstat(descriptor)
        with open(log_file, "a") as log:
            log.write(f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}\n")

    os.fsync = _noted  # type: ignore[assignment]
