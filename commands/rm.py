"""Remove a model and what was made from it: `rebel-nerf rm --scene facade --model-version 3 --remove`."""

from __future__ import annotations

import sys

from pydantic import BaseModel, Field

import tasks
from blocks import LocalWorkspace
from commands.prune import remove, show_removable, size_of
from commands.shell.program import typed
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName
from tasks.prune import judge_model


class Remove(BaseModel):
    """Show a model, and the videos, pages and exports that were made from it; with --remove, remove them.

    Photos and datasets are kept. A pinned model, and one that another was trained from, cannot be removed.
    """

    scene: SceneName = Field(description="the scene's name")
    model_version: str = Field(description="the model's number (3) or its full version (2-0a1b2c3d)")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    remove: bool = Field(False, description="remove what is listed; otherwise nothing is changed")


def remove_model(given: Remove) -> None:
    """List what would be removed and, with `remove`, remove it. Then bring the scene's page up to date.

    Raises:
        RebelNerfError: there is no such model, it cannot be removed, or the workspace cannot be reached.
    """
    place = open_workspace(given.workspace)
    model = tasks.find_registered_model(place, given.scene, given.model_version)
    found = judge_model(place, given.scene, model)
    show_removable(found)
    size = size_of(sum(each.size for each in found))
    if not given.remove:
        words = f"rm --scene {given.scene} --model-version {model.number or model.version} --remove"
        print(f"{size} can be removed. Nothing was changed; {typed(words)} removes what is listed.")
        return
    remove(place, found)
    if isinstance(place, LocalWorkspace):
        tasks.write_scene_page(place, given.scene, tasks.gallery_file(place))
    print(f"Removed {size}.")


if __name__ == "__main__":
    with as_command():
        remove_model(parse_command(Remove, sys.argv[1:]))
