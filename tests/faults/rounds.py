"""Kill something at a random moment, start the same again, and judge: `python -m tests.faults.rounds --rounds 50`.

A round runs a flow of two stages whose jobs sleep. At a seeded moment something happens (`tests/faults/strikes.py`).
What was killed is started again, then the flow. Afterwards `tests/faults/verdict.py` compares the workspace with what
is right. A round in which nothing was struck does not count, and is tried again at another moment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import State
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Scheduled

from blocks import JobState
from tests.faults import power_loss
from tests.faults.chain import chain_workspace
from tests.faults.strikes import ALONE, KINDS, Kind, Round, strike
from tests.faults.surroundings import Surroundings
from tests.faults.verdict import judge
from tests.service import Service

__all__ = ["KINDS", "Outcome", "World", "running_world"]

_JOB_SECONDS = 1.0
_CANCELLED_JOB_SECONDS = 300.0  # a job that is not cancelled is noticed: it outlasts the round
_LATEST_MOMENT = 3.5  # seconds; by then most runs are in their second stage
_TRIES = 6
_BATCH = 2 * len(KINDS)
_CRASHED_SECONDS = 60.0  # a worker looks twice in this time for runs that it has to queue again
_PATIENCE_SECONDS = 300.0  # a server on SQLite has been seen to let writes wait for two minutes after a worker ended

_MAY_BE_LOST: dict[str, tuple[JobState, ...]] = {
    "job": (JobState.INTERRUPTED,),
    "cancel": (JobState.CANCELED,),
    "cancel taking": (JobState.CANCELED,),
    "power loss": (JobState.INTERRUPTED,),
    "machine": (JobState.INTERRUPTED,),
    "disk full": (JobState.INTERRUPTED, JobState.FAILED),
}
_WRITER_KILLED = ("worker", "worker taking", "two workers", "flow", "power loss", "machine")
_ON_A_FULL_DISK = re.compile("^(?!.*OSError).*(disk is full|No space left)", re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a round.

    Args:
        kind: what happened.
        moment: seconds after the start at which it happened, where the kind does not say when.
        struck: whether it hit anything. If not, the round proves nothing.
        starts: how often a job of each stage began.
        lost_seconds: how long jobs ran of which nothing came. In rounds that cancel a run, somebody wanted that; in
            all others, the same is computed and paid again.
        seconds: that the round took.
        faults: what is wrong.
    """

    kind: Kind
    moment: float
    struck: bool
    starts: dict[str, int]
    lost_seconds: float
    seconds: float
    faults: tuple[str, ...]


class World:
    """A server and a worker, and the rounds that they go through.

    Args:
        service: its server and worker run.
        client: of the server.
        home: a folder with a workspace for each round.
        surroundings: of server, worker and jobs.
        patience: seconds after which a run that has not ended counts as lost.
    """

    def __init__(
        self,
        service: Service,
        client: PrefectClient,
        home: Path,
        surroundings: Surroundings,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self.service, self.client, self.surroundings = service, client, surroundings
        self._home, self._patience = home, patience
        self._deployment: UUID | None = None

    async def deploy(self) -> None:
        """Make the flow of the rounds a deployment."""
        await asyncio.to_thread(self.service.run, "deployments.worker", "--pool-only")
        flow = await self.client.create_flow_from_name("chain")
        self._deployment = await self.client.create_deployment(
            flow, "chain", entrypoint="tests/faults/chain.py:chain", work_pool_name="rebel-nerf"
        )

    async def counting_round(self, name: str, kind: Kind, chance: random.Random) -> Outcome:
        """Run rounds of a kind until one has struck something or gone wrong.

        Raises:
            AssertionError: none did.
        """
        for number in range(_TRIES):
            outcome = await self.round(f"{name}t{number}", kind, chance.uniform(0, _LATEST_MOMENT))
            if outcome.struck or outcome.faults:
                return outcome
        raise AssertionError(f"{_TRIES} rounds of the kind {kind!r} struck nothing")

    async def round(self, name: str, kind: Kind, moment: float) -> Outcome:
        """Run the flow, let something happen, run the flow again, and judge.

        Args:
            name: of the scene, another one each round.
            kind: what happens.
            moment: seconds after the start of the first run, where `kind` does not say when.
        """
        start = time.monotonic()
        root = self._home / name
        workspace = chain_workspace(root)
        (root / name).write_text(name)  # the photo, before the disk can be full
        (root / "seconds").write_text(str(_CANCELLED_JOB_SECONDS if kind.startswith("cancel") else _JOB_SECONDS))
        this = Round(self, name, workspace, moment)
        struck, faults = await strike(kind, this)
        (root / "seconds").write_text(str(_JOB_SECONDS))
        last = await self.run(name, root)
        try:
            for run in await self.runs(name):
                state = await self._ended(run.id)
                as_wanted = state.is_cancelled() and kind.startswith("cancel")
                may_fail = kind == "disk full" and run.id != last.id
                if not (
                    state.is_completed() or as_wanted or (may_fail and _ON_A_FULL_DISK.search(state.message or ""))
                ):
                    faults.append(f"a run ended as {state.name}: {state.message}")
        except TimeoutError as error:
            faults.append(str(error))
        if not self.service.runs("worker"):
            faults.append("the worker has ended")
            self.service.restart_worker()
        ended = await self.client.read_flow_run(last.id)
        if not (ended.state and ended.state.is_completed()):
            faults.append("the last run has not completed")
        may_be_lost, killed = _MAY_BE_LOST.get(kind, ()), kind in _WRITER_KILLED
        verdict = judge(workspace, name, may_be_lost, parts=killed, forgotten=kind in ("power loss", "machine"))
        faults += verdict.faults
        took = time.monotonic() - start
        return Outcome(kind, moment, struck, verdict.starts, verdict.lost_seconds, took, tuple(faults))

    async def run(self, name: str, root: Path) -> FlowRun:
        """Schedule a run of the flow."""
        assert self._deployment
        parameters = {"scene": name, "root": str(root), "seconds": _JOB_SECONDS}
        key = f"{name}-{time.monotonic_ns()}"  # it is one run, however often SQLite turns the request away
        while True:
            with suppress(httpx.HTTPError):
                return await self.client.create_flow_run_from_deployment(
                    self._deployment, parameters=parameters, state=Scheduled(), tags=[name], idempotency_key=key
                )
            await asyncio.sleep(0.5)

    async def runs(self, name: str) -> list[FlowRun]:
        """Return the runs of a round."""
        return await self.client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[name])))

    async def is_under_way(self, name: str) -> bool:
        """Return whether a run of a round has been taken by a worker and has not ended."""
        taken = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
        return any(run.state_type in taken for run in await self.runs(name))

    async def _ended(self, run: UUID) -> State[Any]:
        deadline = time.monotonic() + self._patience
        lasting = time.monotonic()  # since when the run has been crashed, if it is
        while True:
            found = await self.client.read_flow_run(run)
            crashed = bool(found.state and found.state.is_crashed())
            if not crashed:
                lasting = time.monotonic()
            # A worker stops a run that does not begin, and queues it again. It is crashed in between.
            lasts = not crashed or time.monotonic() - lasting > _CRASHED_SECONDS
            if found.state and found.state.is_final() and lasts:
                return found.state
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {found.name} is {found.state_name} for ever")
            await asyncio.sleep(0.2)


