"""The faults that kill rounds cannot bring about by killing: a clock that is set, and a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.surroundings import Surroundings

LOOK = """
import datetime, os, pathlib, shutil, sys, time
def tries(write):
    try:
        write()
    except OSError as error:
        return error.errno
ahead = time.time() - float(sys.argv[1])
assert abs(datetime.datetime.now().timestamp() - time.time()) < 5
source = pathlib.Path("small")
source.write_text("x" * 1000)
print(round(ahead / 3600), tries(lambda: pathlib.Path("disk/file").write_text("x")),
      tries(lambda: shutil.copyfile(source, "disk/copy")), os.system("echo x >disk/shell 2>&-") >> 8)
"""


def seen(surroundings: Surroundings, folder: Path) -> str:
    """Return by how many hours the clock is ahead, and the results of three ways to write a file."""
    now = subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True).stdout.strip()
    command = [sys.executable, "-c", LOOK, now]
    environment = {**os.environ, **surroundings.environment}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("hours", [25, -25])
def test_a_process_sees_another_clock_and_a_full_disk(tmp_path: Path, hours: int) -> None:
    (tmp_path / "disk").mkdir()
    surroundings = Surroundings(tmp_path, tmp_path / "disk")
    assert seen(surroundings, tmp_path) == "0 None None 0"
    surroundings.set_clock(3600 * hours)
    surroundings.fill_disk()
    assert seen(surroundings, tmp_path) == f"{hours} 28 28 1"
    surroundings.set_clock(0)
    surroundings.fill_disk(False)
    assert seen(surroundings, tmp_path) == "0 None None 0"
