"""A flow as a command: its parameters are the options, and what goes wrong is said in words."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prefect import Flow, State
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_UI_URL,
    temporary_settings,
)
from pydantic import BaseModel

import tasks
from blocks import Workspace
from flows import _usage
from flows._usage import command_of, parse
from jobs.errors import RebelNerfError
from tasks.patience import PATIENT_CLIENT
from tasks.sign_in import sign_in_settings

__all__ = ["as_command", "open_workspace", "parse_command", "run_as_command"]

T = TypeVar("T", bound=BaseModel)


def run_as_command(flow: Flow[..., Any], arguments: list[str]) -> None:
    """Run the flow here and now with options from a command line.

    With a server (PREFECT_API_URL) the run shows there; without one, Prefect starts one of its own meanwhile.
    Exits with 2 for a wrong command line and with 1, and the error's own words, if the run fails.
    """
    given = parse_command(command_of(flow.fn), arguments)
    settings = {
        # A first start makes the database, which takes longer than the default of 20 s on a small machine.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        **PATIENT_CLIENT,
    }
    with temporary_settings(settings):
        if not PREFECT_API_URL.value():
            print("No Prefect server is set (PREFECT_API_URL): starting one for this run …", file=sys.stderr)
        parameters = {name: getattr(given, name) for name in type(given).model_fields}
        with as_command():
            tasks.check_server()
            state = asyncio.run(_run(flow, parameters))
        page = f"{PREFECT_UI_URL.value() or 'http://127.0.0.1:4200'}/runs/flow-run/{state.state_details.flow_run_id}"
        print(f"\nThis run in Prefect's UI: {page}")
        if not PREFECT_API_URL.value():
            print("(start the UI first: make server)")


def parse_command(command: type[T], arguments: list[str]) -> T:
    """The options that a command line gives; exits with 2, and words, for a wrong one."""
    program = _usage.started_as or f"python -m flows.{Path(sys.argv[0]).stem}"
    return parse(command, arguments, program)


def open_workspace(reference: str) -> Workspace:
    """Open the workspace of a command that runs no flow. Only saved blocks need a server.

    Raises:
        RebelNerfError: see `tasks.open_workspace`, and `tasks.check_server`.
    """
    if reference != tasks.LOCAL:
        tasks.check_server()
    return asyncio.run(tasks.open_workspace(reference))


@contextmanager
def as_command() -> Iterator[None]:
    """Sign in to this machine's Prefect server, and end the process with 1, and the error's own words, where something
    goes wrong inside."""
    try:
        with temporary_settings(sign_in_settings()):
            yield
    except RebelNerfError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


async def _run(flow: Flow[..., Any], parameters: dict[str, Any]) -> State[Any]:
    """Run the flow to its final state; raises what the flow raised."""
    running: Any = flow(**parameters, return_state=True)
    state: State[Any] = await running
    await state.aresult()
    return state
