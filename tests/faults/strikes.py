"""What can happen in a round, and whether it met anything."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from blocks import LocalWorkspace
from blocks.supervisor import unlocked
from tests.faults.chain import started
from tests.faults.machine import strike_machine
from tests.faults.verdict import all_ended, jobs_of
from tests.processes import supervisor_of
from tests.service import ROOT

if TYPE_CHECKING:
    from tests.faults.rounds import World

__all__ = ["ALONE", "KINDS", "Kind", "Round", "strike"]

_SECOND = "second worker"

Kind = Literal[
    "worker",
    "worker taking",
    "worker stopped",
    "flow",
    "job",
    "supervisor",
    "server",
    "server failing",
    "server failing taking",
    "server silent",
    "two workers",
    "cancel",
    "cancel taking",
    "cancel one of two",
    "two at once",
    "power loss",
    "machine",
    "clock",
    "disk full",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
OF_THE_MACHINE: tuple[Kind, ...] = ("power loss", "machine", "clock", "disk full")
ALONE: frozenset[Kind] = frozenset(
    kind for kind in KINDS if kind.startswith(("worker", "server", "two workers")) or kind in OF_THE_MACHINE
)
"""Kinds that strike the service, and with it the runs of all rounds under way."""

_FAILING_SECONDS = 15.0  # as long as a database takes to restart
_SILENT_SECONDS = 130.0  # longer than Prefect's client waits for an answer
_TAKING_OVER_SECONDS = 120.0  # a worker looks for the runs of dead ones every 30 s
_PATIENCE_SECONDS = 60.0  # until a job begins, or a cancelled one has ended


@dataclass(frozen=True)
class Round:
    """A round under way.

    Args:
        world: where it runs.
        name: the scene's.
        workspace: where its assets and jobs are.
        moment: seconds after the start at which it happens, where the kind does not say when.
    """

    world: World
    name: str
    workspace: LocalWorkspace
    moment: float

    async def start(self) -> FlowRun:
        """Schedule a run of the flow."""
        return await self.world.run(self.name, self.workspace.folder)

    async def start_and_wait(self) -> None:
        """Schedule a run of the flow, and wait until the moment."""
        await self.start()
        await asyncio.sleep(self.moment)

    async def until(self, condition: Callable[[], bool | Awaitable[bool]], seconds: float = _PATIENCE_SECONDS) -> bool:
        """Wait until something holds; whether it did in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return True
            await asyncio.sleep(0.02)
        return False

    async def is_pending(self) -> bool:
        """Return whether a worker has just taken a run."""
        return any(run.state and run.state.is_pending() for run in await self.world.runs(self.name))

    def running(self) -> str | None:
        """Return a job whose process runs."""
        for job in jobs_of(self.workspace):
            if not unlocked(self.workspace.folder / "jobs" / job / "alive") and self.group(job):
                return job
        return None

    def group(self, job: str) -> int | None:
        """Return the process group of a job, once it has one."""
        with suppress(FileNotFoundError, ValueError):
            status = self.workspace.folder / "jobs" / job / "status.json"
            group: int | None = json.loads(status.read_text()).get("group")
            return group
        return None


async def strike(kind: Kind, this: Round) -> tuple[bool, list[str]]:
    """Run the flow, and let something happen to it.

    Returns:
        Whether anything was struck, and what went wrong meanwhile.
    """
    if kind.startswith("worker"):
        return await _worker(kind, this), []
    if kind.startswith("server"):
        return await _server(kind, this), []
    if kind.startswith("cancel"):
        return await _cancel(kind, this)
    others = {"flow": _flow, "job": _job, "supervisor": _job, "two at once": _two, "two workers": _two_workers}
    others |= dict.fromkeys(OF_THE_MACHINE, strike_machine)
    return await others[kind](kind, this), []


async def _worker(kind: Kind, this: Round) -> bool:
    if kind == "worker taking":
        await this.start()
        await this.until(this.is_pending)
    else:
        await this.start_and_wait()
    struck = await this.world.is_under_way(this.name)
    this.world.service.end("worker", signal.SIGTERM if kind == "worker stopped" else signal.SIGKILL)
    this.world.service.restart_worker()
    return struck


async def _server(kind: Kind, this: Round) -> bool:
    service = this.world.service
    if kind == "server":
        await this.start_and_wait()
        struck = await this.world.is_under_way(this.name)
        service.end("server", signal.SIGKILL)
        service.start_server()
        return struck
    if kind == "server silent":
        await this.start_and_wait()
        if not await this.world.is_under_way(this.name):
            return False
        os.killpg(service.pid("server"), signal.SIGSTOP)
        try:
            await asyncio.sleep(_SILENT_SECONDS)
        finally:
            os.killpg(service.pid("server"), signal.SIGCONT)
        return True
    if kind == "server failing":
        await this.start_and_wait()
        failing = rb"[A-Z]+ /"
    else:  # once a worker has received a run: all requests except those by which it receives runs
        await this.start()
        failing = rb"(?!\w+ .*/get_scheduled_flow_runs )[A-Z]+ /"
    before = service.front.failed
    service.front.failing = re.compile(failing)
    await asyncio.sleep(_FAILING_SECONDS)
    service.front.failing = None
    return service.front.failed > before


