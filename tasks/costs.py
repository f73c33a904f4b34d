"""Sum up the machine time and cost of each scene's results by month, from assets and recorded expenses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from blocks import Asset, Expense, Workspace
from blocks.provenance import is_reference
from jobs.names import SUFFIXES, asset_name

__all__ = ["MonthOfScene", "Work", "costs", "month_of", "spent_in"]


@dataclass(frozen=True)
class Work:
    """How long machines worked, and what it cost.

    Args:
        gpu, cpu: seconds.
        cost: in the workspace's currency; None if a price is unknown.
    """

    gpu: float = 0.0
    cpu: float = 0.0
    cost: float | None = 0.0

    @classmethod
    def of(cls, tier: str, seconds: float, cost: float | None) -> Work:
        """Return the work of one job."""
        return cls(gpu=seconds, cost=cost) if tier == "gpu" else cls(cpu=seconds, cost=cost)

    def __add__(self, other: Work) -> Work:
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Work(self.gpu + other.gpu, self.cpu + other.cpu, cost)


@dataclass(frozen=True)
class MonthOfScene:
    """What happened to a scene in a calendar month, in UTC.

    Args:
        month: as in "2026-11".
        scene: its name.
        runs: how many flow runs registered something, or submitted a job while there was a limit on costs.
        made: the work for what they registered, including failed attempts.
        lost: the work of jobs that failed or were cancelled, or whose result was removed. It is known only while there
            is a limit on costs.
        saved: the work for results of earlier runs that these runs used again.
    """

    month: str
    scene: str
    runs: int
    made: Work
    lost: Work
    saved: Work


def costs(workspace: Workspace, scenes: Sequence[str]) -> list[MonthOfScene]:
    """Return the work for each scene in each month, oldest first. Blocks.

    Times come from the assets' tags, and prices are today's. Removed assets are not counted, except in months with a
    limit on costs: these have a record of all jobs, at the prices of their time.
    """
    by_scene = {scene: _assets(workspace, scene) for scene in scenes}
    begun = min((month_of(asset.created) for assets in by_scene.values() for asset in assets), default="")
    record = [each for month in _months_since(begun) for each in workspace.expenses(month)]
    found = [
        row
        for scene, assets in by_scene.items()
        for row in _months(workspace, scene, assets, [each for each in record if each.scene == scene])
    ]
    return sorted(found, key=lambda row: (row.month, row.scene))


def spent_in(workspace: Workspace, month: str) -> float:
    """Return the real and expected costs of a month's jobs, from the record on which limits are based. Blocks."""
    return sum(expense.cost for expense in workspace.expenses(month))


def month_of(when: datetime) -> str:
    """Return the calendar month, in UTC, of a time."""
    return f"{when.astimezone(timezone.utc):%Y-%m}"


def _assets(workspace: Workspace, scene: str) -> list[Asset]:
    names = [asset_name(scene, product) for product in SUFFIXES]
    return [asset for name in names for asset in (*workspace.assets(name), *workspace.archived(name))]


def _months(
    workspace: Workspace, scene: str, assets: Sequence[Asset], record: Iterable[Expense]
) -> Iterable[MonthOfScene]:
    made: defaultdict[str, Work] = defaultdict(Work)
    lost: defaultdict[str, Work] = defaultdict(Work)
    saved: defaultdict[str, Work] = defaultdict(Work)
    runs: defaultdict[str, set[str]] = defaultdict(set)
    for asset in assets:
        month = month_of(asset.created)
        made[month] += _work_of(workspace, asset)
        runs[month].add(asset.provenance.flow_run or str(asset))
    for month, used in _used_again(assets):
        saved[month] += _work_of(workspace, used)
    registered = {_family(asset.provenance.job) for asset in assets if asset.provenance.job}
    for expense in record:
        runs[expense.month].add(expense.run)
        if expense.seconds is not None and _family(expense.job) not in registered:
            lost[expense.month] += Work.of(expense.tier, expense.seconds, expense.cost)
    for month in runs.keys() | saved.keys():
        yield MonthOfScene(month, scene, len(runs[month]), made[month], lost[month], saved[month])


def _work_of(workspace: Workspace, asset: Asset) -> Work:
    """Return the work of the jobs that made an asset, without its parts, which are counted as assets themselves."""
    known = asset.provenance
    if not known.job_seconds:
        return Work()
    tier = known.tier or "cpu"
    price = workspace.price_per_hour(tier)
    return Work.of(tier, known.job_seconds, None if price is None else price * known.job_seconds / 3600)


def _used_again(assets: Sequence[Asset]) -> Iterable[tuple[str, Asset]]:
    """Yield each asset that a later run used without making it, once per run, with that run's month."""
    known = {str(asset): asset for asset in assets}
    seen: set[tuple[str, str]] = set()
    for user in assets:
        run = user.provenance.flow_run
        for name, value in user.provenance.inputs.items():
            used = known.get(value)
            if not run or not used or is_reference(name) or used.provenance.flow_run in (run, None):
                continue
            if (run, value) not in seen:
                seen.add((run, value))
                yield month_of(user.created), used


def _family(job: str) -> str:
    """Return what all attempts at the same result share."""
    return job.rpartition("-")[0]


def _months_since(first: str) -> list[str]:
    """Return the months from the first one to this one."""
    now = datetime.now(timezone.utc)
    year, month = map(int, (first or f"{now:%Y-%m}").split("-"))
    found = []
    while (year, month) <= (now.year, now.month):
        found.append(f"{year:04}-{month:02}")
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return found
