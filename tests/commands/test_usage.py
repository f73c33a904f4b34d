"""Flows and commands on the command line: what they say before anything runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks import LocalWorkspace
from commands.costs import Costs
from commands.demo import Demo
from commands.gallery import Gallery
from commands.list import Scenes
from commands.markers import PrintMarkers
from commands.note import Note
from commands.page import Page
from commands.path import SavePath
from commands.pick import Pick
from commands.pin import Pin
from commands.prune import Prune
from commands.rm import Remove
from commands.shell import usage
from commands.shell.run import as_command, open_workspace, parse_command, run_as_command
from commands.view import Viewer
from deployments import worker
from flows.clean_up import clean_up
from flows.export import export
from flows.nerf import nerf
from flows.render import render
from flows.reprocess import reprocess
from flows.scale import scale
from jobs.program import typed
from tasks import check_server
from tests.processes import free_port

PHOTOS = Path(__file__).parents[2] / "docs"
"""A folder that has photos."""


@pytest.fixture
def address() -> Iterator[str]:
    """Set PREFECT_API_URL to an address where nothing listens, and yield it."""
    address = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: address}):
        yield address


def open_saved() -> None:
    with as_command():
        open_workspace("rebel-nerf-local-workspace/x")


@pytest.mark.parametrize(
    "command",
    [
        lambda: run_as_command(nerf, ["--scene", "street", "--images", str(PHOTOS)]),
        lambda: run_as_command(clean_up, []),
        open_saved,
    ],
)
def test_a_missing_server_is_reported_in_one_line(
    command: Callable[[], None], address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command()
    [said] = "".join(capfd.readouterr()).strip().splitlines()
    assert end.value.code == 1
    assert f"no Prefect server answers at {address}" in said
    assert f"`{typed('server')}`" in said and "unset PREFECT_API_URL" in said


def test_the_local_workspace_needs_no_server(address: str) -> None:
    assert isinstance(open_workspace("local"), LocalWorkspace)


@pytest.mark.parametrize("is_set", [True, False])
def test_a_worker_without_a_server_is_one_line(is_set: bool, tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_API_URL": address} if is_set else {"PREFECT_SERVER_API_PORT": str(port)}
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "deployments.worker", "--patience", "0"],
        env={**others, **own, "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    [said] = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode == 1 and f"no Prefect server answers at {address}" in said


def test_a_starting_server_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    late = (
        "import sys, time, http.server as h; time.sleep(1);"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.BaseHTTPRequestHandler).serve_forever()"
    )
    with subprocess.Popen([sys.executable, "-c", late, str(port)], stderr=subprocess.DEVNULL) as server:
        try:
            with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
                check_server(patience=60)
        finally:
            server.terminate()
    assert "Waiting for the Prefect server" in capfd.readouterr().err
    assert worker.Worker().patience >= 30, "a server takes half a minute to start"


ROOT = Path(__file__).parents[2]

FLOWS = [clean_up, export, nerf, render, reprocess, scale]
COMMANDS = [SavePath, Costs, Demo, Gallery, Note, Page, Pick, PrintMarkers, Pin, Prune, Remove, Scenes, Viewer]


NOISE = re.compile("lambda|factory|ifdef|undefined|default: None|default: False")


def module_of(command: Any) -> Path:
    """Return the file of a flow or of a command's class."""
    return Path(*name_of(command).split(".")).with_suffix(".py")


def name_of(command: Any) -> str:
    """Return the module of a flow or of a command's class."""
    name: str = getattr(command, "fn", command).__module__
    return name


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person types it. Its stderr also lists what it imports."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", module, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )


