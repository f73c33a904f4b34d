"""How the ends of runs appear in Prefect's log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.logging.handlers import APILogHandler
from prefect.states import Cancelled

from blocks import Asset
from flows._ends import with_plain_ends
from flows.nerf import nerf
from jobs.errors import InvalidInput, RunCancelled
from tests.faults.chain import FirstOptions, capture, chain_workspace, first

pytestmark = pytest.mark.usefixtures("prefect_server")


async def lines(run: Callable[..., Any], **parameters: Any) -> list[tuple[str, str]]:
    """Run a flow. Return level and text of the lines of its log, as the server has them."""
    state = await run(**parameters, return_state=True)
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    await APILogHandler.aflush()
    async with get_client() as client:
        return [(logging.getLevelName(line.level), line.message) for line in await client.read_logs(chosen)]


async def test_a_refusal_is_one_error(tmp_path: Path) -> None:
    found = await lines(nerf, scene="mill", images=str(tmp_path / "nowhere"))
    [(_, text)] = [line for line in found if line[0] == "ERROR"]
    assert text.startswith(f"scene mill: {tmp_path / 'nowhere'} does not exist")
    assert found[-1] == ("INFO", "Finished in state Refused")


async def test_a_refusal_outside_of_a_task_is_one_error() -> None:
    @flow
    @with_plain_ends
    async def refusing() -> None:
        raise InvalidInput("no such place")

    assert (await lines(refusing))[-2:] == [("ERROR", "no such place"), ("INFO", "Finished in state Refused")]


async def test_a_failed_job_is_one_error(tmp_path: Path) -> None:
    place = chain_workspace(tmp_path, job="#!/bin/sh\necho out of luck; exit 1\n")

    @flow
    @with_plain_ends
    async def failing() -> Asset:
        return await first(place, capture(place), FirstOptions(seconds=0))

    found = await lines(failing)
    [(_, text)] = [line for line in found if line[0] == "ERROR"]
    assert "street-first" in text and "out of luck" in text
    assert found[-1] == ("INFO", "Finished in state Failed")


async def test_a_mistake_in_the_code_has_one_traceback() -> None:
    @task
    async def dividing() -> None:
        _ = 1 / 0

    @flow
    async def mistaken() -> None:
        await dividing()

    [(_, text)] = [line for line in await lines(mistaken) if line[0] == "ERROR"]
    assert text.count("Traceback") == 1 and "_ = 1 / 0" in text


async def test_what_a_person_requested_is_no_error() -> None:
    @task
    async def waiting() -> None:
        raise RunCancelled("This run was cancelled.")

    @flow
    @with_plain_ends
    async def cancelled() -> None:
        await waiting()

    @flow
    async def ended() -> Any:
        return Cancelled()

    found = await lines(cancelled)
    assert ("INFO", "This run was cancelled.") in found
    assert {level for level, _ in found + await lines(ended)} == {"INFO"}