async def _cancel(kind: Kind, this: Round) -> tuple[bool, list[str]]:
    """Cancel runs, and see that no job of theirs is left running; or that the job of the run that is left is."""
    if kind == "cancel one of two":
        return await _cancel_one(this)
    if kind == "cancel taking":
        await this.start()
        await this.until(this.is_pending)
    else:
        await this.start_and_wait()
        if this.moment > 1:  # before that, often before there is a job
            await this.until(lambda: this.running() is not None)
    struck = await this.world.is_under_way(this.name)
    for run in await this.world.runs(this.name):
        await this.world.client.set_flow_run_state(run.id, Cancelling())

    async def over() -> bool:
        runs = await this.world.runs(this.name)
        return all(run.state and run.state.is_final() for run in runs) and all_ended(this.workspace)

    ended = await this.until(over)
    return struck, [] if ended else ["a cancelled run, or its job, runs on"]


async def _cancel_one(this: Round) -> tuple[bool, list[str]]:
    first, _ = await this.start(), await this.start()
    if not await this.until(lambda: _followers(this) >= 2):
        return False, []
    await this.world.client.set_flow_run_state(first.id, Cancelling())

    async def over() -> bool:
        run = await this.world.client.read_flow_run(first.id)
        return bool(run.state and run.state.is_final())

    if not await this.until(over):
        return True, ["a cancelled run goes on"]
    if not (job := this.running()):
        return True, ["the job was cancelled, though another run waits for it"]
    group = this.group(job)
    assert group
    for process in _sleeping(group):  # the job may end now
        os.kill(process, signal.SIGTERM)
    return True, []


async def _two(kind: Kind, this: Round) -> bool:
    await this.start()
    await asyncio.sleep(this.moment / 4)
    await this.start()
    return await this.until(lambda: _followers(this) >= 2, seconds=15)


async def _flow(kind: Kind, this: Round) -> bool:
    """Kill the process of a flow that a person runs by hand, at a moment after its first job has begun."""
    program = (
        "import asyncio, pathlib; from tests.faults.chain import chain;"
        f"asyncio.run(chain({this.name!r}, pathlib.Path({str(this.workspace.folder)!r}), 1.0))"
    )
    service = this.world.service
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT, env=service.shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # Its start alone takes seconds.
    await this.until(lambda: process.poll() is not None or bool(started(this.workspace)))
    await asyncio.sleep(this.moment)
    struck = process.poll() is None
    process.kill()
    process.wait()
    return struck


async def _job(kind: Kind, this: Round) -> bool:
    """Kill a job with all its processes, or its supervisor alone, while it runs."""
    await this.start()
    second = this.moment > 2  # in which stage
    wanted = "second" if second else "first"
    if not await this.until(lambda: wanted in started(this.workspace) and this.running() is not None):
        return False
    await asyncio.sleep(this.moment / 5)
    job = this.running()
    if job is None:
        return False
    if kind == "supervisor":
        process = supervisor_of(this.workspace.folder / "jobs" / job)
        if process is None:
            return False
        os.kill(process, signal.SIGKILL)
        return this.running() == job
    group = this.group(job)
    assert group
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
        return not (this.workspace.folder / "jobs" / job / "exit_code").exists()
    return False


async def _two_workers(kind: Kind, this: Round) -> bool:
    """Kill the one of two workers that has the run. The other one takes it over."""
    service = this.world.service
    service.restart_worker(_SECOND)
    try:
        await this.start_and_wait()
        [run] = await this.world.runs(this.name)
        holder = next((name for name in ("worker", _SECOND) if _holds(service.pid(name), run)), None)
        if holder is None or not await this.world.is_under_way(this.name):
            return False
        service.end(holder, signal.SIGKILL)

        async def over() -> bool:
            return all(run.state and run.state.is_final() for run in await this.world.runs(this.name))

        await this.until(over, seconds=_TAKING_OVER_SECONDS)
    finally:
        service.end(_SECOND)
        if not service.runs("worker"):
            service.restart_worker()
    return True


def _holds(worker: int, run: FlowRun) -> bool:
    """Return whether a worker, by the number of its process, has taken a run."""
    if run.infrastructure_pid is None:
        return False
    for file in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(OSError):
            if file.readlink().name == run.infrastructure_pid:
                return True
    return False


def _followers(this: Round) -> int:
    """Return how many runs wait for a job that runs."""
    job = this.running()
    return len(this.workspace.followers(job).get(job, {})) if job else 0


def _sleeping(group: int) -> list[int]:
    """Return the numbers of the processes `sleep` of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
            if name == "sleep" and int(rest.split()[2]) == group:
                found.append(int(entry.parent.name))
    return found
