"""Checks of this machine: Python, packages, GPU, compiler, disk, permissions and clock."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from prefect.settings import PREFECT_HOME

from blocks import LocalWorkspace
from deployments.health.finding import Check, Finding
from jobs.environment import child_environment
from jobs.program import typed

__all__ = ["checks", "unmet_requirements"]

_PACKAGE = "rebel-nerf"
_LEAST_FREE, _GOOD_FREE = 2e9, 20e9  # bytes: of a small scene, and of one with 300 large photos
_INSTALL = "pip install -e '.[local]'"
# Prints the versions of the packages given as JSON, which of those with libraries of C++ cannot be loaded, and what
# PyTorch sees of a GPU.
_LOOK = """
import importlib, json, sys
from importlib import metadata
found, broken = {}, {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
for name in ("av", "pycolmap", "torch"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            broken[name] = str(error)
    except Exception as error:
        broken[name] = str(error)
gpu = None
if sys.argv[2] == "gpu":
    try:
        import torch
        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    except Exception as error:
        gpu = f"!{type(error).__name__}: {error}"
print(json.dumps([sys.version.split()[0], found, broken, gpu]))
"""


def checks(workspace: LocalWorkspace) -> list[Check]:
    """Return the checks of the machine that runs the jobs of a local workspace."""
    return [
        ("Python", _python),
        ("packages", _packages),
        ("job packages", partial(_job_packages, workspace)),
        ("GPU", partial(_gpu, workspace)),
        ("compiler", partial(_compiler, workspace)),
        ("disk", partial(_disk, workspace.folder)),
        ("permissions", partial(_permissions, workspace)),
        ("clock", partial(_clock, workspace.folder)),
    ]


def unmet_requirements(package: str = _PACKAGE) -> Iterator[str]:
    """Yield the requirements of a package and of its dependencies that the installed versions do not meet."""
    waiting, seen = [package], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in metadata.requires(name) or []:
            required = Requirement(text)
            if required.marker and not required.marker.evaluate({"extra": ""}):
                continue
            try:
                there = metadata.version(required.name)
            except metadata.PackageNotFoundError:
                yield f"{name} needs {required}, which is not installed"
                continue
            if not required.specifier.contains(there, prereleases=True):
                yield f"{name} needs {required.name}{required.specifier}, and {there} is installed"
            waiting.append(required.name)


def _python() -> Finding:
    wanted = SpecifierSet(metadata.metadata(_PACKAGE)["Requires-Python"])
    found = f"{platform.python_version()}, {sys.executable}"
    if not wanted.contains(platform.python_version(), prereleases=True):
        return Finding.wrong(found, f"Install Python {wanted} and set up .venv again: make clean && make test")
    return Finding.ok(found)


def _packages() -> Finding:
    try:
        unmet = list(unmet_requirements())
    except metadata.PackageNotFoundError as error:
        return Finding.wrong(f"{error} is not installed", _INSTALL)
    if unmet:
        return Finding.wrong("\n".join(unmet), f"{_INSTALL}, in a new virtual environment if that does not help")
    return Finding.ok(f"compatible: {_PACKAGE} {metadata.version(_PACKAGE)}, Prefect {metadata.version('prefect')}")


class _Seen(NamedTuple):
    """What the interpreter of the jobs has: Python's version, those of packages, and the name of PyTorch's GPU.

    `broken` says why a package cannot be loaded.
    """

    python: str
    packages: dict[str, str | None]
    broken: dict[str, str]
    gpu: str | None


def _look(workspace: LocalWorkspace) -> _Seen:
    wanted = json.dumps([required.name for required in _local_requirements()])
    command = [workspace.python, "-c", _LOOK, wanted, "gpu" if workspace.has_gpu() else ""]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=300, check=True)
    return _Seen(*json.loads(done.stdout.splitlines()[-1]))


def _local_requirements() -> list[Requirement]:
    every = map(Requirement, metadata.requires(_PACKAGE) or [])
    return [each for each in every if each.marker and each.marker.evaluate({"extra": "local"})
            and not each.marker.evaluate({"extra": ""})]  # fmt: skip


def _job_packages(workspace: LocalWorkspace) -> Finding:
    install = f"{workspace.python} -m {_INSTALL}"
    if shutil.which(workspace.python) is None:
        return Finding.wrong(f"{workspace.python} is not a program", "Set `python` in the workspace's block.")
    try:
        seen = _look(workspace)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Finding.wrong(f"{workspace.python} does not run: {error}", "Set `python` in the workspace's block.")
    wrong = []
    for required in _local_requirements():
        there = seen.packages[required.name]
        if there is None:
            wrong.append(f"{required.name} is not installed")
        elif not required.specifier.contains(there, prereleases=True):
            wrong.append(f"{required.name}{required.specifier} is needed, and {there} is installed")
    wrong += [f"{name} cannot be loaded: {why}" for name, why in seen.broken.items()]
    if wrong:
        return Finding.wrong("\n".join(wrong), install)
    packages = ", ".join(f"{name} {seen.packages[name]}" for name in ("nerfstudio", "pycolmap", "torch"))
    return Finding.ok(f"{packages}, with Python {seen.python}")


def _gpu(workspace: LocalWorkspace) -> Finding:
    if not workspace.has_gpu():
        return Finding.warning("no CUDA GPU: jobs run on the CPU, with the profile preview")
    try:
        seen = _look(workspace).gpu or ""
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Finding.wrong(f"PyTorch cannot be checked: {error}", "See the line on job packages.")
    if not seen or seen.startswith("!"):
        why = f": {seen[1:]}" if seen else ""
        return Finding.wrong(
            f"nvidia-smi lists a GPU, but PyTorch cannot use it{why}",
            f"Update the NVIDIA driver, or install a PyTorch for it: {workspace.python} -m pip install torch "
            "--index-url https://download.pytorch.org/whl/cu126",
        )
    return Finding.ok(seen)


def _compiler(workspace: LocalWorkspace) -> Finding:
    slow = "without one, nothing is compiled for the GPU, and training is several times slower"
    judge = partial(Finding.wrong if workspace.has_gpu() else Finding.warning)
    remedy = "Debian, Ubuntu: sudo apt install gcc libc6-dev python3-dev"
    compiler = shutil.which(os.environ.get("CC", "")) or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return judge(f"no C compiler: {slow}", remedy)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "look.c")
        source.write_text("#include <Python.h>\n")
        command = [compiler, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", str(source)]
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=60)
    if done.returncode:
        return judge(f"{compiler} does not compile with Python's headers: {slow}", remedy)
    return Finding.ok(compiler)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    text = f"{free / 1e9:.1f} GB free for {folder}"
    remedy = f"Free space (`{typed('prune')}` lists what can go), or set REBEL_NERF_HOME to a folder of another disk."
    if free < _LEAST_FREE:
        return Finding.wrong(text, remedy)
    return Finding.warning(text, remedy) if free < _GOOD_FREE else Finding.ok(text)


def _permissions(workspace: LocalWorkspace) -> Finding:
    workspace.check()
    home = Path(PREFECT_HOME.value())
    open_to_others = []
    for folder in filter(Path.exists, (workspace.folder, home)):
        stat = folder.stat()
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return Finding.wrong(f"{folder} cannot be written", f"sudo chown -R $USER {folder}")
        if stat.st_uid not in (os.getuid(), 0):
            return Finding.wrong(f"{folder} belongs to another user", f"sudo chown -R $USER {folder}")
        if stat.st_mode & 0o077:
            open_to_others.append(folder)
    if open_to_others:
        names = " ".join(map(str, open_to_others))
        return Finding.warning(
            f"other users can enter {names}", shlex.join(["chmod", "700", *map(str, open_to_others)])
        )
    return Finding.ok(f"{workspace.folder} and {home} are writable, and yours alone")


def _clock(folder: Path) -> Finding:
    now, remedy = time.time(), "Set the clock (timedatectl set-ntp true): cost limits and schedules depend on it."
    installed = Path(__file__).stat().st_mtime
    if now < installed - 3600:
        return Finding.wrong(f"{_written(now)} is before this program was installed", remedy)
    with tempfile.NamedTemporaryFile(dir=_existing(folder), prefix=".") as probe:
        ahead = os.fstat(probe.fileno()).st_mtime - now
    if abs(ahead) > 60:
        return Finding.wrong(f"the disk's clock is {ahead:+.0f} s from this machine's", remedy)
    return Finding.ok(_written(now))


def _written(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())
