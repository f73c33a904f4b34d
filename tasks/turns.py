"""Whose turn it is on the GPUs of a workspace, over all runs of a Prefect server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from weakref import WeakKeyDictionary

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import AcquireConcurrencySlotTimeoutError, concurrency
from prefect.exceptions import ObjectAlreadyExists

from blocks import JobSpec, Workspace
from tasks.wanted import raise_if_cancelled

__all__ = ["turn"]

_LEASE_SECONDS = 60.0  # so long a turn is held after its holder was killed
_SECONDS_BETWEEN_LOOKS = 10.0

# Within a process, who came first is served first: of all who wait, only one asks the server.
_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()


@asynccontextmanager
async def turn(workspace: Workspace, spec: JobSpec) -> AsyncIterator[None]:
    """Wait until fewer GPU jobs are under way than `gpu_jobs_at_once` of the workspace says, and count as one inside.

    Raises:
        RunCancelled: this flow run was cancelled while it waited.
    """
    limit = workspace.gpu_jobs_at_once
    if spec.tier != "gpu" or limit is None:
        yield
        return
    name = f"rebel-nerf-gpu-{hashlib.sha256(workspace.identity.encode()).hexdigest()[:8]}"
    async with get_client() as client:
        with suppress(ObjectAlreadyExists):  # another run has made it just now
            await client.upsert_global_concurrency_limit_by_name(name, limit)
    queue = _queues.setdefault(asyncio.get_running_loop(), {}).setdefault(name, asyncio.Lock())
    async with AsyncExitStack() as held:
        if queue.locked():
            get_run_logger().info("job %s waits for its turn: %d GPU jobs at once", spec.name, limit)
        await _acquire(queue, spec)
        try:
            while True:
                try:
                    await held.enter_async_context(
                        concurrency(name, timeout_seconds=_SECONDS_BETWEEN_LOOKS, lease_duration=_LEASE_SECONDS)
                    )
                    break
                except AcquireConcurrencySlotTimeoutError:
                    await raise_if_cancelled(spec)
        finally:
            queue.release()
        yield


async def _acquire(queue: asyncio.Lock, spec: JobSpec) -> None:
    acquiring = asyncio.ensure_future(queue.acquire())
    try:
        while not (await asyncio.wait([acquiring], timeout=_SECONDS_BETWEEN_LOOKS))[0]:
            await raise_if_cancelled(spec)
    except BaseException:
        if not acquiring.cancel():
            queue.release()
        raise
