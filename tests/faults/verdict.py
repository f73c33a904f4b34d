"""What is right after a round: nothing lost, nothing torn, nothing made twice, nothing left running."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from blocks import JobState, LocalWorkspace
from blocks.integrity import damaged_assets
from blocks.supervisor import unlocked
from tests.faults.chain import started

__all__ = ["Verdict", "all_ended", "jobs_of", "judge"]

STAGES = ("first", "second")


@dataclass(frozen=True)
class Verdict:
    """What a round led to.

    Args:
        faults: what is wrong, in words.
        starts: how often a job of each stage began.
        lost_seconds: how long jobs ran of which nothing came.
    """

    faults: tuple[str, ...]
    starts: dict[str, int]
    lost_seconds: float


def jobs_of(workspace: LocalWorkspace, stage: str = "") -> list[str]:
    """Return the names of a workspace's jobs, of one stage or of all, in order."""
    names = (folder.name for folder in (workspace.folder / "jobs").glob("[!.]*"))
    return sorted(name for name in names if not stage or name.split("-")[1] == stage)


def all_ended(workspace: LocalWorkspace) -> bool:
    """Return whether no process of any job lives."""
    return all(unlocked(workspace.folder / "jobs" / job / "alive") for job in jobs_of(workspace))


def judge(
    workspace: LocalWorkspace, scene: str, lost: Collection[JobState], *, parts: bool, forgotten: bool
) -> Verdict:
    """Compare a workspace with what is right once the last run has completed.

    Args:
        workspace: that of one round.
        scene: the round's.
        lost: how a job may have ended without a result, once at most; empty where every job must complete.
        parts: whether a writer was killed, which may leave one unfinished folder.
        forgotten: whether the end of a job may be forgotten though its result is registered.
    """
    faults: list[str] = []
    starts = {stage: started(workspace).count(stage) for stage in STAGES}
    wasted = 0.0
    for stage in STAGES:
        ended = {job: status for job in jobs_of(workspace, stage) if (status := workspace.find_job(job))}
        if parts:  # a writer was killed while it started the job's supervisor
            ended = {job: status for job, status in ended.items() if _was_begun(workspace, job)}
        states = [status.state for status in ended.values()]
        if (completed := states.count(JobState.COMPLETED)) not in ({0, 1} if forgotten else {1}):
            faults.append(f"{completed} jobs of the stage {stage} completed")
        without = [status for status in ended.values() if status.state is not JobState.COMPLETED]
        wasted += sum(status.seconds for status in without)
        faults += [
            f"job {each.name} is {each.state.value}: {each.reason}" for each in without if each.state not in lost
        ]
        if len(ended) > 1 + bool(lost):
            faults.append(f"{len(ended)} jobs of the stage {stage} were submitted")
        if starts[stage] > len(ended):
            faults.append(f"{len(ended)} jobs of the stage {stage} began {starts[stage]} times")
        faults += _torn(workspace, f"{scene}-{stage}")
    if (overlapped := workspace.folder / "overlapped").exists():
        faults.append(f"two jobs of a stage ran at once: {overlapped.read_text().split()}")
    faults += [f"damaged: {damage.asset}: {damage.fault}" for damage in damaged_assets(workspace.folder, whole=True)]
    faults += [f"set aside: {folder.name}" for folder in (workspace.folder / "assets").glob("*/.damaged-*")]
    if not all_ended(workspace):
        faults.append("a job still runs")
    left = [part for part in workspace.folder.rglob("*.part") if not _is_within_part(part)]
    if len(left) > parts:
        faults.append(f"left behind: {[str(part.relative_to(workspace.folder)) for part in left]}")
    return Verdict(tuple(faults), starts, wasted)


def _was_begun(workspace: LocalWorkspace, job: str) -> bool:
    """Return whether a job has, or had, a supervisor. Without one, it never ran."""
    return (workspace.folder / "jobs" / job / "supervised").exists()


def _torn(workspace: LocalWorkspace, name: str) -> list[str]:
    """Say what is wrong with the one asset of a stage, whose job writes one file."""
    assets = workspace.assets(name)
    if len(assets) != 1:
        return [f"{len(assets)} assets {name}"]
    folder = workspace.fetch(assets[0])
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if files != {"asset.json", "made"}:
        return [f"asset {name} has the files {sorted(files)}"]
    content = (folder / "made").read_text()
    return [] if content == "made\n" else [f"asset {name} holds {content!r}"]


def _is_within_part(part: Path) -> bool:
    return any(parent.suffix == ".part" for parent in part.parents)