@asynccontextmanager
async def running_world(home: Path, patience: float = _PATIENCE_SECONDS) -> AsyncIterator[World]:
    """Start a server and a worker that write below `home`; `patience` as in `World`."""
    service, disk = Service(home / "service"), home / "disk"
    disk.mkdir()
    surroundings = Surroundings(home, disk)
    service.environment |= surroundings.environment
    service.environment[power_loss.SYNCS] = str(home / "syncs")
    service.environment["PYTHONPATH"] = f"{power_loss.SHIM}:{service.environment['PYTHONPATH']}"
    try:
        service.start_server()
        async with service.client() as client:
            world = World(service, client, disk, surroundings, patience)
            await world.deploy()
            service.restart_worker()
            yield world
    finally:
        service.close()


async def go_through(
    world: World, numbered: Sequence[tuple[int, Kind]], seed: int, at_once: int
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """Go through rounds, and yield each one's number and outcome as it comes.

    Rounds that strike the service itself go alone. What a round's number decides does not depend on the other rounds.
    """
    limit = asyncio.Semaphore(at_once)

    async def one(number: int, kind: Kind) -> tuple[int, Outcome]:
        async with limit:
            begun = time.monotonic()
            try:
                return number, await world.counting_round(f"r{number}", kind, random.Random(f"{seed} {number}"))
            except Exception as error:  # such as a server that does not start again
                took = time.monotonic() - begun
                return number, Outcome(kind, 0.0, False, {}, 0.0, took, (f"the round broke off: {error!r}",))

    for start in range(0, len(numbered), _BATCH):  # so that a call that is interrupted has had every kind
        batch = numbered[start : start + _BATCH]
        together = [asyncio.create_task(one(number, kind)) for number, kind in batch if kind not in ALONE]
        try:
            for task in asyncio.as_completed(together):
                yield await task
        finally:
            for unfinished in together:
                unfinished.cancel()
            await asyncio.gather(*together, return_exceptions=True)
        for number, kind in batch:
            if kind in ALONE:
                yield await one(number, kind)


def table(outcomes: Iterable[Outcome]) -> str:
    """Sum up outcomes by kind."""
    columns = ("kind", "rounds", "wrong", "jobs begun", "cancelled, GPU s", "paid twice, GPU s", "seconds a round")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.kind, []).append(outcome)
    by_kind["all"] = [outcome for found in by_kind.values() for outcome in found]
    for kind, found in by_kind.items():
        begun: Counter[str] = sum((Counter(outcome.starts) for outcome in found), Counter())
        cancelled = sum(outcome.lost_seconds for outcome in found if outcome.kind.startswith("cancel"))
        twice = sum(outcome.lost_seconds for outcome in found) - cancelled
        took = sum(outcome.seconds for outcome in found) / max(1, len(found))
        wrong = sum(bool(outcome.faults) for outcome in found)
        figures = f"{begun.total()} | {cancelled:.1f} | {twice:.1f} | {took:.0f}"
        lines.append(f"| {kind} | {len(found)} | {wrong} | {figures} |")
    return "\n".join(lines)


