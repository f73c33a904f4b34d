"""Show commands of `rebel-nerf` as they can be typed in the current folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["typed"]


def typed(words: str) -> str:
    """Return a command line of `rebel-nerf` that works in the current folder, even if it is not on the PATH."""
    own = Path(sys.executable).with_name("rebel-nerf")
    if shutil.which("rebel-nerf") or not own.exists():
        return f"rebel-nerf {words}"
    shown = own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own
    return f"{shlex.quote(str(shown))} {words}"
