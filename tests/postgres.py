"""A PostgreSQL of a test's own, from the system's packages (Debian: apt-get install postgresql)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal

from tests.processes import free_port

__all__ = ["Postgres"]


class Postgres:
    """A database server on a port of this machine, with an empty database; it ends with the `with` block.

    It refuses to run as root, and is then run by the user that the system's package has made for it.
    """

    def __init__(self) -> None:
        programs = self._programs()
        assert programs, self.missing()
        self._programs_folder = programs
        self._user = "postgres" if os.geteuid() == 0 else ""
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # below /tmp, into which its user can look
        self.port = free_port()
        if self._user:
            user = pwd.getpwnam(self._user)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._call("initdb", "--username", "prefect", "--auth", "trust", "--encoding", "UTF8", "--no-sync")

    @staticmethod
    def missing() -> str | None:
        """Return what this machine lacks for it, in words."""
        return None if Postgres._programs() else "PostgreSQL is not installed (Debian: apt-get install postgresql)"

    @property
    def url(self) -> str:
        """Return the address for Prefect's server."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        options = f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._call("pg_ctl", "--log", str(self._folder / "log"), "--options", options, "--wait", "start")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: in order, or as if it had crashed."""
        self._call("pg_ctl", "--mode", mode, "--wait", "stop")

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs_folder / program), "--pgdata", str(self._folder / "data"), *arguments]
        if self._user:
            command = ["runuser", "--user", self._user, "--", *command]
        # What it starts goes on and would keep a pipe open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, timeout=120)

    @staticmethod
    def _programs() -> Path | None:
        if found := shutil.which("initdb"):
            return Path(found).resolve().parent
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        return installed[-1].parent if installed else None
