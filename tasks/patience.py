"""Calls of a workspace that are retried while it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from prefect.logging import get_logger
from prefect.settings import PREFECT_CLIENT_RETRY_EXTRA_CODES

from blocks.retries import CALL
from jobs.errors import WorkspaceUnavailable

__all__ = ["PATIENT_CLIENT", "patiently"]

PATIENT_CLIENT: dict[Any, Any] = {PREFECT_CLIENT_RETRY_EXTRA_CODES: {500, 504}}
"""Settings with which Prefect's client retries for a minute. By default it gives up at 500, which is what a server
answers while its database restarts."""

T = TypeVar("T")


async def patiently(call: Callable[[], T]) -> T:
    """Return the result of a blocking call of a workspace, run in a thread and retried while it does not answer.

    Raises:
        WorkspaceUnavailable: the workspace did not answer for about a minute.
    """
    for delay in CALL.delays():
        try:
            return await asyncio.to_thread(call)
        except WorkspaceUnavailable as error:
            get_logger(__name__).warning("%s; trying again", error)
            await asyncio.sleep(delay)
    return await asyncio.to_thread(call)
