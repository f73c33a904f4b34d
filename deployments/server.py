"""Prefect's server and UI: `python -m deployments.server`, or `make server`. Takes what `prefect server start` takes.

On SQLite, Prefect's server can stand still for a minute or two. Python collects garbage wherever it happens to be, in
the event loop too; a database cursor among the garbage waits for its connection; that one waits for another to finish
writing; and it is the event loop that would let it. Here garbage is collected in a thread, and only that one waits.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time

_SECONDS = 1.0
_OLDEST_EVERY = 30  # times: the oldest objects are many, and looking through them stops everything else


def _collect() -> None:
    for number in itertools.count():
        time.sleep(_SECONDS)
        gc.collect(1 if number % _OLDEST_EVERY else 2)


def main() -> None:
    """Run the server until a signal comes."""
    from prefect.cli import app

    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()
    sys.argv[1:1] = ["server", "start"]
    app()


if __name__ == "__main__":
    main()
