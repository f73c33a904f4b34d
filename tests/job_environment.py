"""The job environment without Docker: a virtual environment of Python 3.12 with what environment.lock lists.

`python -m tests.job_environment` makes it and prints its interpreter; where there is no Python 3.12, it prints nothing.
It takes 8 GB in $XDG_CACHE_HOME/rebel-nerf; an environment of another lock is removed from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "deployments" / "azure" / "environment.lock"
NONE = "there is no Python 3.12 on PATH or in ~/.pyenv, in which the job environment runs"


def find_python() -> Path | None:
    """Find a Python 3.12 that works: pyenv's shims are on PATH even where the version is not chosen."""
    shim = shutil.which("python3.12")
    on_path = [Path(shim)] if shim else []
    for candidate in [*on_path, *sorted(Path.home().glob(".pyenv/versions/3.12.*/bin/python"), reverse=True)]:
        done = subprocess.run([candidate, "-c", "import ensurepip, venv"], capture_output=True)
        if done.returncode == 0:
            return candidate
    return None


def make(base: Path) -> Path:
    """Make the environment, unless it is there already.

    Args:
        base: a Python 3.12.

    Returns:
        The environment's interpreter.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rebel-nerf")
    folder = cache / f"jobs-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    python, complete = folder / "bin" / "python", folder / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            for old in cache.glob("jobs-*"):
                shutil.rmtree(old)
            subprocess.run([base, "-m", "venv", folder], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile", "--no-deps"]
            install += ["--disable-pip-version-check", "--only-binary", ":all:", "--requirement", str(LOCK)]
            subprocess.run(install, check=True, stdout=sys.stderr)
            complete.touch()
    return python


if __name__ == "__main__":
    found = find_python()
    if found:
        print(make(found))
    else:
        print(f"The emulator's jobs run in the environment of the tests: {NONE}.", file=sys.stderr)
