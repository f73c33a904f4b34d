"""Show what scenes cost: `rebel-nerf costs`, `rebel-nerf costs --scene facade`, `rebel-nerf costs --month 2026-11`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone

from pydantic import BaseModel, Field

from blocks import Workspace
from commands.shell.run import as_command, open_workspace, parse_command
from commands.shell.table import print_table
from jobs.names import SceneName
from jobs.web.quality import hundredths, money
from tasks.costs import MonthOfScene, Work, costs, month_of, spent_in

_COLUMNS = (
    "month",
    "scene",
    "runs",
    "GPU h",
    "CPU h",
    "cost",
    "lost, GPU h",
    "lost, cost",
    "saved, GPU h",
    "saved, cost",
)


class Costs(BaseModel):
    """Show the machine time and the cost of each scene's results, by month."""

    scene: SceneName | None = Field(None, description="only this scene; by default, all scenes")
    month: str | None = Field(None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="only this month, as in 2026-11")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")


def show(options: Costs) -> None:
    """Print the table and the use of the budget.

    Raises:
        RebelNerfError: the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    found = costs(workspace, [options.scene] if options.scene else workspace.scenes())
    rows = [row for row in found if options.month in (None, row.month)]
    if rows:
        print_table(_COLUMNS, [*(_row(workspace, each) for each in rows), _sum(workspace, rows)])
        print(
            "GPU h: jobs that use a GPU if there is one. saved: results that were used again. "
            "lost: jobs that failed or were cancelled, or whose result was removed."
        )
    else:
        of, when = f" of {options.scene}" if options.scene else "", f" of {options.month}" if options.month else ""
        print(f"There is nothing{of}{when} in {workspace.identity}.")
    print(_budget(workspace))


def _row(workspace: Workspace, each: MonthOfScene) -> list[str]:
    return [each.month, each.scene, str(each.runs), *_figures(workspace, each.made, each.lost, each.saved)]


def _sum(workspace: Workspace, rows: Sequence[MonthOfScene]) -> list[str]:
    made = sum((each.made for each in rows), Work())
    lost = sum((each.lost for each in rows), Work())
    saved = sum((each.saved for each in rows), Work())
    return ["all", "", str(sum(each.runs for each in rows)), *_figures(workspace, made, lost, saved)]


def _figures(workspace: Workspace, made: Work, lost: Work, saved: Work) -> list[str]:
    def hours(seconds: float) -> str:
        return hundredths(seconds / 3600) if seconds else "–"

    def cost(work: Work) -> str:
        return money(work.cost, workspace.currency) if work.gpu or work.cpu else "–"

    return [
        *(hours(made.gpu), hours(made.cpu), cost(made)),
        *(hours(lost.gpu), cost(lost)),
        *(hours(saved.gpu), cost(saved)),
    ]


def _budget(workspace: Workspace) -> str:
    """Return how much of this month's limit is used, for people."""
    most, month = workspace.max_cost_per_month, month_of(datetime.now(timezone.utc))
    if most is None:
        if workspace.max_cost_per_run is None:
            return "No limit on costs is set (max_cost_per_month and max_cost_per_run of the workspace's block)."
        return f"No limit for a month is set; a run may cost {money(workspace.max_cost_per_run, workspace.currency)}."
    spent = spent_in(workspace, month)
    share = f", {100 * spent / most:.0f} %" if most else ""
    return (
        f"Budget of {month}: {money(spent, workspace.currency)} of {money(most, workspace.currency)}{share}, "
        "including the expected cost of running jobs."
    )


if __name__ == "__main__":
    with as_command():
        show(parse_command(Costs, sys.argv[1:]))
