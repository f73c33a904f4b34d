"""Stop a run with Ctrl-C: say at once what happens, cancel its jobs, and end at once if Ctrl-C is pressed again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jobs.program import typed

__all__ = ["stopping"]

_STOPPING = (
    "Stopping … Finished stages are kept, and training continues from its last checkpoint: the same command goes on "
    "from there. Ctrl-C again stops at once."
)
_INTERRUPTED = 130


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[None]:
    """Answer Ctrl-C inside, in a coroutine of `asyncio.run`, which cancels its task on the first one.

    Once Ctrl-C was pressed, the process also answers it afterwards: its end takes seconds.

    Args:
        say: shows a lasting line. It is called by the event loop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a signal cannot be handled here
        return
    loop, cancel = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    pressed = False

    def answer(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            _end_now()
        pressed = True
        loop.call_soon_threadsafe(say, _STOPPING)
        if callable(cancel):
            cancel(number, frame)

    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        if not pressed:
            signal.signal(signal.SIGINT, cancel)


def _end_now() -> None:
    """End this process and the server that it started. This runs in the middle of any code, so it uses no lock."""
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    text = (
        f"\n{show_cursor}Stopped at once. If a job still runs, the same command continues with it, and "
        f"`{typed('clean-up --grace-minutes 0')}` ends it.\n"
    )
    os.write(sys.stderr.fileno(), text.encode())
    server = sys.modules.get("prefect.server.api.server")
    for each in list(server.SubprocessASGIServer._instances.values()) if server else []:
        if each.server_process:
            each.server_process.kill()
    os._exit(_INTERRUPTED)
