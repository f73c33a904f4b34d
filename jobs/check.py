"""Check that this environment can run the jobs: `python -m jobs.check`.

It examines what the jobs rely on (torch, GPU, pycolmap, gsplat's kernels, a C compiler, LPIPS' weights, video), imports
every module of this package, and asks each program for its help. Then it renders a tiny capture and runs every stage on
it, from photos to a page, in a process each, as jobs run. Each step prints one line: ok, absent (jobs can do without
it) or FAILED. A failed step does not stop the others; the exit status is 1 if any failed.

This module imports nothing but the standard library, because the libraries are what it checks.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import platform
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs import report

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


class _Absent(Exception):
    """Something is missing that jobs can do without."""


class _Failed(Exception):
    """A step failed; the text says why. `log` is the end of the process's output."""

    def __init__(self, why: str, log: str = "") -> None:
        super().__init__(why)
        self.log = log


# Each of these runs in another process, because a broken library can end the process that imports it.


def _torch() -> str:
    import torch

    architectures = torch._C._cuda_getArchFlags() or "none"
    return f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}, built for {architectures}"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        try:
            torch.zeros(1, device="cuda")  # says why
        except Exception as error:
            raise _Absent(" ".join(str(error).split())) from None
        raise _Absent("torch finds no CUDA GPU")
    device = torch.cuda.get_device_properties(0)
    square = torch.eye(64, device="cuda")
    assert torch.equal(square @ square, square), "the GPU computes a wrong product"
    return (
        f"{device.name}, compute capability {device.major}.{device.minor}, {device.total_memory / 1e9:.0f} GB, "
        f"driver {_driver()}, {torch.cuda.device_count()} in total"
    )


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    except (OSError, IndexError, subprocess.SubprocessError):
        return "unknown"


def _pycolmap() -> str:
    import pycolmap

    if not pycolmap.has_cuda:
        raise _Absent(f"{pycolmap.__version__}, built without CUDA: structure from motion runs on the CPU")
    return f"{pycolmap.__version__}, built with CUDA"


def _gsplat() -> str:
    import torch

    try:
        from gsplat import csrc  # noqa: F401
    except ImportError as error:
        raise _Absent(f"gsplat's CUDA kernels are not built in ({error}): splatfacto compiles them, or fails") from None
    if not torch.cuda.is_available():
        return "its CUDA kernels are built in"
    from gsplat import rasterization

    def on_gpu(values: object) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device="cuda")

    picture, _, _ = rasterization(
        means=on_gpu([[0, 0, 2]]),
        quats=on_gpu([[1, 0, 0, 0]]),
        scales=on_gpu([[0.5, 0.5, 0.5]]),
        opacities=on_gpu([0.9]),
        colors=on_gpu([[1, 0, 0]]),
        viewmats=torch.eye(4, device="cuda")[None],
        Ks=on_gpu([[[32, 0, 16], [0, 32, 16], [0, 0, 1]]]),
        width=32,
        height=32,
    )
    assert 0.5 < float(picture[0, 16, 16, 0]) <= 1, "gsplat draws a wrong picture"
    return "its CUDA kernels are built in, and draw correctly"


def _compiler() -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise _Absent("there is no C compiler, so nothing is compiled for the GPU: training is several times slower")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "look.c")
        source.write_text("#include <Python.h>\n")
        asked = [compiler, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", str(source)]
        done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode:
        raise _Absent(f"{compiler} does not find Python.h, so Triton cannot compile: install Python's headers")
    return f"{compiler}, with Python.h"


def _lpips() -> str:
    from jobs.model import lpips_from_cache

    with lpips_from_cache() as why_not:
        if why_not:
            raise _Absent(f"LPIPS will not be measured: {why_not}")
    return "its weights are present"


def _video() -> str:
    import av

    encoders = [name for name in ("libx264", "h264_nvenc") if name in av.codecs_available]
    assert "libx264" in encoders, "PyAV cannot encode H.264"
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}, encoders {', '.join(encoders)}"


_LOOKS: dict[str, Callable[[], str]] = {
    "torch": _torch,
    "gpu": _gpu,
    "pycolmap": _pycolmap,
    "gsplat": _gsplat,
    "compiler": _compiler,
    "lpips": _lpips,
    "video": _video,
}
_CAN_BE_REQUIRED = ("gpu", "pycolmap", "gsplat", "compiler", "lpips")


def _trials() -> list[str]:
    """Return what the other process tries: the names in _LOOKS, "jobs.x" to import, "jobs.x --help" for programs."""
    files = [file for file in sorted(_PACKAGE.rglob("*.py")) if file.name not in ("__init__.py", "check.py")]
    names = {file: ".".join(file.relative_to(_PACKAGE).with_suffix("").parts) for file in files}
    programs = [names[file] for file in files if '__name__ == "__main__"' in file.read_text()]
    return [*_LOOKS, *(f"jobs.{name}" for name in names.values()), *(f"jobs.{name} --help" for name in programs)]


