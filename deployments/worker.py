"""The worker: `python -m deployments.worker`, or `make worker`. All its flow runs live in one process.

A flow run here does nothing but wait for jobs, so hundreds of them fit in one event loop (`benchmarks/waiting.md`);
Prefect's process worker takes a hundred megabytes for each.

Ended by a signal, the worker leaves the jobs running and puts its runs back into the queue: the next worker goes on
with both. Killed, it is missed by the next worker of the same machine, which puts them back.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.abc
from prefect import Flow
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_HOME
from prefect.states import Scheduled
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import BaseModel, Field
from pydantic_settings import CliApp

from blocks import supervisor
from tasks import end_without_cancelling

_BEGINNING_AT_ONCE = 2
_PATIENCE_SECONDS = 20.0  # that ending may take
_THREADS = 64  # what blocks (a poll, a transfer) runs in threads: many transfers must not keep polls waiting


class SceneWorkerResult(BaseWorkerResult):
    """How a flow run ended."""


class SceneWorker(BaseWorker[BaseJobConfiguration, BaseVariables, SceneWorkerResult]):
    """Runs flows of this project in its own process and event loop."""

    type = "rebel-nerf"
    _description = "Runs the flows of rebel-nerf in one process: hundreds of scenes can wait at once."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        folder = PREFECT_HOME.value() / "rebel-nerf-workers"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._id = folder, uuid4().hex
        # Locked as long as this process lives, whatever ends it.
        self._lock = supervisor.lock(folder / self._id)
        self._beginning = asyncio.Semaphore(_BEGINNING_AT_ONCE)
        self._running: dict[asyncio.Task[Any], FlowRun] = {}

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> SceneWorkerResult:
        """Run a flow run to its end; its outcome is its state, whatever it is."""
        assert flow_run.deployment_id is not None
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        begun = asyncio.Event()
        flow = _load(deployment.entrypoint or "").with_options(on_running=[lambda *_: begun.set()])
        # A run of a deployment gets a thread and a websocket of its own, to be suspended by, and the event loop waits
        # for both: with a hundred runs the server did not take another, and all stood still.
        alone = flow_run.model_copy(update={"deployment_id": None})
        running = asyncio.create_task(
            run_flow_async(flow, flow_run=alone, parameters=flow_run.parameters, return_type="state")
        )
        self._running[running] = flow_run
        beginning = asyncio.create_task(begun.wait())
        await asyncio.wait([running, beginning], return_when=asyncio.FIRST_COMPLETED)
        beginning.cancel()
        if task_status:
            task_status.started(self._id)  # noted with the run, as the place where it is
        try:
            await asyncio.wait([running])
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
            self._running.pop(running)
        if not running.cancelled() and (error := running.exception()):
            self._logger.error("Flow run %s: %s", flow_run.name, error)
        return SceneWorkerResult(identifier=self._id, status_code=0)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        # A server on SQLite turns away what many ask at once, and each waits longer before it asks again: 20 runs that
        # began together took three minutes.
        async with self._beginning:
            await super()._submit_run(flow_run)

    async def put_back_lost_runs(self) -> None:
        """Put the runs of workers that were killed on this machine back into the queue."""
        dead = [file.name for file in self._folder.iterdir() if file.name != self._id and supervisor.unlocked(file)]
        chosen = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
        )
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool_name]))
        while dead:
            runs = await self.client.read_flow_runs(flow_run_filter=chosen, work_pool_filter=pool, limit=200)
            lost = [run for run in runs if run.infrastructure_pid in dead]
            for run in lost:
                await self._put_back(run)
            if not lost:
                break
        for name in dead:
            (self._folder / name).unlink(missing_ok=True)

    async def put_back_all(self) -> None:
        """End all runs here without ending their jobs, and put them back into the queue."""
        end_without_cancelling()
        running = dict(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for run in running.values():
            await self._put_back(run)

    async def _put_back(self, run: FlowRun) -> None:
        self._logger.info("Flow run %s goes back into the queue", run.name)
        await self.client.set_flow_run_state(run.id, Scheduled(message="its worker ended"), force=True)


def _load(entrypoint: str) -> Flow[..., Any]:
    """The flow of an entrypoint (`flows/nerf.py:nerf`), as a module of this process, imported once."""
    path, _, name = entrypoint.partition(":")
    found = getattr(importlib.import_module(".".join(Path(path).with_suffix("").parts)), name)
    assert isinstance(found, Flow)
    return found


class Worker(BaseModel):
    """Run the flow runs of a work pool in this process."""

    pool: str = Field("rebel-nerf", description="the work pool; made if it is not there")
    pool_only: bool = Field(False, description="make the work pool, and end")
    limit: int | None = Field(None, ge=1, description="flow runs at once")
    name: str | None = Field(None, description="of the worker, in Prefect's UI")


async def work(given: Worker, ended: asyncio.Event) -> None:
    """Work until `ended` is set."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    worker = SceneWorker(work_pool_name=given.pool, limit=given.limit, name=given.name)
    async with worker:
        await worker.sync_with_backend()
        if given.pool_only:
            return
        await worker.put_back_lost_runs()
    working, ending = asyncio.create_task(worker.start()), asyncio.create_task(ended.wait())
    await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        await worker.put_back_all()
        working.cancel()
    ending.cancel()
    with suppress(asyncio.CancelledError):
        await working


def main(given: Worker) -> None:
    """Work until a signal comes.

    Not in the main thread: there, each flow run would take signals for itself, as if it had the process for its own.
    """
    loop, ended, signalled = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: signalled.set())
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(loop.run_until_complete, work(given, ended))
        while not working.done() and not signalled.wait(0.5):
            pass
        # With a server that is gone, Prefect would try to reach it for minutes; the next worker misses what is left.
        impatient = threading.Timer(_PATIENCE_SECONDS, os._exit, [1])
        impatient.daemon = True
        impatient.start()
        loop.call_soon_threadsafe(ended.set)
        working.result()


if __name__ == "__main__":
    main(CliApp.run(Worker, cli_args=sys.argv[1:]))
