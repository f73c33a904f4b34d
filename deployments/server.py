"""Prefect's server and UI: `rebel-nerf server`, or `make server`. Accepts the options of `prefect server start`.

It asks for this machine's password (`tasks/sign_in.py`) and accepts browser requests only from its own UI. Only its
owner can read the files that it writes. On the next port (`--assets-port`), it serves the pages and videos of this
machine's workspace, with the same password (`deployments/assets.py`).

On SQLite, Prefect's server can block for a minute or two. Python's garbage collector may run in the event loop. If it
frees a database cursor, it waits for the cursor's connection, which waits for another connection to finish writing.
That connection needs the event loop, so both wait until a timeout. Here, a separate thread collects garbage, and only
that thread waits.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import socket
import sys
import threading
import time
from pathlib import Path

_SECONDS = 1.0
_OLDEST_EVERY = 30  # collections: the oldest generation is large, and collecting it stops all other threads

_QUIET = (
    "PREFECT_SERVER_ANALYTICS_ENABLED",  # otherwise it reports its use, or logs why it cannot
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT",
)


def _collect() -> None:
    for number in itertools.count():
        time.sleep(_SECONDS)
        gc.collect(1 if number % _OLDEST_EVERY else 2)


class _Asked(argparse.Namespace):
    """What the command line says about addresses."""

    port: int | None
    host: str | None
    assets_port: int | None
    runs_here: bool


def _parse(words: list[str]) -> tuple[_Asked, list[str]]:
    """Return what the command line says, and the part of it that is for Prefect."""
    own = argparse.ArgumentParser("rebel-nerf server", add_help=False, allow_abbrev=False)
    own.add_argument("--assets-port", type=int)
    both = argparse.ArgumentParser("rebel-nerf server", add_help=False, allow_abbrev=False)
    both.add_argument("--port", type=int)
    both.add_argument("--host")
    asked, words = own.parse_known_args(words, _Asked())
    both.parse_known_args(words, asked)
    asked.runs_here = True
    if "--help" in words or "-h" in words:
        print(
            "rebel-nerf server [--assets-port PORT] [OPTIONS]: Prefect's server, and the pages and videos of this "
            "machine's workspace.\nPORT is where those are served: by default the next port, with 0 nowhere. OPTIONS "
            "are these:"
        )
        asked.runs_here = False
    elif "--background" in words or "-b" in words:
        print("Pages and videos are not served, because the server runs in the background.")
        asked.runs_here = False
    return asked, words


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):  # 0.0.0.0 and :: are this machine, too
            return True
    except OSError:
        return False


def main() -> None:
    """Run the server until a signal arrives."""
    os.umask(0o077)  # before Prefect creates its folder and database
    from prefect.cli import app
    from prefect.settings import (
        PREFECT_HOME,
        PREFECT_SERVER_API_AUTH_STRING,
        PREFECT_SERVER_API_PORT,
        get_current_settings,
        temporary_settings,
    )
    from pydantic import SecretStr

    from blocks.privacy import make_private
    from deployments.assets import serve_workspace
    from jobs.program import typed
    from tasks.sign_in import link_settings, password_file, server_settings

    asked, sys.argv[1:] = _parse(sys.argv[1:])
    settings = {**server_settings(asked.port), **link_settings(asked.port)}
    if asked.port:  # otherwise the UI would call the API at the default port, and say "Invalid credentials"
        settings[PREFECT_SERVER_API_PORT] = asked.port
    current = get_current_settings()
    host, own_port = asked.host or current.server.api.host, asked.port or current.server.api.port
    if asked.runs_here and _listens(host, own_port):
        sys.exit(
            f"Something already listens at {host}:{own_port}, most likely this server, started before. To start "
            f"another one, choose a port: {typed('server --port N')}"
        )
    make_private(Path(PREFECT_HOME.value()))
    if asked.runs_here and PREFECT_SERVER_API_AUTH_STRING in settings and not current.api.auth_string:
        print(f"The UI asks for a password: PREFECT_API_AUTH_STRING in {password_file()}", flush=True)
    auth = settings.get(PREFECT_SERVER_API_AUTH_STRING) or current.server.api.auth_string
    if asked.runs_here and auth:
        port = own_port + 1 if asked.assets_port is None else asked.assets_port
        serve_workspace(auth.get_secret_value(), host, port)
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    # Without --no-prompt, Prefect would ask which profile to use.
    sys.argv[1:1] = ["--no-prompt", "server", "start"]
    for name in _QUIET:
        os.environ.setdefault(name, "false")
    # With --background or --workers, the server is a child process and sees only the environment.
    for setting, value in settings.items():
        os.environ[setting.name] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    with temporary_settings(settings):
        app()


if __name__ == "__main__":
    main()
