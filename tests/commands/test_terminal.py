"""What a person sees who runs a flow of one scene from the command line."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import get_logger
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from rich.console import Console

from blocks import Asset
from commands.shell.quiet import quietly
from commands.shell.results import Results, words_of
from commands.shell.run import run_as_command
from commands.shell.terminal import Display
from flows.export import export
from flows.nerf import STAGES, nerf
from flows.render import render
from jobs.report import Progress
from jobs.web.verdict import judge
from tasks.news import News

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 29, tzinfo=timezone.utc)


class Clock:
    """The time of a display, and of the job that it follows."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen() -> Callable[[bool], Console]:
    """Make a console whose text can be read: `console.file.getvalue()`."""
    return lambda terminal: Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def asset(kind: str, folder: Path | str = "/home/x", **tags: str) -> Asset:
    name = {"dataset": "street-images-to-nerf-dataset", "model": "street-nerf"}.get(kind, f"street-{kind}")
    uri = str(folder)
    return Asset.model_validate(
        {"name": name, "version": "1-0a", "kind": kind, "tags": tags, "uri": uri, "created": NOW}
    )


def go_through(display: Display, clock: Clock) -> None:
    """Show a run on a display as it happens: preparing, a training that begins slowly, and its end."""
    with display:
        display.prepare("starting Prefect's server")
        display.take(News("prepare", "", "running"))
        for step in range(0, 49, 4):
            clock.now += 1
            display.take(News("prepare", progress=Progress("prepare:features", step, 48, time=clock.now)))
        done = asset("dataset", registered="46/48")
        display.take(News("prepare", state="done", asset=done))
        display.take(News("train", state="waiting", words="waits for the GPU"))
        for step in range(0, 1001, 10):
            clock.now += 2 if step < 100 else 1
            display.take(News("train", progress=Progress("train", step, 1000, time=clock.now)))
        display.take(News("train", state="done", asset=asset("model", psnr="25.84"), was_there=True))


def test_without_a_terminal_there_are_plain_lines_at_sensible_steps(
    clock: Clock, screen: Callable[[bool], Console]
) -> None:
    console = screen(False)
    go_through(Display(("prepare", "train", "page"), console, clock), clock)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "starting Prefect's server",
        "prepare: starting",
        "prepare: finding features",
        "prepare: done, 46 of 48 photos registered (13 s)",
        "train: waits for the GPU",
        "train: training",
        "train: training 25 %, 1 min 38 s left",
        "train: training 50 %, 50 s left",
        "train: training 75 %, 25 s left",
        "train: done, 25.8 dB on held-out photos (existed already) (1 min 49 s)",
    ]


def test_on_a_terminal_each_stage_has_one_line(clock: Clock, screen: Callable[[bool], Console]) -> None:
    console = screen(True)
    display = Display(("prepare", "train", "page"), console, clock)
    go_through(display, clock)
    with console.capture() as shown:
        console.print(display)
    lines = [line.split() for line in shown.get().splitlines()]
    assert [line[:2] for line in lines] == [["✓", "prepare"], ["✓", "train"], ["·", "page"], ["total", "2"]]
    assert max(map(len, shown.get().splitlines())) <= 100


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    go_through(Display(("prepare", "train"), console, clock), clock)
    assert isinstance(console.file, io.StringIO)
    assert len(re.findall("^train: ", console.file.getvalue(), re.MULTILINE)) > 2


def test_an_estimate_is_held_back_until_it_is_worth_something(clock: Clock, screen: Callable[[bool], Console]) -> None:
    console = screen(True)
    display = Display(("train",), console, clock)

    def at(step: int, seconds: float) -> str:
        clock.now += seconds
        display.take(News("train", progress=Progress("train", step, 1000, seconds_left=3600, time=clock.now)))
        with console.capture() as shown:
            console.print(display)
        return shown.get()

    assert all("left" not in at(step, seconds) for step, seconds in ((0, 0), (1, 8), (10, 8), (30, 1)))
    for step in range(40, 240, 10):
        shown = at(step, 2)
    assert "5.0 steps/s" in shown and "2 min 34 s left" in shown, "at the pace of the last half minute"


