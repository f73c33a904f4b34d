"""Kill something at a random moment, start the same again, and count: `python -m tests.faults.rounds --rounds 50`.

A round runs a flow of two stages on small jobs. At a seeded moment one of these is killed: the worker (with all its
runs, or just as it takes one), the flow (a run that a person started by hand), the job, its supervisor, the server. Or
the run is cancelled, at any time or as it is taken. Or the server answers 500 for a while. What was killed is started
again, then the flow. After each round the jobs started, the jobs that still run, the assets and what is left of
unfinished ones are compared with what is right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Scheduled

from blocks import LocalWorkspace, supervisor
from tests.faults.chain import started, workspace
from tests.processes import supervisor_of
from tests.service import Service

__all__ = ["KINDS", "Outcome", "World", "running_world"]

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
    "cancel",
    "cancel taking",
    "two at once",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_JOB_SECONDS = 1.0
_CANCELLED_JOB_SECONDS = 20.0  # long enough to be noticed
_FAILING_SECONDS = 15.0  # as long as a database takes to restart
_PATIENCE_SECONDS = 300.0  # a server on SQLite has been seen to let writes wait for two minutes after a worker ended


@dataclass(frozen=True)
class Outcome:
    """What a round led to, and what is wrong with that."""

    kind: str
    moment: float
    """s after the start."""
    jobs_started: dict[str, int]
    seconds: float
    faults: tuple[str, ...]


class World:
    """A server, a worker, and the rounds that they go through.

    Args:
        service: server and worker run.
        client: of the server.
        home: a folder for a workspace a round.
    """

    def __init__(self, service: Service, client: PrefectClient, home: Path) -> None:
        self.service, self._client, self._home = service, client, home
        self._deployment: UUID | None = None
        self._seconds = _JOB_SECONDS

    async def deploy(self) -> None:
        """Make the flow of the rounds a deployment."""
        await asyncio.to_thread(self.service.run, "deployments.worker", "--pool-only")
        flow = await self._client.create_flow_from_name("chain")
        self._deployment = await self._client.create_deployment(
            flow, "chain", entrypoint="tests/faults/chain.py:chain", work_pool_name="rebel-nerf"
        )

    async def round(self, name: str, kind: Kind, moment: float) -> Outcome:
        """Run the flow, let `kind` happen after `moment` seconds, run it again, and see what is right.

        Args:
            name: of the scene, another one each round.
            kind: what happens.
            moment: s after the start of the first run, where `kind` does not say when.
        """
        start = time.monotonic()
        root = self._home / name
        place = workspace(root)
        self._seconds = _CANCELLED_JOB_SECONDS if kind == "cancel" else _JOB_SECONDS
        by_hand = None
        if kind == "flow":
            by_hand = self._by_hand(name, root)
            while by_hand.poll() is None and not started(place):  # its start alone takes seconds
                await asyncio.sleep(0.02)
        else:
            await self._run(name, root)
        runs = [] if by_hand else [await self._run(name, root)] if kind == "two at once" else []
        if kind.endswith("taking") and kind != "server failing taking":
            while not any(run.state and run.state.is_pending() for run in await self._runs(name)):
                await asyncio.sleep(0.02)
        elif kind != "server failing taking":
            await asyncio.sleep(moment)
        struck = await self._strike(kind, place, name, by_hand)
        if kind.startswith("cancel"):
            deadline = time.monotonic() + 30
            while not _all_ended(place):
                assert time.monotonic() < deadline, "a cancelled run's job runs on"
                await asyncio.sleep(0.2)
        runs.append(await self._run(name, root))
        faults = []
        try:
            for run in await self._runs(name):
                await self._ended(run.id)
        except TimeoutError as error:
            faults.append(str(error))
        if not self.service.runs("worker"):
            faults.append("the worker has ended")
        counts = Counter(started(place))
        again = struck if kind == "job" or kind.startswith("cancel") else ""
        for stage in ("first", "second"):
            right = {1, 2} if stage == again else {1}
            if counts[stage] not in right:
                faults.append(f"{counts[stage]} jobs of the stage {stage} were started")
            if (assets := len(place.assets(f"{name}-{stage}"))) != 1:
                faults.append(f"{assets} assets of the stage {stage}")
        last = await self._client.read_flow_run(runs[-1].id)
        if not (last.state and last.state.is_completed()):
            faults.append(f"the last run ended {last.state!r}")
        if not _all_ended(place):
            faults.append("a job still runs")
        if left := [str(part.relative_to(root)) for part in root.rglob("*.part")]:
            faults.append(f"left behind: {left}")
        return Outcome(kind, moment, dict(counts), time.monotonic() - start, tuple(faults))

    async def _strike(
        self, kind: Kind, place: LocalWorkspace, name: str, by_hand: subprocess.Popen[bytes] | None
    ) -> str:
        """Let it happen; the stage whose job was struck, if one was."""
        if kind in ("worker", "worker taking"):
            self.service.end("worker", signal.SIGKILL)
            self.service.start_worker()
        elif kind == "worker stopped":
            self.service.end("worker", signal.SIGTERM)
            self.service.start_worker()
        elif kind == "server":
            self.service.end("server", signal.SIGKILL)
            self.service.start_server()
        elif kind.startswith("server failing"):
            before = self.service.front.failed
            # All requests; or, once a worker has been told of a run, all but those by which it is told.
            asks = rb"\w+ .*/get_scheduled_flow_runs " if kind == "server failing taking" else rb"$."
            self.service.front.failing = re.compile(rb"(?!" + asks + rb")[A-Z]+ /")
            await asyncio.sleep(_FAILING_SECONDS)
            self.service.front.failing = None
            assert self.service.front.failed > before, "nothing was struck"
        elif kind == "flow":
            assert by_hand
            by_hand.kill()
            by_hand.wait()
        elif kind.startswith("cancel"):
            stage = _stage(_running(place))
            for run in await self._runs(name):
                await self._client.set_flow_run_state(run.id, Cancelling())
            return stage
        elif kind in ("job", "supervisor") and (job := _running(place)):
            folder = place.folder / "jobs" / job
            if kind == "supervisor":
                if process := supervisor_of(folder):
                    os.kill(process, signal.SIGKILL)
            elif group := _group(folder):
                os.killpg(group, signal.SIGKILL)
            return _stage(job)
        return ""

    async def _run(self, name: str, root: Path) -> FlowRun:
        assert self._deployment
        parameters = {"scene": name, "root": str(root), "seconds": self._seconds}
        return await self._client.create_flow_run_from_deployment(
            self._deployment, parameters=parameters, state=Scheduled(), tags=[name]
        )

    def _by_hand(self, name: str, root: Path) -> subprocess.Popen[bytes]:
        program = (
            "import asyncio, pathlib; from tests.faults.chain import chain;"
            f"asyncio.run(chain({name!r}, pathlib.Path({str(root)!r}), {_JOB_SECONDS}))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env=self.service.shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    async def _runs(self, name: str) -> list[FlowRun]:
        return await self._client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[name])))

    async def _ended(self, run: UUID) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = await self._client.read_flow_run(run)
            if found.state and found.state.is_final():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {found.name} is {found.state_name} for ever")
            await asyncio.sleep(0.2)


def _jobs(place: LocalWorkspace) -> list[str]:
    return [folder.name for folder in (place.folder / "jobs").glob("[!.]*")]


def _running(place: LocalWorkspace) -> str | None:
    """A job that runs."""
    running = (job for job in _jobs(place) if (status := place.find_job(job)) and not status.state.ended)
    return next(running, None)


def _stage(job: str | None) -> str:
    return job.split("-")[1] if job else ""


def _all_ended(place: LocalWorkspace) -> bool:
    return all(supervisor.unlocked(place.folder / "jobs" / job / "alive") for job in _jobs(place))


def _group(folder: Path) -> int | None:
    """The process group of a job, once it has one."""
    try:
        group: int | None = json.loads((folder / "status.json").read_text()).get("group")
    except FileNotFoundError:
        return None
    return group


@asynccontextmanager
async def running_world(home: Path) -> AsyncIterator[World]:
    """A world whose server and worker run."""
    service = Service(home / "service")
    try:
        service.start_server()
        async with service.client() as client:
            world = World(service, client, home)
            await world.deploy()
            service.start_worker()
            while "started!" not in service.log("worker"):  # a round must strike it at work
                assert service.runs("worker")
                await asyncio.sleep(0.2)
            yield world
    finally:
        service.close()


async def main(rounds: int, seed: int, only: Kind | None = None) -> int:
    """Go through rounds and print them as a table; how many went wrong."""
    wrong = 0
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        async with running_world(Path(name)) as world:
            print("| round | killed | after | jobs started | took | wrong |\n|---|---|---|---|---|---|")
            for number in range(rounds):
                kind = only or KINDS[number % len(KINDS)]
                outcome = await world.round(f"r{number}", kind, chance.uniform(0, 3.5))
                wrong += bool(outcome.faults)
                begun = ", ".join(f"{stage} {count}" for stage, count in sorted(outcome.jobs_started.items()))
                words = "; ".join(outcome.faults) or "nothing"
                moment, took = f"{outcome.moment:.1f} s", f"{outcome.seconds:.0f} s"
                print(f"| {number} | {kind} | {moment} | {begun} | {took} | {words} |", flush=True)
            if wrong:
                print(world.service.log("worker"))
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=KINDS, help="let this happen in each round")
    given = parser.parse_args()
    sys.exit(min(1, asyncio.run(main(given.rounds, given.seed, given.only))))