@pytest.mark.parametrize("command", [*FLOWS, *COMMANDS], ids=lambda command: module_of(command).stem)
def test_a_command_is_known_without_importing_what_it_runs(command: Any) -> None:
    early = usage.command_in(ROOT / module_of(command))
    late = usage.command_of(command.fn) if isinstance(command, Flow) else command
    assert list(early.model_fields) == list(late.model_fields)
    for name, field in late.model_fields.items():
        assert repr(early.model_fields[name]) == repr(field)
    assert early.__doc__ == late.__doc__ and early.__doc__
    if isinstance(command, Flow):
        for name, shown in command.parameters.properties.items():
            assert early.model_fields[name].description == " ".join(shown["description"].split()), "as in the form"
    commands = {module_of(each).name for each in (*FLOWS, *COMMANDS)}
    files = {file.name for room in ("flows", "commands") for file in (ROOT / room).glob("[!_]*.py")}
    assert commands == files, "one is not tried here"


@pytest.mark.parametrize("module", [name_of(each) for each in (*FLOWS, *COMMANDS)])
def test_help_is_quick_and_says_nothing_of_the_program_behind_it(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run(module, "--help")
    assert ended.returncode == 0 and ended.stdout.startswith(f"usage: python -m {module} ")
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "pydantic" in imported and not imported & {"prefect", "numpy", "azure", "tasks", "blocks"}
    with pytest.raises(SystemExit):
        usage.parse(usage.command_in(ROOT.joinpath(*module.split(".")).with_suffix(".py")), ["--help-all"], module)
    everything = capsys.readouterr().out
    assert everything.startswith(f"usage: {module} ")
    if module == "flows.nerf":
        assert "(default: full: 30000, preview: 1500)" in " ".join(everything.split())
    for text in (ended.stdout, everything):
        assert not NOISE.search(text)
    assert len(ended.stdout.splitlines()) <= 40 and max(map(len, ended.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scene", "a", "--camera-path", "orbit"], "--camera-path: did you mean --render.camera-path?"),
        (["--scene", "a", "--camera-path=orbit"], "--camera-path: did you mean --render.camera-path?"),
        (["--scene", "a", "--rendr.camera-path", "x"], "--rendr.camera-path: did you mean --render.camera-path?"),
        (["--scene", "a", "--iterations", "9"], "--iterations: did you mean --train.max-num-iterations?"),
        (["--scene", "a", "--quux", "9"], None),
        (["--scene", "a", "--images", "1.jpg", "2.jpg"], "--images takes one folder or one video: give the folder"),
        (["--scen", "a"], "--scen: did you mean --scene?"),
        ([], None),
        (["mill"], "required: --scene. mill: did you mean --scene mill?"),
        (["photos/mill"], "photos/mill: did you mean --images photos/mill?"),
        (["--scene", "A b"], "--scene: scene 'A b' is not a valid name"),
        (["--scene", "a", "--render.long-side", "x"], "--render.long-side: Input should be a valid integer"),
        (["--scene", "a", "--layout", "x"], "--layout: Input should be 'side-by-side' or 'wipe'"),
    ],
)
def test_a_wrong_command_line_is_answered_with_one_line(
    arguments: list[str], says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        usage.parse(usage.command_of(nerf.fn), arguments, "python -m flows.nerf")
    [line] = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2 and line.startswith("python -m flows.nerf: ")
    assert line.endswith("All options: python -m flows.nerf --help-all")
    assert (says in line) if says else "did you mean" not in line


def test_a_wrong_command_line_is_refused_before_anything_is_imported() -> None:
    ended = run("flows.nerf", "--scene", "a", "--camera-path", "orbit")
    assert ended.returncode == 2 and "did you mean --render.camera-path?" in ended.stderr
    assert "| prefect" not in ended.stderr


def test_the_options_of_a_command_line_arrive() -> None:
    given = parse_command(usage.command_of(nerf.fn), ["--scene", "a", "--render.width", "64", "--refresh", "train"])
    assert given.model_dump(include={"scene", "refresh"}) == {"scene": "a", "refresh": ["train"]}
    assert getattr(given, "render").width == 64 and getattr(given, "images") == ""  # noqa: B009
