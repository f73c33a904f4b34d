from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

from prefect.logging import get_logger
from prefect.settings import PREFECT_CLIENT_RETRY_EXTRA_CODES

from jobs.errors import WorkspaceUnavailable

__all__ = ["PATIENT_CLIENT", "patiently"]

PATIENT_CLIENT: dict[Any, Any] = {PREFECT_CLIENT_RETRY_EXTRA_CODES: {500, 504}}
"""Settings under which Prefect's client waits for a server that fails for a minute: its own default gives up at 500,
which is what a server answers whose database restarts."""

T = TypeVar("T")
_WAITS = (2.0, 5.0, 15.0, 30.0)  # seconds, after the workspace's own tries


async def patiently(call: Callable[[], T]) -> T:
    """The result of a blocking call to a workspace, in a thread, asked again where the workspace does not answer.

    Raises:
        WorkspaceUnavailable: it did not for about a minute.
    """
    for wait in _WAITS:
        try:
            return await asyncio.to_thread(call)
        except WorkspaceUnavailable as error:
            get_logger(__name__).warning("%s; asking again", error)
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))
    return await asyncio.to_thread(call)
