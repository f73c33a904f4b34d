"""A flow of two stages whose jobs are real processes that sleep, which makes a round cheap."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from prefect import flow

from blocks import Asset, JobState, LocalWorkspace
from flows._ends import with_plain_ends
from jobs.base_options import Options
from tasks.stage import Plan, Stage

# As `python -m jobs.<stage> --input … --output … --seconds …`. It notes its start in `started`, and in `overlapped` if
# another job of the stage runs. A file `seconds` beside it says how long it takes, in place of the option, which counts
# in the fingerprint.
JOB = """#!/bin/sh
home=$(dirname "$0")
echo "$2" >>"$home/started"
exec 9>"$home/$2.lock"
flock -n 9 || echo "$2" >>"$home/overlapped"
while [ $# -gt 1 ]; do
  case "$1" in --output) output="$2";; --seconds) seconds="$2";; esac
  shift
done
[ -f "$home/seconds" ] && seconds=$(cat "$home/seconds")
sleep "$seconds"
echo made >"$output/made"
"""


class FirstOptions(Options):
    """Of the first stage."""

    STAGE: ClassVar[str] = "first"
    seconds: float


class SecondOptions(FirstOptions):
    """Of the second stage."""

    STAGE: ClassVar[str] = "second"


def chain_workspace(root: Path, job: str = JOB, jobs_at_once: int | None = 1000) -> LocalWorkspace:
    """Return a workspace whose jobs are a program of shell."""
    root.mkdir(parents=True, exist_ok=True)
    program = root / "python"
    if not program.exists():
        program.write_text(job)
        program.chmod(0o755)
    return LocalWorkspace(root=root, python=str(program), jobs_at_once=jobs_at_once)


def capture(workspace: LocalWorkspace, scene: str = "street") -> Asset:
    """Register a capture of one photo."""
    photo = workspace.folder / scene
    if not photo.exists():
        photo.write_text(scene)
    return workspace.take_in(scene, {"photo": photo}, {})


def started(workspace: LocalWorkspace) -> list[str]:
    """Return the stage of each job that began, in order."""
    try:
        return [line.removeprefix("jobs.") for line in (workspace.folder / "started").read_text().split()]
    except FileNotFoundError:
        return []


def states(workspace: LocalWorkspace) -> list[JobState]:
    """Return the state of each job."""
    found = [workspace.find_job(folder.name) for folder in (workspace.folder / "jobs").glob("[!.]*")]
    return [status.state for status in found if status]


def _plan(before: Asset, options: FirstOptions) -> Plan:
    return Plan(
        scene=before.tags["scene"],
        capture_version="1",
        options=options,
        asset_name=f"{before.tags['scene']}-{options.STAGE}",
        kind="dataset",
        output="output",
        inputs={"input": before},
    )


@Stage
def first(before: Asset, options: FirstOptions) -> Plan:
    """Plan the first stage."""
    return _plan(before, options)


@Stage
def second(before: Asset, options: SecondOptions) -> Plan:
    """Plan the second stage."""
    return _plan(before, options)


async def _capture(scene: str, root: Path) -> tuple[LocalWorkspace, Asset]:
    workspace = chain_workspace(root)
    return workspace, await asyncio.to_thread(capture, workspace, scene)


@flow(name="chain", flow_run_name="{scene}")
@with_plain_ends
async def chain(scene: str, root: Path, seconds: float = 1.0) -> Asset:
    """Run two stages, each a job of some seconds."""
    workspace, capture = await _capture(scene, root)
    made = await first(workspace, capture, FirstOptions(seconds=seconds))
    result: Asset = await second(workspace, made, SecondOptions(seconds=seconds))
    return result


@flow(name="one", flow_run_name="{scene}")
@with_plain_ends
async def one(scene: str, root: Path, seconds: float = 1.0) -> Asset:
    """Run one stage."""
    workspace, capture = await _capture(scene, root)
    result: Asset = await first(workspace, capture, FirstOptions(seconds=seconds))
    return result
