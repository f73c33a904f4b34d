"""Check that this environment can run the jobs: `python -m jobs.check`.

It examines what the jobs rely on (torch, GPU, pycolmap, gsplat's kernels, a C compiler, LPIPS' weights, video), imports
every module of this package, and asks each program for its help. Then it renders a tiny capture and runs every stage on
it, from photos to a page, in a process each, as jobs run. Each step prints one line: ok, absent (jobs can do without
it) or FAILED. A failed step does not stop the others; the exit status is 1 if any failed.

This module imports nothing but the standard library, because the libraries are what it checks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs import report
from jobs.environment import FOR_PYTHON, child_environment
from jobs.probes import CAN_BE_REQUIRED, LIBRARIES, list_probes

_PACKAGE = Path(__file__).parent
_LOG_LINES = 30  # that are shown of a step that failed
_LIMIT_S = 900.0  # for one step; the longest takes half a minute on two CPU cores
_SIZE = ("--width", "96", "--height", "54", "--seconds", "0.5", "--fps", "12")
_FRAMES = 6
_TRAINING = (  # after fewer steps, the model is a fog without a surface to export
    *("--max-num-iterations", "150", "--model-size", "small"),
    *("--max-image-size", "96", "--rays-per-batch", "512"),
)
_SMALL = ("--points", "1000", "--image-size", "48", "--resolution", "16")


class _Failed(Exception):
    """A step failed; the text says why. `log` is the end of the process's output."""

    def __init__(self, why: str, log: str = "") -> None:
        super().__init__(why)
        self.log = log


class _Check:
    """One run of all steps; each prints one line.

    Args:
        required: the names in CAN_BE_REQUIRED that must not be absent.
    """

    def __init__(self, required: list[str]) -> None:
        self._required = required
        self.steps: list[dict[str, object]] = []

    @property
    def failed(self) -> list[str]:
        """Return the names of the steps that failed."""
        return [str(step["step"]) for step in self.steps if step["state"] == "FAILED"]

    def step(self, name: str, action: Callable[[], str]) -> None:
        """Take one step, and print its result."""
        began = time.monotonic()
        try:
            state, text, log = "ok", action(), ""
        except _Failed as why:
            state, text, log = "FAILED", str(why), why.log
        except Exception as error:
            state, text, log = "FAILED", repr(error), ""
        self._tell(name, state, text, time.monotonic() - began, log)

    def _tell(self, name: str, state: str, text: str, seconds: float, log: str = "") -> None:
        text = " ".join(text.split())
        self.steps.append({"step": name, "state": state, "seconds": round(seconds, 1), "text": text, "log": log})
        print(f"{state:6} {seconds:6.1f} s  {name}: {text}", flush=True)
        for line in log.splitlines():
            print(f"       | {line}", flush=True)

    def look(self) -> None:
        """Examine what the jobs rely on, and every module and program."""
        self.step("python", lambda: f"{platform.python_version()}, {sys.executable}")
        self.step("machine", _machine)
        probes, failures, total = list_probes(), [], 0.0
        for probe, state, text, seconds in _tried(probes):
            if probe in LIBRARIES:
                state = "FAILED" if state == "absent" and probe in self._required else state
                self._tell(probe, state, text, seconds)
            else:
                total += seconds
                failures += [f"{probe} ({text})"] if state == "FAILED" else []
        programs = sum(" " in probe for probe in probes)
        modules = len(probes) - len(LIBRARIES) - programs
        text = f"{modules} modules to import, {programs} programs to show their help"
        if failures:
            self._tell("modules", "FAILED", f"{text}: {len(failures)} failed: {'; '.join(failures)}", total)
        else:
            self._tell("modules", "ok", text, total)

    def run(self, folder: Path) -> None:
        """Render a tiny capture into an empty folder, and run every stage on it."""
        capture, dataset, model, video = (folder / name for name in ("capture", "dataset", "model", "video"))
        shard, joined, facts = folder / "shard", folder / "joined", folder / "facts.json"
        facts.write_text('{"scene": "check"}')
        given = folder / "given.json"
        given.write_text("{}")

        def stage(name: str, program: str, made: Path, *options: str | Path, needs: tuple[Path, ...] = ()) -> None:
            def run() -> str:
                if missing := [need.name for need in needs if not need.exists()]:
                    raise _Failed(f"not tried, because an earlier step made no {', '.join(missing)}")
                output = _run("-m", f"jobs.{program}", *map(str, options))
                if not made.is_file():
                    raise _Failed(f"it made no {made.name}", output)
                return _result(output) or made.name

            self.step(name, run)

        stage("capture", "facade", capture / "truth.json", "--output", capture, "--photos", "14", "--width", "480",
              "--height", "270")  # fmt: skip
        stage("prepare", "prepare", dataset / "transforms.json", "--images", capture / "photos", "--dataset", dataset,
              needs=(capture / "photos",))  # fmt: skip
        if not (dataset / "transforms.json").is_file() and (capture / "truth.json").is_file():
            dataset = capture  # has the true poses, with which the other stages can still be tried
            (capture / "truth.json").rename(dataset / "transforms.json")
        stage("scale", "scale", folder / "metres" / "scene.json", "--dataset", dataset, "--given", given, "--metres",
              folder / "metres", needs=(dataset / "transforms.json",))  # fmt: skip
        both: tuple[str | Path, ...] = ("--dataset", dataset, "--model", model)
        stage("train", "train", model / "model.json", *both, "--checkpoints", folder / "training", *_TRAINING,
              needs=(dataset / "transforms.json",))  # fmt: skip
        trained = (model / "model.json",)
        stage("render", "render", video / "video.mp4", *both, "--video", video, "--checkpoints", folder / "chunks",
              *_SIZE, needs=trained)  # fmt: skip
        stage("shard", "shard", shard / "shard.json", *both, "--shard", shard, "--checkpoints", folder / "part",
              "--first", "0", "--last", str(_FRAMES), *_SIZE, needs=trained)  # fmt: skip
        stage("join", "render", joined / "video.mp4", *both, "--video", joined, "--checkpoints", folder / "none",
              "--shards", shard, *_SIZE, needs=(shard / "shard.json",))  # fmt: skip
        stage("compare", "compare", folder / "compared" / "video.mp4", "--then", video, "--now", joined, "--video",
              folder / "compared", needs=(video / "video.mp4", joined / "video.mp4"))  # fmt: skip
        stage("export", "export", folder / "export" / "index.html", *both, "--export", folder / "export", *_SMALL,
              needs=trained)  # fmt: skip
        stage("changes", "changes", folder / "changes" / "changes.json", "--then", dataset, "--older", model, "--now",
              dataset, "--newer", model, "--changes", folder / "changes", "--image-size", "96",
              needs=trained)  # fmt: skip
        stage("page", "page", folder / "page" / "index.html", *both, "--video", video, "--facts", facts, "--page",
              folder / "page", needs=(*trained, video / "video.mp4"))  # fmt: skip


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free / 1e9
    return f"{platform.platform()}, {cores} cores, {memory:.0f} GB of memory, {free:.0f} GB free at {place}"


