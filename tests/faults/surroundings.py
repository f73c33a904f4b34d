"""Set the clock that a service's processes see, and fill their disk, without touching those of this machine."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

__all__ = ["Surroundings"]

_SOURCE = Path(__file__).parent / "power" / "surroundings.c"
_STATE = struct.Struct("=qq")


class Surroundings:
    """The clock and the disk of the processes that run with `environment`, and of all that these start.

    Args:
        home: a folder for a small library.
        disk: the folder whose disk can be full.
    """

    def __init__(self, home: Path, disk: Path) -> None:
        self._state = home / "surroundings"
        self._ahead, self._full = 0, False
        self._write()
        library = home / "surroundings.so"
        places = (f'-DSTATE="{self._state}"', f'-DFULL="{disk}/"')
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", *places, "-o", library, _SOURCE], check=True)
        self.environment = {"LD_PRELOAD": str(library)}
        """Variables that a process needs to see these surroundings."""

    def set_clock(self, ahead: int) -> None:
        """Set the clock, by seconds ahead of the right one."""
        self._ahead = ahead
        self._write()

    def fill_disk(self, full: bool = True) -> None:
        """Fill the disk, or free it again. On a full disk, files can be made and renamed but not written."""
        self._full = full
        self._write()

    def _write(self) -> None:
        with self._state.open("r+b" if self._state.exists() else "wb", buffering=0) as file:
            file.write(_STATE.pack(self._ahead, self._full))  # in place, as processes have the file in their memory
