"""Waiting for what another process or thread does. No test waits for ever, or relies on how quick a machine is."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["async_until", "until"]

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = 60, otherwise: Callable[[], object] = lambda: "") -> T:
    """Return what `look` returns, once that is true.

    Args:
        seconds: after so many, the test fails.
        otherwise: returns what explains that failure.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain. {otherwise()}"
        time.sleep(0.05)
    return found


async def async_until(
    look: Callable[[], Any], seconds: float = 60, otherwise: Callable[[], object] = lambda: ""
) -> Any:
    """Do as `until`, in a coroutine. What `look` returns may be an awaitable."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s in vain. {otherwise()}"
        await asyncio.sleep(0.05)
