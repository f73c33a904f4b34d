"""Wait for other processes and threads, with a time limit that does not depend on the speed of the machine."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["async_until", "until"]

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = 60, otherwise: Callable[[], object] = lambda: "") -> T:
    """Wait until `look` returns something true, and return it.

    Args:
        look: what is polled.
        seconds: the time after which the test fails.
        otherwise: returns an explanation of that failure.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain. {otherwise()}"
        time.sleep(0.05)
    return found


async def async_until(
    look: Callable[[], Any], seconds: float = 60, otherwise: Callable[[], object] = lambda: ""
) -> Any:
    """Do the same as `until` in a coroutine. `look` may return an awaitable."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s in vain. {otherwise()}"
        await asyncio.sleep(0.05)
