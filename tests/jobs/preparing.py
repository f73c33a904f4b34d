"""Structure from motion as tests run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from jobs import report

__all__ = ["read", "run"]


def read(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def run(
    images: Path, dataset: Path, *options: str
) -> tuple[int, list[report.Progress | report.PageReport | report.Figures | report.Failure]]:
    """Run the job as it is really run. Return its exit status and what it reported."""
    command = [sys.executable, "-m", "jobs.prepare", "--images", str(images), "--dataset", str(dataset), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, [line for text in done.stdout.splitlines() if (line := report.parse(text))]
