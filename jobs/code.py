"""What a job runs: this package and, where the user has one beside it, a nerfstudio checkout of their own."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

__all__ = ["copy_to", "own_nerfstudio", "own_nerfstudio_fingerprint"]

_JOBS = Path(__file__).resolve().parent
_NO_CODE = shutil.ignore_patterns("__pycache__", ".git", "*.pyc")


def copy_to(folder: Path) -> None:
    """Copy it all below a folder that a job has on its PYTHONPATH: what it imports does not change under it."""
    shutil.copytree(_JOBS, folder / "jobs", ignore=_NO_CODE)
    if own := own_nerfstudio():
        shutil.copytree(own, folder / "nerfstudio", ignore=_NO_CODE)


def own_nerfstudio() -> Path | None:
    """The package in the user's nerfstudio checkout, in the project's root; None where there is none."""
    if _JOBS.parent.name in ("site-packages", "dist-packages"):
        return None  # what lies beside this package there is what pip installed
    checkout = _JOBS.parent / "nerfstudio"
    return next((place for place in (checkout / "nerfstudio", checkout) if (place / "__init__.py").is_file()), None)


def own_nerfstudio_fingerprint() -> str:
    """SHA-256 in hex of its Python files; "" where there is none."""
    own = own_nerfstudio()
    if own is None:
        return ""
    total = hashlib.sha256()
    for file in sorted(own.rglob("*.py")):
        total.update(f"{file.relative_to(own)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
