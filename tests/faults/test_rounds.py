from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from prefect.client.orchestration import PrefectClient

from tests.faults.rounds import KINDS, World
from tests.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS_OF_EACH = {"few": 1, "many": 7}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    home = tmp_path_factory.mktemp("faults")
    service = Service(home / "service")
    try:
        service.start_server()
        async with PrefectClient(service.url) as client:
            world = World(service, client, home)
            await world.deploy()
            service.start_worker()
            yield world
    finally:
        service.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounds", ["few", pytest.param("many", marks=pytest.mark.slow)])
async def test_whatever_dies_nothing_is_lost_and_nothing_made_twice(world: World, kind: str, rounds: str) -> None:
    chance = random.Random(f"{kind} {rounds}")
    for number in range(ROUNDS_OF_EACH[rounds]):
        name = f"{rounds}{kind.replace(' ', '')}{number}"
        outcome = await world.round(name, kind, chance.uniform(0, 3.5))  # type: ignore[arg-type]
        assert not outcome.faults, outcome
