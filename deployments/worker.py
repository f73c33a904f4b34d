"""The worker as a program: `rebel-nerf worker`, or `make worker`.

When a signal stops it, it leaves the jobs running and puts its flow runs back into the queue. The next worker continues
them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import BaseModel, Field

from commands.shell.usage import parse
from deployments.metrics import serving
from deployments.scene_worker import SceneWorker
from jobs.errors import RebelNerfError
from tasks import check_server, end_without_cancelling
from tasks.housekeeping import HOUSEKEEPING
from tasks.news import watching
from tasks.patience import PATIENT_CLIENT
from tasks.sign_in import client_settings, link_settings, local_server

_PATIENCE_SECONDS = 20.0  # how long stopping may take
_THREADS = 64  # for calls that block (polls, transfers): many transfers must not delay polls


class Worker(BaseModel):
    """Execute the flow runs of a work pool in this process."""

    pool: str = Field("rebel-nerf", description="Work pool to serve. It is created if it does not exist.")
    pool_only: bool = Field(False, description="Create the work pool and exit.")
    limit: int | None = Field(None, ge=1, description="Maximum number of concurrent flow runs. Defaults to no limit.")
    name: str | None = Field(None, description="Name of the worker in Prefect's UI.")
    patience: float = Field(60.0, ge=0, description="Seconds to wait for a server that is starting.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port for Prometheus (/metrics) and health checks (/health). Defaults to none.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address at which that port listens. Anybody there can read it.")


async def work(options: Worker, ended: asyncio.Event) -> None:
    """Work until `ended` is set."""
    with _signed_in():
        await _work(options, ended)


def _signed_in() -> AbstractContextManager[object]:
    """Use this machine's server, unless PREFECT_API_URL is set, and sign in to it."""
    address = PREFECT_API_URL.value() or local_server()
    with temporary_settings({PREFECT_API_URL: address}):
        settings = {PREFECT_API_URL: address, **PATIENT_CLIENT, **client_settings(), **link_settings()}
    return temporary_settings(settings)


async def _work(options: Worker, ended: asyncio.Event) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    worker = SceneWorker(work_pool_name=options.pool, limit=options.limit, name=options.name)
    if options.pool_only:
        async with worker:
            await worker.sync_with_backend()
        return
    with ExitStack() as served:
        minders = [asyncio.create_task(worker.put_back_lost_runs_for_ever())]
        if options.metrics_port:
            served.enter_context(serving(worker.metrics, options.metrics_host, options.metrics_port, worker.fault))
            served.enter_context(watching(worker.metrics.take))
            minders.append(asyncio.create_task(worker.refresh_metrics_for_ever()))
        await _work_until(worker, minders, ended)


async def _work_until(worker: SceneWorker, minders: list[asyncio.Task[None]], ended: asyncio.Event) -> None:
    """Work until `ended` is set or something fails, and then put the flow runs back into the queue."""
    working, ending = asyncio.create_task(worker.start()), asyncio.create_task(ended.wait())
    await asyncio.wait([working, ending, *minders], return_when=asyncio.FIRST_COMPLETED)
    for task in (ending, *minders):
        task.cancel()
    end_without_cancelling()
    runs = await worker.end_runs()
    working.cancel()
    await asyncio.wait([working, *minders])
    runs += await worker.end_runs()  # those that began meanwhile
    await worker.put_back(runs)
    for task in (working, *minders):
        with suppress(asyncio.CancelledError):
            task.result()


def _run_to_its_end(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, then end the tasks that it left.

    Prefect leaves the keepalive of a websocket, which asyncio would report as an error.
    """
    try:
        loop.run_until_complete(main)
    finally:
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


def _log_what_happens() -> None:
    """Keep lines off the terminal that say nothing new: steps of Prefect's worker, and housekeeping that goes well."""
    for name in ("prefect.engine", "prefect.flow_runs.worker"):  # each call of a hook, and each submission
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:  # of the terminal; the runs in the UI keep all lines
        handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or getattr(record, "flow_name", "") not in HOUSEKEEPING


def main(options: Worker) -> None:
    """Work until a signal arrives. Exit with 1 if no server answers, or if it does not accept this worker.

    The worker runs in its own thread, because in the main thread each flow run would install its own signal handlers.
    """
    try:
        with _signed_in():
            check_server(options.patience)
    except RebelNerfError as error:
        sys.exit(str(error))
    _log_what_happens()
    loop, ended, signalled = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: signalled.set())
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(_run_to_its_end, loop, work(options, ended))
        while not working.done() and not signalled.wait(0.5):
            pass
        # If the server is gone, Prefect would retry for minutes. The next worker finds the remaining runs.
        impatient = threading.Timer(_PATIENCE_SECONDS, os._exit, [1])
        impatient.daemon = True
        impatient.start()
        loop.call_soon_threadsafe(ended.set)
        try:
            working.result()
        except RebelNerfError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(parse(Worker, sys.argv[1:], "rebel-nerf worker"))
