"""A run that the server does not let begin, as when its clock was set back, is queued again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.client.schemas.objects import StateDetails
from prefect.states import Pending

from tests.faults.rounds import World
from tests.faults.surroundings import Surroundings
from tests.processes import ROOT
from tests.service import Service

# Takes a run in a worker of its own. A run that begins would end the program with an error: its flow needs parameters.
# With a second argument, the server fails when the run is to be queued again.
_WORKER = """
import asyncio, sys
from uuid import UUID
import httpx
from deployments import scene_worker

async def fail(*arguments):
    raise httpx.ConnectError("the server is restarting")

async def main():
    scene_worker._BEGINNING_SECONDS = 2.0
    async with scene_worker.SceneWorker(work_pool_name="rebel-nerf") as worker:
        run = await worker.client.read_flow_run(UUID(sys.argv[1]))
        if sys.argv[2:]:
            put_back, worker._put_back = worker._put_back, fail
        await worker.run(run, None)
        if sys.argv[2:]:
            worker._put_back = put_back
            await worker.put_back_lost_runs()

asyncio.run(main())
"""


@pytest.mark.parametrize("failing", [[], ["failing"]], ids=["at once", "once the server answers"])
async def test_a_run_that_may_not_begin_is_queued_again(tmp_path: Path, failing: list[str]) -> None:
    service = Service(tmp_path / "service")
    try:
        await asyncio.to_thread(service.start_server)
        async with service.client() as client:
            world = World(service, client, tmp_path, Surroundings(tmp_path, tmp_path))
            await world.deploy()
            run = await world.run("late", tmp_path)
            tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
            waiting: State[Any] = Pending(state_details=StateDetails(scheduled_time=tomorrow))
            await client.set_flow_run_state(run.id, waiting, force=True)

            command = [sys.executable, "-W", "ignore", "-c", _WORKER, str(run.id), *failing]
            environment = service.environment | {"PREFECT_API_AUTH_STRING": service.password}
            done = await asyncio.to_thread(
                subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
            )

            assert done.returncode == 0, done.stdout + done.stderr
            assert "did not begin" in done.stdout + done.stderr
            assert ("the server is restarting" in done.stdout + done.stderr) == bool(failing)
            state = (await client.read_flow_run(run.id)).state
            assert state and state.is_scheduled()
            assert state.state_details.scheduled_time
            assert state.state_details.scheduled_time <= datetime.now(timezone.utc)
    finally:
        service.close()
