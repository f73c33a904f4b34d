"""What `jobs.check` tries in a process of its own: the libraries, every module, and the help of every program.

A broken library can end the process that imports it, so `jobs.check` goes on in a new one. This module imports nothing
but the standard library.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from jobs.environment import child_environment

__all__ = ["CAN_BE_REQUIRED", "LIBRARIES", "list_probes", "try_each"]

_PACKAGE = Path(__file__).parent


class _Absent(Exception):
    """Something is missing that jobs can do without."""


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
        return subprocess.run(
            asked, env=child_environment(), capture_output=True, text=True, check=True, timeout=60
        ).stdout.split()[0]
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
        done = subprocess.run(asked, env=child_environment(), capture_output=True, text=True)
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


LIBRARIES: dict[str, Callable[[], str]] = {
    "torch": _torch,
    "gpu": _gpu,
    "pycolmap": _pycolmap,
    "gsplat": _gsplat,
    "compiler": _compiler,
    "lpips": _lpips,
    "video": _video,
}
"""What jobs rely on, with a function that examines it and returns what it found."""

CAN_BE_REQUIRED = ("gpu", "pycolmap", "gsplat", "compiler", "lpips")
"""Those of LIBRARIES that jobs can do without."""


def list_probes() -> list[str]:
    """Return what to try: the names in LIBRARIES, "jobs.x" for a module to import, "jobs.x --help" for a program."""
    files = [
        file for file in sorted(_PACKAGE.rglob("*.py")) if file.name not in ("__init__.py", "check.py", "probes.py")
    ]
    names = {file: ".".join(file.relative_to(_PACKAGE).with_suffix("").parts) for file in files}
    programs = [names[file] for file in files if '__name__ == "__main__"' in file.read_text()]
    return [*LIBRARIES, *(f"jobs.{name}" for name in names.values()), *(f"jobs.{name} --help" for name in programs)]


def try_each(probes: list[str]) -> None:
    """Print the result of each probe as a line of JSON: state, text and seconds."""
    for probe in probes:
        began, state, text = time.monotonic(), "ok", ""
        name, _, option = probe.partition(" ")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                if name in LIBRARIES:
                    text = LIBRARIES[name]()
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
    output = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(output):
            warnings.simplefilter("ignore")  # the module has already been imported
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(output.getvalue().strip()) from None
    finally:
        sys.argv = before
    if "usage:" not in output.getvalue():
        raise RuntimeError("its help shows no usage")
