"""A service on PostgreSQL, whose database is restarted in the middle of its work."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prefect import State

from tests.faults.chain import chain_workspace
from tests.faults.rounds import World
from tests.faults.surroundings import Surroundings
from tests.faults.verdict import judge
from tests.postgres import Postgres
from tests.service import Service

_DOWN_SECONDS = 15.0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(Postgres.missing() is not None, reason=str(Postgres.missing()))
async def test_nothing_is_lost_while_the_database_is_restarted(tmp_path: Path) -> None:
    with Postgres() as database:
        service = Service(tmp_path / "service")
        service.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        try:
            service.start_server()
            async with service.client() as client:
                world = World(service, client, tmp_path, Surroundings(tmp_path, tmp_path / "disk"))
                await world.deploy()
                service.restart_worker()
                for number, (moment, how) in enumerate(((0.3, "fast"), (1.5, "immediate"), (3.0, "immediate"))):
                    scene = f"street{number}"
                    workspace = chain_workspace(tmp_path / scene)
                    (workspace.folder / "seconds").write_text("2")
                    await world.run(scene, workspace.folder)
                    await asyncio.sleep(moment)
                    assert await world.is_under_way(scene) or number == 0
                    database.stop("fast" if how == "fast" else "immediate")
                    await asyncio.sleep(_DOWN_SECONDS)
                    database.start()
                    state = await ended(world, scene)
                    assert state.is_completed(), (state, service.log("worker"))
                    assert service.runs("worker") and service.runs("server")
                    assert judge(workspace, scene, (), parts=False, forgotten=False).faults == ()
        finally:
            service.close()


async def ended(world: World, scene: str) -> State[object]:
    """Return the last state of the one run of a scene."""
    deadline = time.monotonic() + 300
    while True:
        with suppress(httpx.HTTPError):
            [run] = await world.runs(scene)
            if run.state and run.state.is_final():
                return run.state
        assert time.monotonic() < deadline, world.service.log("worker")
        await asyncio.sleep(0.5)
