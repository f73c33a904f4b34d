"""The worker that executes all its flow runs in one process.

A flow run only waits for jobs, so one event loop can hold hundreds of them (`benchmarks/waiting.md`). Prefect's own
process worker needs a hundred megabytes for each.

When a worker is killed, another worker on the same machine notices and puts its flow runs back into the queue.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio.abc
import httpx
from prefect import Flow, State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Abort, InfrastructureNotFound, Pause
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_HOME, PREFECT_WORKER_QUERY_SECONDS
from prefect.states import Cancelled, Pending, Scheduled
from prefect.utilities.engine import propose_state
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from blocks import supervisor
from blocks.privacy import make_private
from deployments.metrics import Metrics
from tasks.wanted import Resumed

__all__ = ["SceneWorker"]

_BEGINNING_AT_ONCE = 2
_BEGINNING_SECONDS = 60.0  # a server that works lets a run begin within seconds
_LOOKING_FOR_LOST_SECONDS = 30.0
_PAGE = 200  # maximum number of flow runs in one answer of the server
_TAKEN_BY = "taken by worker "
_SILENT_SECONDS = 180.0  # Prefect's client waits for a minute before it says that the server does not answer


class SceneWorkerResult(BaseWorkerResult):
    """How a flow run ended."""


class SceneWorker(BaseWorker[BaseJobConfiguration, BaseVariables, SceneWorkerResult]):
    """Executes flows of this project in its own process and event loop.

    Prefect has no public hooks for this, so the class overrides private methods of `BaseWorker`, which
    `tests/deployments/test_scene_worker.py` lists. `pyproject.toml` admits only the tested versions of Prefect.
    """

    type = "rebel-nerf"
    _description = "Runs the flows of rebel-nerf in one process: hundreds of scenes can wait at once."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._id = uuid4().hex
        self._folder = PREFECT_HOME.value() / "rebel-nerf-workers"
        make_private(self._folder.parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # The lock lasts as long as this process. The file gets its visible name only once it is locked.
        new = self._folder / f".{self._id}"
        self._lock = supervisor.lock(new)
        new.rename(self._folder / self._id)
        self._beginning = asyncio.Semaphore(_BEGINNING_AT_ONCE)
        self._running: dict[asyncio.Task[Any], FlowRun] = {}
        self._late: set[UUID] = set()
        """Runs that did not begin here and are not queued again yet."""
        self.metrics = Metrics()
        self._polled = time.monotonic()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> SceneWorkerResult:
        """Execute a flow run to its end. Its state says how it ended."""
        assert flow_run.deployment_id is not None
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        # The state Pending names this worker, but the state Running does not.
        await self.client.update_flow_run(flow_run.id, infrastructure_pid=self._id)
        begun = asyncio.Event()
        flow = _load(deployment.entrypoint or "").with_options(on_running=[lambda *_: begun.set()])
        self.metrics.begin(flow_run, flow.name)
        # For a deployment's run, Prefect opens a thread and a websocket to suspend the run. The event loop
        # waits for both. With a hundred runs, the server accepted no more connections and all runs blocked.
        alone = flow_run.model_copy(update={"deployment_id": None})
        running = asyncio.create_task(
            run_flow_async(flow, flow_run=alone, parameters=flow_run.parameters, return_type="state")
        )
        self._running[running] = flow_run
        running.add_done_callback(self._running.pop)
        beginning = asyncio.create_task(begun.wait())
        await asyncio.wait([running, beginning], timeout=_BEGINNING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        beginning.cancel()
        late = not begun.is_set() and not running.done()
        if late:  # such as when the server's clock was set back: Prefect waits until it shows the scheduled time again
            running.cancel()
        if task_status:
            task_status.started(self._id)
        try:
            await asyncio.wait([running])
        finally:
            running.cancel()
            self.metrics.end(flow_run, _end_of(running))
        if late:
            try:
                await self._queue_again(flow_run)
            except httpx.HTTPError as failure:  # put_back_lost_runs tries again
                self._logger.warning("Flow run %s could not be queued: %s", flow_run.name, failure)
        elif running.cancelled():
            pass
        elif isinstance(error := running.exception(), Resumed):
            self._logger.info("Flow run %s was suspended and resumed at once. Its job goes on", flow_run.name)
        elif isinstance(error, Pause):
            self._logger.info(
                "Flow run %s is suspended. Its job was cancelled, unless another run needs it", flow_run.name
            )
        elif error:
            self._logger.error("Flow run %s: %s", flow_run.name, error)
        elif (state := running.result()) and state.is_cancelling():  # cancelled before it began: no one else ends it
            await self._mark_flow_run_as_cancelled(flow_run)
        return SceneWorkerResult(identifier=self._id, status_code=0)

    async def kill_infrastructure(self, *args: Any, **kwargs: Any) -> None:
        """Report that there is nothing to kill. A flow run in this process sees its cancellation by itself."""
        raise InfrastructureNotFound

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Poll the server. A failed poll is only logged; Prefect's own method would stop the worker after a few."""
        try:
            submitted = await super().get_and_submit_flow_runs()
        except httpx.HTTPError as error:
            self._logger.warning("The Prefect server failed (%s). The worker continues and polls again", error)
            return []
        self._polled = time.monotonic()
        return submitted

    def fault(self) -> str:
        """Return what is wrong with this worker; "" if nothing is."""
        silent = time.monotonic() - self._polled
        limit = max(_SILENT_SECONDS, 30 * PREFECT_WORKER_QUERY_SECONDS.value())
        return "" if silent < limit else f"The Prefect server gave this worker no answer for {silent:.0f} s."

    async def sync_with_backend(self) -> None:
        """Send a heartbeat. A failed one is only logged, unless it is the first, which shows a wrong configuration."""
        try:
            await super().sync_with_backend()
        except httpx.HTTPError as error:
            if not self._has_successfully_synced:
                raise
            self._logger.warning("The Prefect server failed (%s). The worker continues and tries again", error)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        # A server on SQLite rejects many simultaneous requests, and each client backs off: 20 runs that started at once
        # needed three minutes.
        async with self._beginning:
            try:
                await super()._submit_run(flow_run)
            except Exception as error:  # would stop the worker; put_back_lost_runs finds the run
                self._logger.warning(
                    "Flow run %s could not be started: %r. It will be queued again", flow_run.name, error
                )
                self._release_limit_slot(flow_run.id)
                self._submitting_flow_run_ids.discard(flow_run.id)

    async def _propose_crashed_state(self, flow_run: FlowRun, message: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], httpx.HTTPError):  # the server failed, not the run
            self._logger.warning(
                "Flow run %s could not be started: %s. It will be queued again", flow_run.name, message
            )
            return
        await super()._propose_crashed_state(flow_run, message, *args, **kwargs)

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        if any(run.id == flow_run.id for run in self._running.values()):
            # It was suspended and resumed. Its last execution may be cancelling its job, and will end within seconds.
            self._logger.info("Flow run %s begins again as soon as its suspension has taken effect", flow_run.name)
            return False
        # The state names this worker, so that the run is found even if the worker dies right now.
        try:
            state = await propose_state(self.client, Pending(message=_TAKEN_BY + self._id), flow_run_id=flow_run.id)
        except Abort as error:
            self._logger.info("Flow run %s is not executed: %s", flow_run.name, error)
            return False
        except Exception:  # as in Prefect: an exception here would stop the worker
            self._logger.exception("Flow run %s could not be claimed", flow_run.name)
            return False
        return state.is_pending()

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Do nothing: between Pending and Running, there is no infrastructure to submit to."""

    async def put_back_lost_runs(self) -> None:
        """Put flow runs back into the queue that no worker executes: those of killed workers on this machine, and those
        that this worker failed to start."""
        with ExitStack() as locks:
            dead = []
            for file in self._folder.glob("[!.]*"):
                if file.name != self._id and (lock := supervisor.lock(file)):  # if locked, it lives or is handled
                    locks.enter_context(lock)
                    dead.append(file)
            before = self._mine()
            async with get_client() as client:
                await self._put_back_late_runs(client)
                for run in await self._taken(client, {self._id, *(file.name for file in dead)}):
                    if run.id in before | self._mine():
                        continue
                    now = await client.read_flow_run(run.id)
                    if now.state_id == run.state_id:  # otherwise it has begun and ended here since `before`
                        await self._put_back(client, run)
            for file in dead:
                file.unlink(missing_ok=True)

    async def put_back_lost_runs_for_ever(self) -> None:
        """Look for lost runs every 30 seconds."""
        while True:
            try:
                await self.put_back_lost_runs()
            except Exception as error:  # most likely the server does not answer: try again later
                self._logger.warning("Could not look for lost runs: %r", error)
            await asyncio.sleep(_LOOKING_FOR_LOST_SECONDS)

    async def refresh_metrics_for_ever(self) -> None:
        """Bring the metrics up to date every 30 seconds."""
        while True:
            try:
                async with get_client() as client:
                    await self.metrics.refresh(client)
            except Exception as error:  # most likely the server does not answer: try again later
                self._logger.warning("The metrics could not be brought up to date: %r", error)
            await asyncio.sleep(_LOOKING_FOR_LOST_SECONDS)

    async def end_runs(self) -> list[FlowRun]:
        """Stop all flow runs of this process and return them."""
        running = dict(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        return list(running.values())

    async def put_back(self, ended: list[FlowRun]) -> None:
        """Put back into the queue the flow runs that this worker stopped, or had claimed but not started."""
        async with get_client() as client:
            await self._put_back_late_runs(client)
            found = [await client.read_flow_run(run.id) for run in ended]
            crashed = [run for run in found if run.state and run.state.is_crashed()]  # because they were stopped
            for run in [*crashed, *await self._taken(client, {self._id})]:
                await self._put_back(client, run)

    async def _queue_again(self, flow_run: FlowRun) -> None:
        """Put back into the queue a flow run that was stopped before it began."""
        self._logger.warning(
            "Flow run %s did not begin within %.0f s. It is queued again", flow_run.name, _BEGINNING_SECONDS
        )
        self._late.add(flow_run.id)
        await self._put_back_late_runs(self.client)

    async def _put_back_late_runs(self, client: PrefectClient) -> None:
        for late in tuple(self._late):
            found = await client.read_flow_run(late)
            if found.state and (found.state.is_pending() or found.state.is_crashed()):
                await self._put_back(client, found, "it did not begin")
            self._late.discard(late)

    def _mine(self) -> set[UUID]:
        return {run.id for run in self._running.values()} | self._submitting_flow_run_ids

    async def _taken(self, client: PrefectClient, by: set[str]) -> list[FlowRun]:
        """Return the unfinished flow runs that these workers claimed."""
        types = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
        chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool_name]))
        taken: list[FlowRun] = []
        offset = 0
        while runs := await client.read_flow_runs(
            flow_run_filter=chosen, work_pool_filter=pool, limit=_PAGE, offset=offset
        ):
            taken += [run for run in runs if _worker_of(run) in by]
            offset += len(runs)
        return taken

    async def _put_back(self, client: PrefectClient, run: FlowRun, why: str = "its worker stopped") -> None:
        new: State[Any] = Scheduled(message=why)
        if run.state and run.state.is_cancelling():
            new = Cancelled(message=why)
        self._logger.info("Flow run %s is %s: %s", run.name, new.name, why)
        await client.set_flow_run_state(run.id, new, force=True)


def _worker_of(run: FlowRun) -> str | None:
    assert run.state
    if run.state.is_pending():  # infrastructure_pid may still name an earlier worker
        return (run.state.message or "").removeprefix(_TAKEN_BY)
    return run.infrastructure_pid


def _end_of(running: asyncio.Task[State[Any] | None]) -> StateType | None:
    """Return how a flow run ended; None if it was only stopped here, or has not ended."""
    if not running.done() or running.cancelled():
        return None
    if error := running.exception():
        return None if isinstance(error, Pause) else StateType.CRASHED
    state = running.result()
    return state.type if state else None


def _load(entrypoint: str) -> Flow[..., Any]:
    """Import the flow of an entrypoint (`flows/nerf.py:nerf`) as a module of this process."""
    path, _, name = entrypoint.partition(":")
    found = getattr(importlib.import_module(".".join(Path(path).with_suffix("").parts)), name)
    assert isinstance(found, Flow)
    return found
