"""Whatever is killed, no result is lost, and none is computed twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.rounds import World, running_world
from tests.faults.strikes import KINDS, Kind

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS_OF_EACH = {"few": 1, "many": 5}  # more than a hundred with all kinds
LONG: tuple[Kind, ...] = ("server silent",)  # of which one round is enough
COMMON = ("flow", "job", "cancel")
CASES = [
    *(pytest.param("few", kind, marks=() if kind in COMMON else pytest.mark.slow) for kind in KINDS),
    *(pytest.param("many", kind, marks=pytest.mark.slow) for kind in KINDS if kind not in LONG),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_world(tmp_path_factory.mktemp("faults")) as world:
        yield world


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("rounds", "kind"), CASES)
async def test_whatever_dies_nothing_is_lost_and_nothing_made_twice(world: World, rounds: str, kind: Kind) -> None:
    chance = random.Random(f"{kind} {rounds}")
    for number in range(ROUNDS_OF_EACH[rounds]):
        outcome = await world.counting_round(f"{rounds}{kind.replace(' ', '')}{number}", kind, chance)
        assert not outcome.faults, outcome
