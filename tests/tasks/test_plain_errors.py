"""How the ends of runs appear in Prefect's log."""

from __future__ import annotations

import logging

import pytest
from prefect import State
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Cancelled, Completed, Failed

import tasks.plain_errors  # noqa: F401
from jobs.errors import GateRefused, RunCancelled

LOGGER = logging.getLogger("prefect.task_runs")


def failed(error: Exception) -> State[None]:
    return Failed(message=f"Task run encountered an exception {type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("state", "level", "said"),
    [
        (failed(RunCancelled("This run was cancelled.")), logging.INFO, "Finished in state Failed"),
        (failed(GateRefused("too few photos")), logging.ERROR, "Finished in state Failed"),
        (Cancelled(), logging.INFO, "Finished in state Cancelled"),
        (Completed(message="done"), logging.ERROR, "Finished in state Completed('done')"),
    ],
)
def test_what_a_person_requested_is_no_error(
    state: State[None], level: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    LOGGER.addHandler(caplog.handler)
    try:
        with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
            LOGGER.error(f"Finished in state {state}")
    finally:
        LOGGER.removeHandler(caplog.handler)
    record = caplog.records[-1]
    assert (record.levelno, record.getMessage()) == (level, said)