def recorded(file: Path) -> dict[int, Outcome]:
    """Return the outcomes in a file of earlier calls, by the numbers of their rounds, in the order of these."""
    lines = map(json.loads, file.read_text().splitlines() if file.exists() else ())
    found = {line.pop("number"): Outcome(**line | {"faults": tuple(line["faults"])}) for line in lines}
    return dict(sorted(found.items()))


def shares(numbers: Iterable[int], kinds: int, processes: int) -> list[list[int]]:
    """Divide the numbers of rounds among processes, so that each gets about as many of every kind."""
    by_kind = sorted(numbers, key=lambda number: (number % kinds, number))
    return [sorted(by_kind[index::processes]) for index in range(processes)]


async def go_through_share(given: argparse.Namespace, numbers: Sequence[int], deadline: float | None) -> None:
    """Go through rounds, and record each outcome as it comes; a round that the deadline interrupts is not recorded.

    A round that went wrong is the last of its server and worker, which may have suffered from it.
    """
    kinds: Sequence[Kind] = given.only or KINDS
    left, wrong = list(numbers), False
    while left and not (wrong and given.until_wrong):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # a job may still write
            wrong = False
            try:
                async with (
                    asyncio.timeout_at(deadline) as time_left,
                    running_world(Path(name), given.patience) as world,
                ):
                    wanted = [(number, kinds[number % len(kinds)]) for number in left]
                    async with aclosing(go_through(world, wanted, given.seed, given.at_once)) as outcomes:
                        async for number, outcome in outcomes:
                            left.remove(number)
                            record(given.record, number, outcome)
                            if wrong := bool(outcome.faults):
                                keep(Path(name), number, given.keep)
                                break
            except TimeoutError:
                if not time_left.expired():
                    raise
                return


def record(file: Path, number: int, outcome: Outcome) -> None:
    """Print the outcome of a round, and add it to a file to which other processes add theirs."""
    words = "; ".join(outcome.faults) or "nothing wrong"
    print(f"{number:4} {outcome.kind}, {outcome.seconds:.0f} s: {words}", file=sys.stderr, flush=True)
    with file.open("ab", buffering=0) as log:  # one call of the system
        log.write(f"{json.dumps({'number': number, **asdict(outcome)})}\n".encode())


def keep(home: Path, number: int, folder: Path | None) -> None:
    """Copy what a round left behind, and the logs of its server and worker."""
    if folder is None:
        return
    for log in home.glob("service/*.log"):
        (folder / f"r{number}").mkdir(parents=True, exist_ok=True)
        shutil.copy(log, folder / f"r{number}")
    for place in home.glob(f"disk/r{number}t*"):
        shutil.copytree(place, folder / f"r{number}" / place.name, symlinks=True)


def share(given: argparse.Namespace, deadline: float | None, numbers: Sequence[int]) -> None:
    """Go through rounds in a process of their own."""
    asyncio.run(go_through_share(given, numbers, deadline))


def main(given: argparse.Namespace) -> int:
    """Go through rounds, print what went wrong and a table; return how many went wrong."""
    deadline = time.monotonic() + given.seconds if given.seconds else None
    with tempfile.TemporaryDirectory() as scratch:
        given.record = given.record or Path(scratch) / "record"
        done = recorded(given.record)
        missing = (number for number in range(given.rounds) if number not in done)
        parts = [part for part in shares(missing, len(given.only or KINDS), given.processes) if part]
        with ProcessPoolExecutor(len(parts) or 1, get_context("spawn")) as pool:
            futures = [pool.submit(share, given, deadline, part) for part in parts]
        done = recorded(given.record)
    print(table(done.values()))
    for future in futures:
        future.result()  # raises what ended a process
    return sum(bool(outcome.faults) for outcome in done.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="divide the rounds among so many servers")
    parser.add_argument(
        "--at-once", type=int, default=4, help="rounds of a server that strike only their own run, at the same time"
    )
    parser.add_argument("--seconds", type=float, help="end after this time; a later call goes on from the record")
    parser.add_argument("--only", choices=KINDS, nargs="*", default=[], help="let only these happen")
    parser.add_argument("--until-wrong", action="store_true", help="end with the first round that goes wrong")
    parser.add_argument("--patience", type=float, default=_PATIENCE_SECONDS, help="seconds until a run counts as lost")
    parser.add_argument("--record", type=Path, help="a file that gets each outcome; a later call goes on from there")
    parser.add_argument("--keep", type=Path, help="a folder that gets the logs and files of rounds that go wrong")
    sys.exit(min(1, main(parser.parse_args())))
