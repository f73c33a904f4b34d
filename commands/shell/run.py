"""Run a flow from a command line. Its parameters are the options, and errors are printed for people."""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
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
from blocks import LocalWorkspace, Workspace
from commands.shell import usage
from commands.shell.quiet import quietly
from commands.shell.results import Results
from commands.shell.stop import stopping
from commands.shell.terminal import Display
from commands.shell.usage import TerminalOptions, command_of, parse
from jobs.errors import RebelNerfError, RunCancelled
from jobs.program import typed
from tasks.news import watching
from tasks.patience import PATIENT_CLIENT
from tasks.sign_in import link_settings, sign_in_settings

__all__ = ["as_command", "command_of", "open_workspace", "parse_command", "run_aloud", "run_as_command", "run_scene"]

T = TypeVar("T", bound=BaseModel)

_SETTINGS = {
    # The first start creates the database, which takes longer than the default of 20 s on a small machine.
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
    PREFECT_SERVER_ANALYTICS_ENABLED: False,
    **PATIENT_CLIENT,
}
# As it ends, Python would look for garbage among all imports, which takes a third of a short command's CPU time.
atexit.register(gc.freeze)


def run_as_command(flow: Flow[..., Any], arguments: list[str], stages: Sequence[str] = ()) -> None:
    """Run a flow in this process, with options from a command line.

    The run appears on the server of PREFECT_API_URL. Without one, Prefect starts a server for the time of the run. The
    command exits with 2 if the command line is wrong, and with 1 and the error's text if the run fails.

    Args:
        flow: the flow to run.
        arguments: the words of the command line.
        stages: the stages of a flow for one scene, in order. Each is shown on a line, and Prefect's log goes to a file.
    """
    options = parse_command(command_of(flow.fn), arguments)
    with as_command():
        _check_here(options)
    if isinstance(options, TerminalOptions) and stages and not options.verbose:
        run_scene(flow, options, Display(stages))
    else:
        run_aloud(flow, options)


def _check_here(options: BaseModel) -> None:
    """Check what needs no run, so that a mistyped name does not start a server or leave a failed run.

    Only the workspace of this machine is asked: it answers at once.

    Raises:
        RebelNerfError: there are no such photos, capture, model or camera path, or no workspace can have that name.
    """
    given = dict(options)
    workspace = given.get("workspace", tasks.LOCAL)
    tasks.check_reference(workspace)
    scene, local = given.get("scene", ""), workspace == tasks.LOCAL
    if shot := given.get("render"):
        tasks.read_shot(scene, shot, "full", shards=1)  # no profile changes which file it is
    if (images := given.get("images")) is not None and (local or images):
        tasks.check_capture(LocalWorkspace(), scene, given["version"], Path(images) if images else None)
    if "model_version" in given and local:
        tasks.find_registered_model(LocalWorkspace(), scene, given["model_version"])


def run_scene(
    flow: Flow[..., Any], options: BaseModel, display: Display, before: Callable[[], None] | None = None
) -> None:
    """Run a flow for one scene and show its progress. At the end, print where its page, video and 3D view are.

    The command exits with 1 and the error's text if the run fails.

    Args:
        flow: the flow to run.
        options: its parameters, from the command line.
        display: shows the stages.
        before: called before the flow, while the display is on.
    """
    results = Results(str(getattr(options, "workspace", tasks.LOCAL)))
    with as_command(), quietly(display, flow.name) as log:
        try:
            with display, watching(display.take), watching(results.take), temporary_settings(_SETTINGS):
                if before:
                    before()
                if PREFECT_API_URL.value():
                    tasks.check_server()
                else:
                    display.prepare("starting Prefect (half a minute)")
                _start_server()
                asyncio.run(_run(flow, _parameters(flow, options), display.warn))
        except KeyboardInterrupt:
            print("\nStopped. The same command continues from the stages that are finished.", file=sys.stderr)
            raise
        except RebelNerfError as error:
            raise type(error)(f"{error}\nThe log of this run: {log}") from error
        except Exception:
            print(f"The log of this run: {log}", file=sys.stderr)
            raise
    results.show(display.seconds, log, open_page=bool(getattr(options, "open", False)))


def _parameters(flow: Flow[..., Any], options: BaseModel) -> dict[str, Any]:
    return {name: getattr(options, name) for name in inspect.signature(flow.fn).parameters}


def run_aloud(flow: Flow[..., Any], options: BaseModel) -> None:
    """Run a flow with Prefect's log on the terminal."""
    with temporary_settings(_SETTINGS):
        if not PREFECT_API_URL.value():
            print("No Prefect server is set (PREFECT_API_URL): starting one for this run …", file=sys.stderr)
        with as_command():
            tasks.check_server()
            _start_server()
            state = asyncio.run(_run(flow, _parameters(flow, options), partial(print, file=sys.stderr)))
        page = f"{PREFECT_UI_URL.value() or 'http://127.0.0.1:4200'}/runs/flow-run/{state.state_details.flow_run_id}"
        print(f"\nThis run in Prefect's UI: {page}")
        if not PREFECT_API_URL.value():
            print(f"(start the UI first: {typed('server')})")


def _start_server() -> None:
    """Start Prefect's own server, unless an address is set.

    Ctrl-C reaches all processes of the terminal. The server must outlive it: a run that ends without one would try to
    report its end for a minute. So it is started by a thread that blocks the signal, which the process inherits.
    """
    if PREFECT_API_URL.value():
        return
    from prefect.server.api.server import SubprocessASGIServer  # slow to import, and not needed if there is a server

    blocked = (signal.SIG_BLOCK, {signal.SIGINT})
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=blocked) as thread:
        thread.submit(copy_context().run, SubprocessASGIServer().start).result()


def parse_command(command: type[T], arguments: list[str]) -> T:
    """Return the options of a command line. Print what is wrong with it and exit with 2 if it is not valid."""
    spec = sys.modules["__main__"].__spec__
    return parse(command, arguments, usage.started_as or f"python -m {spec.name if spec else Path(sys.argv[0]).stem}")


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
    """Sign in to this machine's Prefect server. On an error inside, print its text and exit with 1."""
    try:
        with temporary_settings({**sign_in_settings(), **link_settings()}):
            yield
    except RebelNerfError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


async def _run(flow: Flow[..., Any], parameters: dict[str, Any], say: Callable[[str], None]) -> State[Any]:
    """Run the flow and return its final state. Raise the error of a failed flow. `say` shows a lasting line."""
    with stopping(say):
        running: Any = flow(**parameters, return_state=True)
        state: State[Any] = await running
    if state.is_cancelled():
        raise RunCancelled(state.message or "This run was cancelled.")
    await state.aresult()
    return state
