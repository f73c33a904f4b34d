"""The code of a job: this package and, if the project's root has one, the user's nerfstudio checkout."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

__all__ = ["copy_to", "own_nerfstudio", "own_nerfstudio_fingerprint"]

_JOBS = Path(__file__).resolve().parent
_NO_CODE = shutil.ignore_patterns("__pycache__", ".git", "*.pyc")
_DEMO = ("demo", "facade.py")
_NEED_THE_DEMO = ("check", "facade")


def copy_to(folder: Path, stage: str) -> None:
    """Copy the code into a folder for a job's PYTHONPATH, so that later edits do not affect the job.

    Args:
        folder: gets `jobs/` and, for a checkout, `nerfstudio/`.
        stage: the job's stage. The built-in street is copied only for stages that draw it.
    """

    def left_out(place: str, names: list[str]) -> set[str]:
        demo = set(_DEMO) if Path(place) == _JOBS and stage not in _NEED_THE_DEMO else set()
        return _NO_CODE(place, names) | demo

    shutil.copytree(_JOBS, folder / "jobs", ignore=left_out)
    if own := own_nerfstudio():
        shutil.copytree(own, folder / "nerfstudio", ignore=_NO_CODE)


def own_nerfstudio() -> Path | None:
    """Return the package in the nerfstudio checkout in the project's root, or None."""
    if _JOBS.parent.name in ("site-packages", "dist-packages"):
        return None  # installed by pip: a nerfstudio beside this package is not a checkout
    checkout = _JOBS.parent / "nerfstudio"
    return next((place for place in (checkout / "nerfstudio", checkout) if (place / "__init__.py").is_file()), None)


def own_nerfstudio_fingerprint() -> str:
    """Return the SHA-256, in hex, of the checkout's Python files, or "" if there is no checkout."""
    own = own_nerfstudio()
    if own is None:
        return ""
    total = hashlib.sha256()
    for file in sorted(own.rglob("*.py")):
        total.update(f"{file.relative_to(own)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
