"""On Azure ML, more can go wrong than what is killed: the network, a busy service, a node that is taken away."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import subprocess
import sys
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from prefect import flow
from prefect.settings import get_current_settings

from blocks import Asset
from blocks.azure import AzureMLWorkspace
from jobs.base_options import Options
from tasks.stage import Plan, Stage
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

# What strikes, where, and how often at most. {job} is the scene's name.
FAULTS: dict[str, tuple[str, str, int]] = {
    "throttled": ("throttle", "jobs/", 4),
    "unavailable": ("unavailable", "jobs/|models/|data/", 4),
    "busy storage": ("storage_busy", "", 6),
    "refused": ("refuse", "", 2),
    "cut": ("cut", "", 3),
    "preempted": ("preempt", "{job}", 1),
    "failed for preemption": ("preemption_error", "{job}", 1),
    "silent": ("not_responding", "{job}", 1),
}
MORE_ATTEMPTS = ("failed for preemption", "silent")  # by nature; a preempted job begins again by itself


class FacadeOptions(Options):
    """Options of the built-in capture's program, which takes seconds and needs no input."""

    STAGE: ClassVar[str] = "facade"
    photos: int
    width: int
    height: int


@Stage
def photograph(scene: str, options: FacadeOptions) -> Plan:
    """Plan a stage whose job takes some seconds."""
    return Plan(scene, "1", options, f"{scene}-photos", "dataset", "output", {}, tier="cpu")


@flow(name="photographs", flow_run_name="{scene}")
async def photographs(scene: str, place: Any) -> list[Asset]:
    """Run two stages."""
    return [await photograph(place, scene, FacadeOptions(photos=1, width=width, height=36)) for width in (64, 96)]


@pytest.mark.parametrize("kind", FAULTS)
async def test_whatever_goes_wrong_nothing_is_lost_and_nothing_made_twice(
    workspace: AzureMLWorkspace, stack: AzureStack, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", lambda self, waited: 0.5)
    chance = random.Random(kind)
    fault, match, most = FAULTS[kind]
    for number in range(3):
        scene = f"round-{number}-{kind.replace(' ', '-')}"
        after = chance.uniform(0, 2) if "{job}" in match else chance.randrange(20_000) if fault == "cut" else 0
        with ExitStack() as struck:
            one = struck.enter_context(
                stack.faults.add(fault, match.format(job=scene), times=chance.randint(1, most), after=after)
            )
            made = await photographs(scene, workspace)
        jobs = [name for name in stack.jobs if name.startswith(scene)]
        ended = [stack.jobs[name].status for name in jobs]
        again = one.hits if kind in MORE_ATTEMPTS else 0
        assert ended.count("Completed") == 2 and len(jobs) == 2 + again, (after, jobs, ended, one.hits)
        assert [asset.version for asset in workspace.assets(f"{scene}-photos")] == [asset.version for asset in made]
        assert not [job for job in workspace.followers() if job.startswith(scene)]
        assert await photographs(scene, workspace) == made
        assert len([name for name in stack.jobs if name.startswith(scene)]) == len(jobs)


BY_HAND = """
import asyncio, pickle, sys
from tests.faults.test_rounds_on_azure import photographs
asyncio.run(photographs(sys.argv[1], pickle.load(sys.stdin.buffer)))
"""


@pytest.mark.parametrize("rounds", [1, 7])
async def test_a_killed_flow_is_resumed_where_it_was(
    workspace: AzureMLWorkspace, stack: AzureStack, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", lambda self, waited: 0.5)
    chance = random.Random(rounds)
    environment = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
    for number in range(rounds):
        scene = f"killed-{rounds}-{number}"
        with subprocess.Popen([sys.executable, "-c", BY_HAND, scene], env=environment, stdin=subprocess.PIPE) as killed:
            assert killed.stdin
            pickle.dump(workspace, killed.stdin)
            killed.stdin.close()
            while killed.poll() is None and not any(name.startswith(scene) for name in stack.jobs):
                await asyncio.sleep(0.05)
            assert killed.poll() is None, "it ended before it submitted anything"
            await asyncio.sleep(chance.uniform(0, 8))
            killed.kill()
        made = await photographs(scene, workspace)
        jobs = [name for name in stack.jobs if name.startswith(scene)]
        assert [stack.jobs[name].status for name in jobs] == ["Completed", "Completed"], jobs
        assert [asset.version for asset in workspace.assets(f"{scene}-photos")] == [asset.version for asset in made]
