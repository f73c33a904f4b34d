"""Serve a worker's metrics for Prometheus, and its health, over HTTP: `rebel-nerf worker --metrics-port 9464`.

The metrics contain names of scenes, so they can be read from this machine only, unless the worker's options say
otherwise.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pydantic import TypeAdapter, ValidationError

from jobs.errors import InvalidInput
from jobs.names import SceneName
from tasks.news import News
from tasks.wanted import current_run

__all__ = ["Metrics", "serving"]

_FLOW = "nerf"  # the newest run of this flow decides whether a scene has failed
_OF_SCENES = ("nerf", "render", "export")
_PAGE = 200  # most flow runs in one answer of the server
_PAGES = 5  # at the start: the newest thousand runs say when each scene last succeeded
_JOBS_REMEMBERED = 10_000
_SCENE = TypeAdapter(SceneName)


@dataclass
class _Run:
    """A flow run of a scene that this worker executes, and which parts of its stages wait or run."""

    scene: str
    flow: str
    parts: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether a part waits, by its stage and name."""

    @property
    def waits(self) -> bool:
        return bool(self.parts) and all(self.parts.values())


class Metrics:
    """The counts of a worker. Methods may be called from any thread.

    A scene runs if a stage of one of its runs does. It waits if all its runs wait for a GPU, a processor or a node, or
    for a worker. It has failed if its newest run of the flow `nerf` did.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._scenes = Gauge(
            "rebel_nerf_scenes",
            "Scenes that run or wait, and those whose newest run has failed.",
            ["state"],
            registry=self.registry,
        )
        self._ended = Counter(
            "rebel_nerf_runs", "Flow runs that ended in this worker.", ["flow", "state"], registry=self.registry
        )
        self._seconds = Counter(
            "rebel_nerf_job_seconds",
            "Run time of the jobs that ended while this worker followed them. tier is gpu or cpu.",
            ["scene", "stage", "tier", "state"],
            registry=self.registry,
        )
        self._success = Gauge(
            "rebel_nerf_last_success_timestamp_seconds",
            "When the flow nerf last completed for a scene.",
            ["scene"],
            registry=self.registry,
        )
        self._lock = threading.Lock()
        self._runs: dict[UUID, _Run] = {}
        self._due: set[str] = set()
        self._newest: dict[str, tuple[datetime, bool]] = {}
        """By scene: when its newest run ended, and whether that run failed."""
        self._succeeded: dict[str, datetime] = {}
        self._jobs: OrderedDict[str, None] = OrderedDict()
        self._is_first = True
        self._show()

    def begin(self, run: FlowRun, flow: str) -> None:
        """Note that this worker executes a flow run."""
        if flow in _OF_SCENES:
            with self._lock:
                self._runs[run.id] = _Run(_scene_of(run), flow)
                self._show()

    def end(self, run: FlowRun, state: StateType | None) -> None:
        """Note how a flow run ended; None if it goes back into the queue."""
        with self._lock:
            if (known := self._runs.pop(run.id, None)) is None:
                return
            if state:
                self._ended.labels(known.flow, state.value.lower()).inc()
                if known.flow == _FLOW:
                    self._note(known.scene, state, datetime.now(timezone.utc))
            self._show()

    def take(self, news: News) -> None:
        """Note the news of a stage of the flow run that the caller is part of."""
        run = current_run()
        with self._lock:
            if run is None or (known := self._runs.get(run)) is None:
                return
            part = (news.stage, news.part)
            if news.state == "done":
                known.parts.pop(part, None)
            else:
                known.parts[part] = news.state == "waiting"
            if (job := news.ended) and job.name not in self._jobs:  # several runs may have followed it
                self._jobs[job.name] = None
                if len(self._jobs) > _JOBS_REMEMBERED:
                    self._jobs.popitem(last=False)
                self._seconds.labels(known.scene, news.stage, news.tier, job.state.value.lower()).inc(job.seconds)
            self._show()

    async def refresh(self, client: PrefectClient) -> None:
        """Find scenes that wait for a worker, and runs that ended elsewhere or before this worker started."""
        flows = FlowFilter(name=FlowFilterName(any_=[*_OF_SCENES]))
        now = datetime.now(timezone.utc)
        due = await client.read_flow_runs(
            flow_filter=flows,
            flow_run_filter=FlowRunFilter(
                state=_states(StateType.SCHEDULED, StateType.PENDING),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
            ),
            limit=_PAGE,
        )
        ended: list[FlowRun] = []
        for page in range(_PAGES if self._is_first else 1):
            found = await client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[_FLOW])),
                flow_run_filter=FlowRunFilter(state=_states(StateType.COMPLETED, StateType.FAILED, StateType.CRASHED)),
                sort=FlowRunSort.END_TIME_DESC,
                limit=_PAGE,
                offset=_PAGE * page,
            )
            ended += found
            if len(found) < _PAGE:
                break
        with self._lock:
            self._is_first = False
            self._due = {_scene_of(run) for run in due}
            for run in ended:
                if run.state_type and run.end_time:
                    self._note(_scene_of(run), run.state_type, run.end_time)
            self._show()

    def _note(self, scene: str, state: StateType, when: datetime) -> None:
        failed = state in (StateType.FAILED, StateType.CRASHED)
        if not failed and state is not StateType.COMPLETED:
            return
        if scene not in self._newest or when > self._newest[scene][0]:
            self._newest[scene] = (when, failed)
        if not failed and (scene not in self._succeeded or when > self._succeeded[scene]):
            self._succeeded[scene] = when
            self._success.labels(scene).set(when.timestamp())

    def _show(self) -> None:
        running = {run.scene for run in self._runs.values() if not run.waits}
        waiting = {run.scene for run in self._runs.values()} | self._due
        failed = {scene for scene, (_, has_failed) in self._newest.items() if has_failed}
        for state, scenes in (("running", running), ("waiting", waiting - running), ("failed", failed)):
            self._scenes.labels(state).set(len(scenes))


def _scene_of(run: FlowRun) -> str:
    """Return the scene of a run; "" if its parameter is not a valid name. Such a run fails at its first check."""
    try:
        return _SCENE.validate_python(run.parameters.get("scene"))
    except ValidationError:
        return ""


def _states(*types: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=[*types]))


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: Prometheus asks every few seconds."""


@contextmanager
def serving(metrics: Metrics, host: str, port: int, fault: Callable[[], str]) -> Iterator[None]:
    """Serve `/metrics` and `/health` inside.

    Args:
        metrics: the metrics to serve.
        host, port: the address to listen on.
        fault: returns what is wrong with the worker; "" if nothing is. `/health` then answers 200, else 503.

    Raises:
        InvalidInput: the address cannot be listened on.
    """
    page = make_wsgi_app(metrics.registry)
    is_local = _is_loopback(host)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        def say(status: str, text: str) -> list[bytes]:
            start(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{text}\n".encode()]

        # A web page can give its own name the address 127.0.0.1, and would then read what this machine answers.
        if is_local and not _is_loopback(urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""):
            return say("403 Forbidden", "Use the address 127.0.0.1.")
        if environ["PATH_INFO"] == "/metrics":
            found: Iterable[bytes] = page(environ, start)
            return found
        if environ["PATH_INFO"] == "/health":
            problem = fault()
            return say("503 Service Unavailable", problem) if problem else say("200 OK", "ok")
        return say("404 Not Found", "There are /metrics and /health.")

    try:
        server = make_server(host, port, answer, ThreadingWSGIServer, _Silent)
    except OSError as error:
        raise InvalidInput(
            f"--metrics-port: {host}:{port} cannot be listened on ({error.strerror}). Choose another port."
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
