"""Prefect's server and UI: `rebel-nerf server`, or `make server`. Accepts the options of `prefect server start`.

It asks for this machine's password (`tasks/sign_in.py`) and accepts browser requests only from its own UI. Only its
owner can read the files that it writes.

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


def main() -> None:
    """Run the server until a signal arrives."""
    os.umask(0o077)  # before Prefect creates its folder and database
    from prefect.cli import app
    from prefect.settings import PREFECT_HOME, PREFECT_SERVER_API_AUTH_STRING, get_current_settings, temporary_settings
    from pydantic import SecretStr

    from blocks.privacy import make_private
    from tasks.sign_in import link_settings, password_file, server_settings

    arguments = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    arguments.add_argument("--port", type=int)
    port = arguments.parse_known_args()[0].port
    settings = {**server_settings(port), **link_settings(port)}
    make_private(Path(PREFECT_HOME.value()))
    if PREFECT_SERVER_API_AUTH_STRING in settings and not get_current_settings().api.auth_string:
        print(f"The UI asks for a password: PREFECT_API_AUTH_STRING in {password_file()}", flush=True)
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    # Without --no-prompt, Prefect would ask which profile to use.
    sys.argv[1:1] = ["--no-prompt", "server", "start"]
    for name in _QUIET:
        os.environ.setdefault(name, "false")
    # With --background or --workers, the server is a child process and sees only the environment.
    for setting, value in settings.items():
        os.environ[setting.name] = value.get_secret_value() if isinstance(value, SecretStr) else value
    with temporary_settings(settings):
        app()


if __name__ == "__main__":
    main()
