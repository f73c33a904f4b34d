"""Share the GPU slots of a workspace among all runs of a Prefect server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import AcquireConcurrencySlotTimeoutError, concurrency
from prefect.exceptions import ObjectAlreadyExists

from blocks import JobSpec, Workspace
from tasks.progress import ProgressReporter
from tasks.wanted import raise_if_stopped

__all__ = ["gpu_slot", "waits_for"]

_LEASE_SECONDS = 60.0  # a slot is freed so long after its holder was killed
_SECONDS_BETWEEN_LOOKS = 10.0


@dataclass
class _Line:
    """The jobs that wait in this process. They get slots in order, and only the first one requests a slot."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def words(self, spec: JobSpec) -> str:
        """Return what a job of this line waits for, for people."""
        place = self.waiting.index(spec.name)
        before = self.waiting[place - 1 : place] if place else self.running[:1]
        return waits_for(spec.tier, place + 1, before[0] if before else "another run's job")


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Line]] = WeakKeyDictionary()


def waits_for(tier: str, place: int, behind: str) -> str:
    """Return what a queued job waits for, from its place in the line and the job before it."""
    what = "the GPU" if tier == "gpu" else "a free processor"
    return f"waits for {what}: {_ordinal(place)} in line, behind {behind}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


@asynccontextmanager
async def gpu_slot(workspace: Workspace, spec: JobSpec) -> AsyncIterator[None]:
    """Hold a GPU slot inside, if the job needs a GPU. Wait while `gpu_jobs_at_once` jobs of the workspace have one.

    Raises:
        RunCancelled: this flow run was cancelled while it waited.
    """
    limit = workspace.gpu_jobs_at_once
    if spec.tier != "gpu" or limit is None:
        yield
        return
    name = f"rebel-nerf-gpu-{hashlib.sha256(workspace.identity.encode()).hexdigest()[:8]}"
    async with get_client() as client:
        with suppress(ObjectAlreadyExists):  # another run has just created it
            await client.upsert_global_concurrency_limit_by_name(name, limit)
    line = _lines.setdefault(asyncio.get_running_loop(), {}).setdefault(name, _Line())
    async with AsyncExitStack() as held:
        line.waiting.append(spec.name)
        try:
            await _wait(line, name, spec, limit, held)
        finally:
            line.waiting.remove(spec.name)
        line.running.append(spec.name)
        held.callback(line.running.remove, spec.name)
        yield


async def _wait(line: _Line, name: str, spec: JobSpec, limit: int, held: AsyncExitStack) -> None:
    """Wait for the head of the line, and then for a slot from the server. `held` gives the slot back."""
    reporter = ProgressReporter(spec)
    if line.lock.locked() or len(line.running) >= limit:
        await reporter.wait(line.words(spec))
    await _acquire(line, spec, reporter)
    try:
        while True:
            try:
                await held.enter_async_context(
                    concurrency(name, timeout_seconds=_SECONDS_BETWEEN_LOOKS, lease_duration=_LEASE_SECONDS)
                )
                return
            except AcquireConcurrencySlotTimeoutError:
                await reporter.wait(line.words(spec))
                await raise_if_stopped(spec)
    finally:
        line.lock.release()


async def _acquire(line: _Line, spec: JobSpec, reporter: ProgressReporter) -> None:
    acquiring = asyncio.ensure_future(line.lock.acquire())
    try:
        while not (await asyncio.wait([acquiring], timeout=_SECONDS_BETWEEN_LOOKS))[0]:
            await reporter.wait(line.words(spec))
            await raise_if_stopped(spec)
    except BaseException:
        if not acquiring.cancel():
            line.lock.release()
        raise
