"""Make a fly-through of a built-in street front: `rebel-nerf demo`, `make demo`."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path

from pydantic import BaseModel, Field

import jobs
from commands.shell.run import command_of, parse_command, run_aloud, run_scene
from commands.shell.terminal import Display
from flows.nerf import STAGES, nerf
from jobs import report
from jobs.environment import FOR_PYTHON, child_environment
from jobs.errors import JobFailed
from jobs.options import RenderOptions
from jobs.report import Failure, Progress
from tasks.news import News

_LAST_LINES = 15


class Demo(BaseModel):
    """Draw photos of a built-in street front, and turn them into a dataset, a model and a video, on the CPU."""

    photos: Path = Field(Path("build/facade"), description="the folder for the photos; they are kept and used again")
    verbose: bool = Field(False, description="show Prefect's log, line by line")
    open: bool = Field(False, description="open the scene's page in the browser at the end")


def demonstrate(options: Demo) -> None:
    """Draw the photos unless they exist, and run the flow on them."""
    command = command_of(nerf.fn)
    shown = RenderOptions(long_side=480, seconds=4.0, fps=15, loop=True)  # half of the frames are on the way back
    run = command(
        scene="facade",
        images=options.photos / "photos",
        profile="preview",
        render=shown,
        export=True,
        open=options.open,
    )
    display = Display(("photos", *STAGES[:-1], "export", *STAGES[-1:]))
    if options.verbose:
        photograph(options.photos, display)
        run_aloud(nerf, run)
    else:
        run_scene(nerf, run, display, before=lambda: photograph(options.photos, display))


def photograph(folder: Path, display: Display) -> None:
    """Draw the photos of the street front in another process, because that needs the packages of jobs.

    Raises:
        JobFailed: the photos could not be drawn. The text has the last lines of the process.
    """
    if (folder / "truth.json").is_file():
        display.take(News("photos", state="done", words="existed already"))
        return
    last: deque[str] = deque(maxlen=_LAST_LINES)
    program = [sys.executable, "-m", "jobs.facade", "--output", str(folder)]
    settings = FOR_PYTHON | {"PYTHONPATH": str(Path(jobs.__file__).resolve().parents[1])}
    with subprocess.Popen(
        program,
        env=child_environment() | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as made:
        assert made.stdout
        for line in made.stdout:
            reported = report.parse(line)
            if isinstance(reported, Progress):
                display.take(News("photos", progress=reported))
            elif isinstance(reported, Failure):
                raise reported.exception()
            else:
                last.append(line)
    if made.returncode:
        raise JobFailed(f"scene facade: the photos could not be drawn in {folder}:\n{''.join(last)}")
    display.take(News("photos", state="done", words=f"{len(list((folder / 'photos').iterdir()))} photos"))


if __name__ == "__main__":
    demonstrate(parse_command(Demo, sys.argv[1:]))