def test_a_failed_run_is_reported_once_and_keeps_its_log(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "home"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.jpg").touch()
    with pytest.raises(SystemExit) as end:
        run_as_command(nerf, ["--scene", "street", "--images", str(tmp_path / "photos")], STAGES)
    said = "".join(capfd.readouterr())
    [log] = (tmp_path / "home/logs").iterdir()
    assert end.value.code == 1 and said.count("scene street") == 1, said
    assert f"The log of this run: {log}" in said
    for noise in ("Traceback", "| INFO", "| ERROR", "Beginning flow run"):
        assert noise not in said
    assert "Beginning flow run" in log.read_text()


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_its_job_and_without_a_traceback(street: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "REBEL_NERF_"))}
    home = {"REBEL_NERF_HOME": str(tmp_path / "home"), "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-m", "deployments.command", "run", "--scene", "street"]
    with subprocess.Popen(
        [*command, "--images", str(street / "photos"), "--profile", "preview"],
        env={**kept, **home}, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        assert run.stderr
        assert any("prepare: finding features" in line for line in run.stderr)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to Prefect's server, too
        said = run.stderr.read()
    assert run.returncode == 130 and said.count("Stopped. The same command continues") == 1
    assert "Stopping … Finished stages are kept" in said.partition("Stopped.")[0]
    assert "Traceback" not in said and "Error" not in said
    [status] = (tmp_path / "home/jobs").glob("street-prepare-*/status.json")
    assert json.loads(status.read_text())["state"] == "Canceled"


@pytest.mark.parametrize(
    ("flow", "arguments", "said"),
    [
        (nerf, ["--images", "/no/such/folder"], "scene street: /no/such/folder does not exist"),
        (nerf, [], "scene street: no capture in"),
        (nerf, ["--workspace", "azure"], "workspace 'azure': give local, or a saved block"),
        (nerf, ["--version", "3"], "scene street: no capture version 3"),
        (render, [], "scene street: no street-nerf"),
        (render, ["--render.camera-path", "wallk"], "scene street: The camera path wallk does not exist"),
        (export, ["--model-version", "3"], "scene street: no model 3 of street-nerf"),
    ],
)
def test_what_can_be_checked_here_starts_no_run(
    flow: Any, arguments: list[str], said: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as end:
        run_as_command(flow, ["--scene", "street", *arguments], STAGES)
    printed = "".join(capfd.readouterr())
    assert end.value.code == 1 and said in printed and len(printed.strip().splitlines()) == 1, printed
    assert not (tmp_path / "home/logs").exists(), "a run was begun"


def test_our_warnings_are_shown_and_prefects_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: Callable[[bool], Console]
) -> None:
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "home"))
    console = screen(False)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}), quietly(Display((), console), "nerf") as log:
        get_logger("flow_runs").warning("facade: 3 photos are [blurred]")
        get_logger("blocks.privacy").warning("others can look in")
        logging.getLogger("prefect.events").warning("still processing items")
    shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert shown == ["! facade: 3 photos are [blurred]", "! others can look in"]
    assert "still processing" in log.read_text() and "[blurred]" in log.read_text()


def test_the_end_is_links_and_the_page_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results()
    made = {"dataset": {"registered": "48/48"}, "model": {"psnr": "25.84", "steps": "1000"}, "video": {}, "page": {}}
    for kind, tags in made.items():
        results.take(News("x", asset=asset(kind, tmp_path / f"a {kind}", **tags)))
    results.show(492, tmp_path / "log")
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "street: 48 of 48 photos, 25.8 dB on held-out photos: good, in 8 min 12 s"
    assert lines[2] == f"  page   {(tmp_path / 'a page/index.html').as_uri()}" and "%20" in lines[2]
    assert lines[3].endswith("a%20video/video.mp4") and "export --scene street makes it" in lines[4]
    elsewhere = Results("rebel-nerf-azure-ml/lab")
    elsewhere.take(News("page", asset=asset("page", "azureml://datastores/x")))
    elsewhere.show(1, tmp_path / "log")
    assert "page --scene street --version 1-0a --workspace rebel-nerf-azure-ml/lab" in capsys.readouterr().out


def test_a_model_s_line_shows_the_figure_of_the_verdict() -> None:
    made = {"psnr": "20.81", "psnr_colours_fitted": "23.35"}
    words = words_of(News("train", state="done", asset=asset("model", **made)))
    verdict = judge(None, 20.81, fitted=23.35)
    assert words == "23.4 dB on held-out photos with colours fitted" and verdict and verdict.facts.startswith(words)


@pytest.mark.parametrize(
    ("registered", "psnr", "steps", "said", "reason"),
    [
        ((48, 48), 25.8, 1000, "48 of 48 photos, 25.8 dB on held-out photos: good", ""),
        ((40, 48), 26.0, 1000, "40 of 48 photos, 26.0 dB on held-out photos: fair", "8 of 48 photos could not"),
        ((48, 48), 15.2, 60, "48 of 48 photos, 15.2 dB on held-out photos: poor", "trained for only 60 steps"),
        ((20, 48), 22.0, 1000, "20 of 48 photos, 22.0 dB on held-out photos: poor", "28 of 48 photos could not"),
        (None, 22.0, None, "22.0 dB on held-out photos: fair", "reach only 22.0 dB"),
    ],
)
def test_a_verdict_is_the_worse_of_its_reasons(
    registered: tuple[int, int] | None, psnr: float, steps: int | None, said: str, reason: str
) -> None:
    verdict = judge(registered, psnr, steps)
    assert verdict and str(verdict) == said
    assert (reason in verdict.reason and bool(verdict.advice)) if reason else verdict.reason == verdict.advice == ""
    assert judge(None, None) is None
