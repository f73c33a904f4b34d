"""Pages that can be looked at: of a job that runs, or of a model that stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from blocks import Asset, JobState, Workspace
from jobs import report
from jobs.errors import JobFailed
from jobs.report import Failure, Page

__all__ = ["running_page", "served_page"]


def running_page(workspace: Workspace, scene: str) -> tuple[str, Page] | None:
    """The job that trains a scene just now, and the page that it serves; None if there is none."""
    for job in workspace.followers():
        status = workspace.find_job(job) if job.startswith(f"{scene}-train-") else None
        if status and status.state is JobState.RUNNING:
            offset, page = 0, None
            while True:
                text, offset = workspace.read_log(job, offset)
                if not text:
                    break
                found = (line for line in map(report.parse, text.splitlines()) if isinstance(line, Page))
                page = next(found, page)
            if page:
                return job, page
    return None


@contextmanager
def served_page(workspace: Workspace, dataset: Asset, model: Asset, port: int) -> Iterator[subprocess.Popen[str]]:
    """A process of this machine that serves the viewer of a model; inside, it answers.

    Raises:
        JobFailed: it could not; its own words are in the text.
    """
    places = ("--model", str(workspace.fetch(model)), "--dataset", str(workspace.fetch(dataset)), "--port", str(port))
    program = [getattr(workspace, "python", sys.executable), "-m", "jobs.view", *places]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as serving:
        assert serving.stdout
        try:
            log = []
            for line in serving.stdout:
                told = report.parse(line)
                if isinstance(told, Page):
                    break
                if isinstance(told, Failure):
                    raise told.exception()
                log.append(line)
            else:
                raise JobFailed(f"the viewer of {model} ended:\n{''.join(log[-15:])}")
            yield serving
        finally:
            with suppress(ProcessLookupError):  # the processes that load photos, too
                os.killpg(serving.pid, signal.SIGTERM)