def _settings() -> dict[str, str]:
    """Return the variables that put this package on the path and hide distracting warnings."""
    paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return FOR_PYTHON | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}


def _run(*arguments: str) -> str:
    """Run this interpreter as a job's command does; return its standard output.

    Raises:
        _Failed: it failed. The text contains its own error.
    """
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, env=child_environment() | _settings(), capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise _Failed(f"it was stopped after {_LIMIT_S:.0f} s") from None
    if done.returncode:
        lines = [*done.stderr.strip().splitlines(), *done.stdout.strip().splitlines()]
        failures = [line for line in map(report.parse, lines) if isinstance(line, report.Failure)]
        last = done.stderr.strip().splitlines()[-1:] or lines[-1:] or ["it printed nothing"]
        why = f"{failures[-1].error}: {failures[-1].message}" if failures else last[0]
        raise _Failed(f"{_end(done.returncode)}: {why}", "\n".join(lines[-_LOG_LINES:]))
    return done.stdout.strip()


def _tried(probes: list[str]) -> Iterator[tuple[str, str, str, float]]:
    """Try everything in one process, or in a new one after a crash; yield probe, state, text and seconds."""
    left = list(probes)
    while left:
        code = f"from jobs.probes import try_each; try_each({left!r})"
        command = [sys.executable, "-X", "faulthandler", "-c", code]
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command, env=child_environment() | _settings(), stdout=subprocess.PIPE, stderr=errors, text=True
            )
            limit = threading.Timer(_LIMIT_S, process.kill)
            limit.start()
            assert process.stdout
            for line in process.stdout:
                if left and line.startswith('["'):
                    began = time.monotonic()
                    state, text, seconds = json.loads(line)
                    yield left.pop(0), state, text, seconds
            status = process.wait()
            limit.cancel()
            errors.seek(0)
            output = errors.read().strip().splitlines()[-1:]
        if left:
            text = ": ".join([_end(status), *output])
            yield left.pop(0), "FAILED", text, time.monotonic() - began


def _end(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _result(output: str) -> str:
    """Return the figures of a job's result as text, or "" if it reported none."""
    found = [line for line in map(report.parse, output.splitlines()) if isinstance(line, report.Figures)]
    return ", ".join(f"{name} {value}" for name, value in found[-1].result.items()) if found else ""


def main() -> None:
    """Run the check with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.check", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--no-run", action="store_true", help="do not run the stages on a tiny capture")
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        choices=CAN_BE_REQUIRED,
        help="what must not be absent, although jobs can do without it; pycolmap means pycolmap with CUDA",
    )
    parser.add_argument("--output", type=Path, help="a folder for check.json, created if missing")
    given = parser.parse_args()
    check = _Check(given.require)
    began = time.monotonic()
    check.look()
    if not given.no_run:
        with tempfile.TemporaryDirectory(prefix="check-") as folder:
            check.run(Path(folder))
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "check.json").write_text(json.dumps(check.steps, indent=2) + "\n")
    seconds = round(time.monotonic() - began)
    if check.failed:
        report.emit(report.Failure("check", "JobFailed", f"this environment fails at: {', '.join(check.failed)}"))
        sys.exit(1)
    report.emit(report.Figures("check", {"steps": len(check.steps), "seconds": seconds}))


if __name__ == "__main__":
    report.end_imports()
    main()
