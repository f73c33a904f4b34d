"""Remove a model or a whole scene: `rebel-nerf rm --scene facade --model-version 3 --remove`."""

from __future__ import annotations

import sys

from pydantic import BaseModel, Field

import tasks
from blocks import Workspace
from commands.prune import remove, show_removable, size_of
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName
from jobs.program import typed
from tasks.prune import candidates_of_model, candidates_of_whole_scene


class Remove(BaseModel):
    """Show what belongs to a scene, or was made from one model of it; with --remove, remove it.

    Without --model-version, that is the whole scene: datasets, models, videos, pages and exports. A capture is removed
    if the drop folder still has the same photos; with --captures, even if it is their only copy. With --model-version,
    it is the model with its videos, pages and exports. A pinned model cannot be removed, and neither can one that
    another was trained from.
    """

    scene: SceneName = Field(description="the scene's name")
    model_version: str | None = Field(
        None, description="the model's number (3) or its full version (2-0a1b2c3d); by default, the whole scene"
    )
    captures: bool = Field(False, description="also remove captures that are the only copy of their photos")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    remove: bool = Field(False, description="remove what is listed; otherwise nothing is changed")


def remove_from_scene(options: Remove) -> None:
    """List what would be removed and, with `remove`, remove it. Then bring the pages of this machine up to date.

    Raises:
        RebelNerfError: there is no such scene or model, it cannot be removed, or the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    if options.model_version is None:
        found = candidates_of_whole_scene(workspace, options.scene, captures=options.captures)
    else:
        found = candidates_of_model(
            workspace, options.scene, tasks.find_registered_model(workspace, options.scene, options.model_version)
        )
    removable = [each for each in found if not each.kept]
    show_removable(removable)
    for each in found:
        if each.kept:
            print(f"{each.asset.title} is kept: it is {each.kept}. --captures removes it, too.")
    if options.model_version is None:
        _name_what_stays(workspace, options.scene)
    size = size_of(sum(each.size for each in removable))
    if not removable:
        print("Nothing can be removed.")
    elif options.remove:
        remove(workspace, removable)
        tasks.update_pages(workspace, options.scene)
        print(f"Removed {size}.")
    else:
        print(f"{size} can be removed. Nothing was changed; {_again(options)} removes what is listed.")


def _name_what_stays(workspace: Workspace, scene: str) -> None:
    """Say that the drop folder is left alone, if it has photos."""
    if any(dropped.files for dropped in workspace.dropped(scene)):
        print(
            f"The photos in captures/{scene}/ of the workspace stay. A schedule or a run makes the scene from them "
            "again; move them away if you do not want that."
        )


def _again(options: Remove) -> str:
    words = f"rm --scene {options.scene}"
    words += f" --model-version {options.model_version}" if options.model_version else ""
    words += " --captures" if options.captures else ""
    words += f" --workspace {options.workspace}" if options.workspace != tasks.LOCAL else ""
    return typed(f"{words} --remove")


if __name__ == "__main__":
    with as_command():
        remove_from_scene(parse_command(Remove, sys.argv[1:]))
