"""Choose the model that a scene is shown by: `rebel-nerf pin --scene facade --model-version 3`."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import Self

from pydantic import BaseModel, Field, model_validator

import tasks
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName


class Pin(BaseModel):
    """Show a scene by one model, whatever is trained later. With --off, show it by its newest good model again."""

    scene: SceneName = Field(description="the scene's name")
    model_version: str | None = Field(None, description="the model's number (3) or its full version (2-0a1b2c3d)")
    off: bool = Field(False, description="remove the pin")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.off == (self.model_version is not None):
            raise ValueError("give either --model-version or --off")
        return self


def pin(options: Pin) -> None:
    """Pin the model, remove other pins of the scene, and print which model shows it.

    Raises:
        RebelNerfError: there is no such model, or the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    wanted = (
        tasks.find_registered_model(workspace, options.scene, options.model_version) if options.model_version else None
    )
    if wanted:  # first, so that a pinned scene stays pinned if this is interrupted
        wanted = tasks.pin_model(workspace, wanted, datetime.now(timezone.utc))
    for each in tasks.model_versions(workspace, options.scene):
        if each.asset.marks.pinned and str(each.asset) != str(wanted):
            tasks.pin_model(workspace, each.asset, None)
    tasks.update_pages(workspace, options.scene)
    choice = tasks.choose(tasks.model_versions(workspace, options.scene))
    if choice:
        pinned = ", which is pinned" if choice.shown.asset.marks.pinned else ", its newest good one"
        print(choice.remark or f"Scene {options.scene} is shown by {choice.shown.title}{pinned}.")


if __name__ == "__main__":
    with as_command():
        pin(parse_command(Pin, sys.argv[1:]))
