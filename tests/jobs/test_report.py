from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import errors, report
from jobs.report import Failure, Figures, Meter, PageReport, Progress


@pytest.mark.parametrize(
    "line",
    [
        Progress("train", 30, 100, {"psnr": 21.5}, 12.0),
        PageReport("train", "viewer", 7007),
        Figures("prepare", {"registered": 48, "matching": "exhaustive"}),
        Failure("prepare", "GateRefused", "scene too dark"),
    ],
)
def test_emitted_lines_are_parsed(
    line: Progress | PageReport | Figures | Failure, capsys: pytest.CaptureFixture[str]
) -> None:
    report.emit(line)
    assert report.parse(capsys.readouterr().out) == line


@pytest.mark.parametrize("text", ["", "plain", '{"stage": "x"', '{"stage": "x", "colour": 1}', '{"other": 1}'])
def test_plain_log_is_not_a_report(text: str) -> None:
    assert report.parse(text) is None


def test_a_figure_that_is_not_one_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    report.emit(Progress("train", 1, 2, {"loss": float("nan"), "psnr": 20.0}))
    parsed = report.parse(capsys.readouterr().out)
    assert parsed == Progress("train", 1, 2, {"psnr": 20.0})


def test_a_failure_is_the_error_it_names() -> None:
    assert isinstance(Failure("train", "GateRefused", "NaN").exception(), errors.GateRefused)
    foreign = Failure("train", "ZeroDivisionError", "division by zero").exception()
    assert type(foreign) is errors.JobFailed
    assert str(foreign) == "ZeroDivisionError: division by zero"
    assert type(Failure("train", "is_transient", "not a class").exception()) is errors.JobFailed


def test_the_meter_says_the_first_and_the_last_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter("render", 50, every=0.0)
    meter.update(25)
    meter.update(50)
    first, half, last = (report.parse(line) for line in capsys.readouterr().out.splitlines())
    assert isinstance(half, Progress)
    assert first == Progress("render", 0, 50)
    assert half.percent == 50 and half.seconds_left is not None
    assert isinstance(last, Progress) and last.seconds_left == 0


@pytest.mark.parametrize(
    ("raised", "code", "named"),
    [
        ("errors.GateRefused('too dark')", report.EXIT_REFUSED, "GateRefused"),
        ("errors.JobInterrupted('stopped')", report.EXIT_INTERRUPTED, "JobInterrupted"),
        ("ZeroDivisionError()", 1, "ZeroDivisionError"),
    ],
)
def test_a_job_ends_with_its_reason(raised: str, code: int, named: str) -> None:
    end_with(f"raise {raised}", code, named)


@pytest.mark.parametrize("suppressed", ["", " from None"])
def test_an_interruption_in_the_middle_of_a_library_is_one(suppressed: str) -> None:
    library = f"try: raise errors.JobInterrupted('stopped')\n  except Exception: raise KeyError('compiler'){suppressed}"
    assert end_with(library, report.EXIT_INTERRUPTED, "JobInterrupted").message == "stopped"


def end_with(body: str, code: int, named: str) -> Failure:
    program = f"from jobs import errors, report\ndef main():\n  {body}\nreport.run('train', main)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    failure = report.parse(ended.stdout.strip())
    assert ended.returncode == code
    assert isinstance(failure, Failure) and failure.error == named
    return failure


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert report.duration(seconds) == words


def test_only_imports_of_a_job_run_without_a_garbage_collector(tmp_path: Path) -> None:
    body = "gc.disable()\nreport.run('train', lambda: print(gc.isenabled()))"
    assert said("-c", f"import gc\nfrom jobs import report\n{body}") == "True"
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "__init__.py").write_text("import gc, jobs; print(gc.isenabled())")
    (tmp_path / "starter" / "__main__.py").touch()
    assert said("-m", "starter", "python", "-m", "jobs.train", path=tmp_path) == "True"


def said(*arguments: str, path: Path | None = None) -> str:
    paths = os.pathsep.join(str(each) for each in (Path(report.__file__).parents[1], path) if each)
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()
