"""A run says what its job waits for, and jobs get the GPU in the order of their arrival."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from blocks import Asset, LocalWorkspace, supervisor
from tasks.news import News, watching
from tests.faults.chain import FirstOptions, capture, chain_workspace, first
from tests.waiting import async_until

pytestmark = pytest.mark.usefixtures("prefect_server")

SCENES = ("dock", "mill", "barn", "yard")

# As if `python -m jobs.first --input … --output …`, for as long as there is no file `go` beside it.
JOB = """#!/bin/sh
while [ $# -gt 1 ]; do
  case "$1" in --output) output="$2";; esac
  shift
done
until [ -e "$(dirname "$0")/go" ]; do sleep 0.1; done
echo "$output" >>"$(dirname "$0")/order"
echo made >"$output/made"
"""


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return chain_workspace(tmp_path, JOB, jobs_at_once=1)


async def make(workspace: LocalWorkspace, scene: str) -> Asset:
    @flow(name="make")
    async def run() -> Asset:
        made: Asset = await first(workspace, capture(workspace, scene), FirstOptions(seconds=0.0))
        return made

    result: Asset = await run()
    return result


def _waiting(news: list[News], number: int) -> bool:
    return len([each for each in news if each.words]) == number


async def run_all(workspace: LocalWorkspace) -> tuple[list[str], list[str]]:
    """Run all scenes, each once the one before it runs or waits.

    Returns:
        What they wait for at last, and the scenes in the order in which their jobs worked.
    """
    news: list[News] = []
    with watching(news.append):
        running = []
        for number, scene in enumerate(SCENES):
            running.append(asyncio.create_task(make(workspace, scene)))
            if number:
                await async_until(partial(_waiting, news, number))
            else:
                await async_until(lambda: any(each.state == "running" for each in news))
        (workspace.folder / "go").touch()
        await asyncio.gather(*running)
    waited = [each.words for each in news if each.words]
    assert len([each for each in news if each.state == "done"]) == len(SCENES)
    order = re.findall(r"/([a-z]+)-first-1-[^/]*/", (workspace.folder / "order").read_text())
    return waited[: len(SCENES) - 1], order


def in_line(said: list[str]) -> bool:
    """Return whether each job reports its place in the queue and the job just before it."""
    expected = ("1st in line, behind dock", "2nd in line, behind mill", "3rd in line, behind barn")
    pairs = zip(said, expected, strict=True)
    return all(words.startswith(f"waits for the GPU: {each}-first-1-") for words, each in pairs)


async def test_jobs_on_this_machine_wait_in_line_and_say_behind_whom(
    workspace: LocalWorkspace, caplog: pytest.LogCaptureFixture
) -> None:
    said, order = await run_all(workspace)
    assert in_line(said), said
    assert order == list(SCENES)
    assert "first waits for the GPU: 2nd in line, behind mill-first-1-" in caplog.text
    async with get_client() as client:
        key = ArtifactFilter(key=ArtifactFilterKey(any_=["yard-first-progress"]))
        artifacts = await client.read_artifacts(artifact_filter=key)
    artifact = max(artifacts, key=lambda each: str(each.created))  # another test's has the same key
    assert artifact.description == "first: done", "what it waited for is over"
    assert list((workspace.folder / "slots/gpu-line").iterdir()) == []


async def test_runs_that_take_turns_say_behind_whom(workspace: LocalWorkspace) -> None:
    said, order = await run_all(workspace.model_copy(update={"jobs_at_once": 1000, "gpu_jobs_at_once": 1}))
    assert in_line(said), said
    assert order == list(SCENES)


def test_a_ticket_that_was_left_behind_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpu-line").mkdir()
    left = tmp_path / "gpu-line/00000000000000000001 dead-1"
    left.write_text("")
    assert supervisor.waiting_in(tmp_path / "gpu-line") == [] and left.exists(), "it may be just being made"
    monkeypatch.setattr(supervisor, "_TICKET_SECONDS", 0)
    folder = tmp_path / "job-1"
    folder.mkdir()
    held = supervisor._wait_for_slot([str(tmp_path / "gpu-0")], folder)
    assert held and (tmp_path / "gpu-0").read_text() == "job-1" and not left.exists()
    held[1].close()


def test_a_ticket_that_vanishes_while_the_line_is_read_does_not_end_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / "1 mill-1").symlink_to("gone")  # listed, and no longer there when it is looked at
    assert supervisor.waiting_in(tmp_path) == []
