"""Show what takes space in a workspace, and remove old assets: `rebel-nerf prune --remove`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic import BaseModel, Field

from blocks import Leftover, Workspace
from commands.shell.run import as_command, open_workspace, parse_command
from commands.shell.table import print_table
from jobs.errors import RebelNerfError
from jobs.names import SceneName
from jobs.program import typed
from tasks.prune import Candidate, candidates_of_scene

_DAY = 24 * 3600.0


class Prune(BaseModel):
    """Show what takes space, and what can be removed; with --remove, remove it.

    The newest versions of each asset, pinned models, captures, and everything that these were made from are kept.
    """

    scene: SceneName | None = Field(None, description="only this scene; by default, all scenes")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    keep: int = Field(2, ge=1, description="how many of the newest versions of each asset are kept")
    captures: bool = Field(False, description="also remove an old capture if the drop folder still has the same photos")
    older_days: float = Field(1.0, ge=0, description="minimum age in days of the remains of ended jobs")
    remove: bool = Field(False, description="remove what is listed; otherwise nothing is changed")


def prune(options: Prune) -> None:
    """List what can be removed and, with `remove`, remove it.

    Raises:
        RebelNerfError: the workspace cannot be reached, or something could not be removed.
    """
    workspace = open_workspace(options.workspace)
    scenes = [options.scene] if options.scene else workspace.scenes()
    candidates = {
        scene: candidates_of_scene(workspace, scene, options.keep, captures=options.captures) for scene in scenes
    }
    leftovers = [] if options.scene else workspace.leftovers(_DAY * options.older_days)
    _show_space(candidates, leftovers)
    old = [each for found in candidates.values() for each in found if not each.kept]
    show_removable(old, leftovers)
    freed = sum(each.size for each in old) + sum(each.size for each in leftovers)
    if not old and not leftovers:
        print("Nothing can be removed.")
    elif options.remove:
        remove(workspace, old, leftovers)
        print(f"Removed {size_of(freed)}.")
    else:
        print(
            f"{size_of(freed)} can be removed. Nothing was changed; {typed('prune --remove')} removes what is listed."
        )


def _show_space(candidates: dict[str, list[Candidate]], leftovers: list[Leftover]) -> None:
    def row(name: str, sizes: list[int], removable: list[int]) -> list[str]:
        return [name, str(len(sizes)), size_of(sum(sizes)), size_of(sum(removable)) if removable else ""]

    rows = [
        row(scene, [each.size for each in found], [each.size for each in found if not each.kept])
        for scene, found in candidates.items()
    ]
    left = [each.size for each in leftovers]
    print_table(("scene", "assets", "space", "can be removed"), [*rows, row("remains of jobs", left, left)])


def show_removable(old: list[Candidate], leftovers: Sequence[Leftover] = ()) -> None:
    """Print what can be removed."""
    rows = [[each.asset.title, each.asset.kind, f"{each.asset.created:%Y-%m-%d}", size_of(each.size)] for each in old]
    rows += [[each.place, each.what, "", size_of(each.size)] for each in leftovers]
    if rows:
        print_table(("can be removed", "what", "made", "space"), rows)


def remove(workspace: Workspace, old: list[Candidate], leftovers: Sequence[Leftover] = ()) -> None:
    """Remove everything. An asset that cannot be removed does not stop the others."""
    failed: list[RebelNerfError] = []
    # Newest first: an interruption leaves no asset without its inputs.
    for each in sorted(old, key=lambda candidate: candidate.asset.created, reverse=True):
        try:
            workspace.remove(each.asset)
        except RebelNerfError as error:
            failed.append(error)
    for leftover in leftovers:
        workspace.remove_leftover(leftover)
    if failed:
        raise type(failed[0])("\n".join(map(str, failed)))


def size_of(size: int) -> str:
    """Return a size with its unit, in three digits."""
    power = min((len(str(size)) - 1) // 3, 4)
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


if __name__ == "__main__":
    with as_command():
        prune(parse_command(Prune, sys.argv[1:]))
