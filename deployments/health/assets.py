"""Checks of a local workspace's assets, and their repair."""

from __future__ import annotations

from blocks import LocalWorkspace
from blocks.integrity import Damage, damaged_assets, set_aside
from deployments.health.finding import Finding
from jobs.program import typed

__all__ = ["check_assets"]


def check_assets(workspace: LocalWorkspace, *, whole: bool, repair: bool) -> Finding:
    """Look for damaged assets.

    Args:
        workspace: where they are stored.
        whole: compare checksums as well as sizes, which reads every file.
        repair: set damaged assets aside, so that the next run makes them again.
    """
    how = "checksums" if whole else "sizes"
    count = sum(1 for _ in (workspace.folder / "assets").glob("*/[!.]*/asset.json"))
    damaged = list(damaged_assets(workspace.folder, whole=whole))
    if not damaged:
        more = "" if whole else "; --whole compares checksums, too"
        return Finding.ok(f"{count} assets are intact by their {how}{more}")
    if not repair:
        lines = "\n".join(f"{each.asset}: {each.fault}" for each in damaged)
        command = typed(f"doctor --assets {'--whole ' if whole else ''}--repair")
        return Finding.wrong(lines, f"`{command}` sets them aside; nothing is deleted.")
    return Finding.warning("\n".join(map(_repaired, damaged)), "Run the scenes' flows again to make what is missing.")


def _repaired(damage: Damage) -> str:
    aside = set_aside(damage.folder)
    return f"{damage.asset}: {damage.fault}. Set aside as {aside}" if aside else f"{damage.asset}: already set aside"
