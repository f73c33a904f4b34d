"""What Prometheus reads of a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prometheus_client.parser import text_string_to_metric_families

from deployments import metrics
from deployments.metrics import Metrics, serving
from deployments.scene_worker import SceneWorker
from flows.export import export
from flows.nerf import nerf
from flows.render import render
from jobs.errors import InvalidInput
from tests.faults.chain import chain_workspace
from tests.processes import free_port
from tests.service import Service

Values = dict[tuple[str, ...], float]


def values(text: str) -> Values:
    """Return a page's figures by their names and their labels' values, in the order of the labels' names."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


@dataclass
class Watched:
    """A service whose worker has metrics.

    Args:
        service, client: its processes, and a client of its server.
        port: of the metrics.
        deployment: of the flow in `tests/deployments/scenes.py`.
        root: the folder of the workspace.
    """

    service: Service
    client: PrefectClient
    port: int
    deployment: UUID
    root: Path

    async def run(self, scene: str, seconds: float) -> UUID:
        """Schedule a run whose job takes so many seconds."""
        (self.root / scene).write_text(scene)
        parameters = {"scene": scene, "root": str(self.root), "seconds": seconds}
        return (await self.client.create_flow_run_from_deployment(self.deployment, parameters=parameters)).id

    async def until(self, holds: Callable[[Values], bool], seconds: float = 120) -> Values:
        """Wait until a condition holds, and return the metrics."""
        deadline = time.monotonic() + seconds
        found: Values = {}
        while time.monotonic() < deadline:
            try:
                found = values(httpx.get(f"http://127.0.0.1:{self.port}/metrics").text)
            except httpx.TransportError:
                found = {}
            if holds(found):
                return found
            await asyncio.sleep(0.3)
        raise AssertionError(f"{found}\n{self.service.log('worker')}")


@pytest_asyncio.fixture(loop_scope="function")
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    service, port, root = Service(tmp_path / "service"), free_port(), tmp_path / "home"
    chain_workspace(root)
    try:
        service.start_server()
        service.run("deployments.worker", "--pool-only")
        async with service.client() as client:
            deployment = await client.create_deployment(
                await client.create_flow_from_name("nerf"), "scene",
                entrypoint="tests/deployments/scenes.py:nerf", work_pool_name="rebel-nerf",
            )  # fmt: skip
            service.restart_worker("worker", "--metrics-port", str(port))
            yield Watched(service, client, port, deployment, root)
    finally:
        service.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.asyncio(loop_scope="function")
async def test_prometheus_reads_what_a_worker_does(watched: Watched) -> None:
    before = time.time()
    await watched.run("mill", 0)
    await watched.run("quay", 6)
    await watched.run("street", 6)
    busy = await watched.until(
        lambda now: now.get(("rebel_nerf_scenes", "running")) == now.get(("rebel_nerf_scenes", "waiting")) == 1
    )
    assert ("rebel_nerf_last_success_timestamp_seconds", "mill") not in busy
    done = await watched.until(lambda now: now.get(("rebel_nerf_runs_total", "nerf", "completed")) == 2)
    assert done["rebel_nerf_scenes", "running"] == done["rebel_nerf_scenes", "waiting"] == 0
    assert done["rebel_nerf_scenes", "failed"] == done["rebel_nerf_runs_total", "nerf", "failed"] == 1
    for scene in ("quay", "street"):
        assert 6 <= done["rebel_nerf_job_seconds_total", scene, "first", "completed", "gpu"] < 60
        assert before < done["rebel_nerf_last_success_timestamp_seconds", scene] < time.time()
    assert httpx.get(f"http://127.0.0.1:{watched.port}/health").status_code == 200

    # What a new worker does not know by itself, it reads from the server.
    watched.service.end("worker")
    await watched.run("lock", 1)
    watched.service.restart_worker("worker", "--metrics-port", str(watched.port))
    later = await watched.until(lambda now: now.get(("rebel_nerf_scenes", "failed")) == 1)
    assert later["rebel_nerf_last_success_timestamp_seconds", "street"] == pytest.approx(
        done["rebel_nerf_last_success_timestamp_seconds", "street"], abs=2.0
    )
    await watched.until(lambda now: ("rebel_nerf_last_success_timestamp_seconds", "lock") in now)


def ended(scene: object, state: StateType, minute: int) -> FlowRun:
    when = datetime(2026, 11, 29, 12, minute, tzinfo=timezone.utc)
    return FlowRun(id=uuid4(), flow_id=uuid4(), parameters={"scene": scene}, state_type=state, end_time=when)


class Answers(PrefectClient):
    """A client for which a server has these runs that ended."""

    def __init__(self, *runs: FlowRun) -> None:
        self._runs = list(runs)

    async def read_flow_runs(self, **given: object) -> list[FlowRun]:
        return self._runs if "sort" in given else []


async def test_the_newest_run_of_a_scene_decides() -> None:
    found = Metrics()
    runs = [
        ended("mill", StateType.COMPLETED, 3),
        ended("mill", StateType.FAILED, 2),
        ended("quay", StateType.CRASHED, 5),
        ended("quay", StateType.COMPLETED, 4),
        ended("lock", StateType.FAILED, 7),
        ended("lock", StateType.COMPLETED, 6),
        ended('"}\nrebel_nerf_scenes 99', StateType.COMPLETED, 1),
    ]
    await found.refresh(Answers(*runs))
    with serving(found, "127.0.0.1", port := free_port(), lambda: ""):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    now = values(text)
    assert now["rebel_nerf_scenes", "failed"] == 2
    success = {key[1]: value for key, value in now.items() if key[0] == "rebel_nerf_last_success_timestamp_seconds"}
    assert set(success) == {"lock", "mill", "quay", ""}, "a name that is none is not shown"
    assert success["quay"] == datetime(2026, 11, 29, 12, 4, tzinfo=timezone.utc).timestamp()


def test_health_says_what_is_wrong_and_only_this_machine_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ""
    with serving(Metrics(), "127.0.0.1", port := free_port(), lambda: said):
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/health").status_code == 200
        said = "The Prefect server gave this worker no answer for 200 s."
        answer = httpx.get(f"{address}/health")
        assert answer.status_code == 503 and said in answer.text
        for page in ("/metrics", "/health"):
            assert httpx.get(address + page, headers={"Host": f"evil.example:{port}"}).status_code == 403
        assert httpx.get(f"{address}/other").status_code == 404
        taken = r"--metrics-port: .*127\.0\.0\.1:\d+ "
        with pytest.raises(InvalidInput, match=taken), serving(Metrics(), "127.0.0.1", port, lambda: ""):
            pass


def test_a_worker_that_the_server_does_not_answer_is_ill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    worker = SceneWorker(work_pool_name="rebel-nerf")
    assert worker._lock
    with worker._lock:  # a real one keeps it as long as its process lives
        assert worker.fault() == ""
        worker._polled -= 400
        assert worker.fault().startswith("The Prefect server gave this worker no answer for 400 s")


def test_flows_of_scenes_are_counted() -> None:
    assert set(metrics._OF_SCENES) == {nerf.name, render.name, export.name}
