"""The command `rebel-nerf` as it can be typed here."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["typed"]


def typed(words: str) -> str:
    """Return a command of `rebel-nerf` that works as it is printed, from the current folder."""
    own = Path(sys.executable).with_name("rebel-nerf")
    if shutil.which("rebel-nerf") or not own.exists():
        return f"rebel-nerf {words}"
    shown = own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own
    return f"{shlex.quote(str(shown))} {words}"