def _try_each(trials: list[str]) -> None:
    """Print the result of each trial as a line of JSON: state, text and seconds."""
    for trial in trials:
        began, state, text = time.monotonic(), "ok", ""
        name, _, option = trial.partition(" ")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                if name in _LOOKS:
                    text = _LOOKS[name]()
                elif option:
                    _help(name)
                else:
                    importlib.import_module(name)
        except _Absent as why:
            state, text = "absent", str(why)
        except BaseException as error:  # SystemExit included: a module must not end the process
            state, text = "FAILED", f"{type(error).__name__}: {error}"
        print(json.dumps([state, text, time.monotonic() - began]), flush=True)


def _help(program: str) -> None:
    """Run `python -m PROGRAM --help` in this process, which has already imported its libraries."""
    before, sys.argv = sys.argv, [program, "--help"]
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")  # the module has already been imported
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(said.getvalue().strip()) from None
    finally:
        sys.argv = before
    if "usage:" not in said.getvalue():
        raise RuntimeError("its help shows no usage")


class _Check:
    """One run of all steps; each prints one line.

    Args:
        required: the names in _CAN_BE_REQUIRED that must not be absent.
    """

    def __init__(self, required: list[str]) -> None:
        self._required = required
        self.steps: list[dict[str, object]] = []

    @property
    def failed(self) -> list[str]:
        """The names of the steps that failed."""
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
        trials, failures, total = _trials(), [], 0.0
        for trial, state, text, seconds in _tried(trials):
            if trial in _LOOKS:
                state = "FAILED" if state == "absent" and trial in self._required else state
                self._tell(trial, state, text, seconds)
            else:
                total += seconds
                failures += [f"{trial} ({text})"] if state == "FAILED" else []
        programs = sum(" " in trial for trial in trials)
        modules = len(trials) - len(_LOOKS) - programs
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
                said = _run("-m", f"jobs.{program}", *map(str, options))
                if not made.is_file():
                    raise _Failed(f"it made no {made.name}", said)
                return _result(said) or made.name

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
        stage("page", "page", folder / "page" / "index.html", *both, "--video", video, "--facts", facts, "--page",
              folder / "page", needs=(*trained, video / "video.mp4"))  # fmt: skip


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free / 1e9
    return f"{platform.platform()}, {cores} cores, {memory:.0f} GB of memory, {free:.0f} GB free at {place}"


def _environment() -> dict[str, str]:
    """Return the environment of a job, with this package on the path and without distracting warnings."""
    paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}


def _run(*arguments: str) -> str:
    """Run this interpreter as a job's command does; return its standard output.

    Raises:
        _Failed: it failed. The text contains its own error.
    """
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise _Failed(f"it was stopped after {_LIMIT_S:.0f} s") from None
    if done.returncode:
        lines = [*done.stderr.strip().splitlines(), *done.stdout.strip().splitlines()]
        failures = [line for line in map(report.parse, lines) if isinstance(line, report.Failure)]
        last = done.stderr.strip().splitlines()[-1:] or lines[-1:] or ["it printed nothing"]
        why = f"{failures[-1].error}: {failures[-1].message}" if failures else last[0]
        raise _Failed(f"{_end(done.returncode)}: {why}", "\n".join(lines[-_LOG_LINES:]))
    return done.stdout.strip()


def _tried(trials: list[str]) -> Iterator[tuple[str, str, str, float]]:
    """Try everything in one process, or in a new one after a crash; yield trial, state, text and seconds."""
    left = list(trials)
    while left:
        code = f"from jobs.check import _try_each; _try_each({left!r})"
        command = [sys.executable, "-X", "faulthandler", "-c", code]
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True)
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
            said = errors.read().strip().splitlines()[-1:]
        if left:
            text = ": ".join([_end(status), *said])
            yield left.pop(0), "FAILED", text, time.monotonic() - began


def _end(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _result(said: str) -> str:
    """Return the figures of a job's result as text, or "" if it reported none."""
    found = [line for line in map(report.parse, said.splitlines()) if isinstance(line, report.Result)]
    return ", ".join(f"{name} {value}" for name, value in found[-1].result.items()) if found else ""


def main() -> None:
    """Run the check with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.check", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--no-run", action="store_true", help="do not run the stages on a tiny capture")
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        choices=_CAN_BE_REQUIRED,
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
    report.emit(report.Result("check", {"steps": len(check.steps), "seconds": seconds}))


if __name__ == "__main__":
    main()
