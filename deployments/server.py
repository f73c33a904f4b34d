"""Prefect's server and UI: `python -m deployments.server`, or `make server`. Takes what `prefect server start` takes.

It asks for this machine's password (`tasks/sign_in.py`), and lets only its own UI's pages in. What it writes, only its
owner can read.

On SQLite, Prefect's server can stand still for a minute or two. Python collects garbage wherever it happens to be, in
the event loop too; a database cursor among the garbage waits for its connection; that one waits for another to finish
writing; and it is the event loop that would let it. Here garbage is collected in a thread, and only that one waits.
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
_OLDEST_EVERY = 30  # times: the oldest objects are many, and looking through them stops everything else


def _collect() -> None:
    for number in itertools.count():
        time.sleep(_SECONDS)
        gc.collect(1 if number % _OLDEST_EVERY else 2)


def main() -> None:
    """Run the server until a signal comes."""
    os.umask(0o077)  # before Prefect makes its folder and database
    from prefect.cli import app
    from prefect.settings import PREFECT_HOME, PREFECT_SERVER_API_AUTH_STRING, get_current_settings, temporary_settings
    from pydantic import SecretStr

    from blocks.privacy import make_private
    from tasks.sign_in import password_file, server_settings

    arguments = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    arguments.add_argument("--port", type=int)
    settings = server_settings(arguments.parse_known_args()[0].port)
    make_private(Path(PREFECT_HOME.value()))
    if PREFECT_SERVER_API_AUTH_STRING in settings and not get_current_settings().api.auth_string:
        print(f"The UI asks for a password: PREFECT_API_AUTH_STRING in {password_file()}", flush=True)
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    # Without prompts: Prefect would ask which profile to switch to.
    sys.argv[1:1] = ["--no-prompt", "server", "start"]
    # With --background or --workers, the server is a child of this process, and has only its environment.
    for setting, value in settings.items():
        os.environ[setting.name] = value.get_secret_value() if isinstance(value, SecretStr) else value
    with temporary_settings(settings):
        app()


if __name__ == "__main__":
    main()
