"""A local workspace whose jobs are real processes: lines of shell, through an interpreter that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks import JobSpec, JobState, LocalWorkspace
from tests.faults import chain
from tests.waiting import until

__all__ = ["PHOTOS", "finish", "spec", "state", "workspace"]

PHOTOS = "mkdir -p $1/photos && echo rendering && echo one >$1/photos/1.jpg && echo two >$1/truth.json"


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    """Return an empty workspace, whose `python -m <stage>` is `sh -c`."""
    return chain.chain_workspace(tmp_path / "home", '#!/bin/sh\nshift 2\nexec /bin/sh -c "$@"\n', jobs_at_once=None)


def spec(line: str, name: str = "street-shell-1-abcd", attempt: int = 1, **more: object) -> JobSpec:
    """Return a job that runs a line of shell; $1 is the folder of its output `capture`."""
    given = {"family": name, "scene": "street", "stage": "shell", "outputs": ("capture",)}
    arguments = (line, "sh", "{outputs.capture}")
    return JobSpec.model_validate({**given, "arguments": arguments, "attempt": attempt, **more})


def state(workspace: LocalWorkspace, job: JobSpec) -> JobState:
    """Return the state of a job that was submitted."""
    status = workspace.find_job(job.name)
    assert status is not None
    return status.state


def finish(workspace: LocalWorkspace, job: JobSpec) -> None:
    """Submit a job and wait until it has ended."""
    workspace.submit(job)
    until(lambda: state(workspace, job).ended)
