"""Save a camera path from the viewer: `rebel-nerf path --scene facade ~/Downloads/camera_path.json`."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg

import tasks
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName
from jobs.program import typed


class SavePath(BaseModel):
    """Check a camera path that was exported from the viewer, and save it under trajectories/ for the scene's videos."""

    file: CliPositionalArg[Path] = Field(description="the camera_path.json")
    scene: SceneName = Field(description="the scene's name")
    name: SceneName | None = Field(
        None, description="name of this path, if the scene has several; by default, it becomes the scene's own path"
    )
    model_version: str | None = Field(
        None,
        description="number or full version of the model that it was drawn in; by default, the one that is shown",
    )
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    anyway: bool = Field(False, description="keep it even if most of its frames show nothing that the photos saw")
    replace: bool = Field(False, description="replace another path of that name")


def save(given: SavePath) -> None:
    """Check and save a camera path, and print how to use it.

    Raises:
        RebelNerfError: the path is not valid or shows nothing of the scene, the model does not exist, or another path
            has the name.
    """
    path = tasks.read_camera_path(given.scene, given.file)
    place = open_workspace(given.workspace)
    model = tasks.find_registered_model(place, given.scene, given.model_version)
    dataset = tasks.find_registered_dataset(place, given.scene, None, model)
    doubt = tasks.check_taken_path(place, path, given.scene, model, dataset, anyway=given.anyway)
    kept = tasks.keep_camera_path(path, given.scene, given.name, model, dataset, replace=given.replace)
    print(f"{kept}: {len(path.camera_path)} frames, drawn in {model.title}.")
    if doubt:
        print(doubt)
    option = f" --render.camera-path {given.name}" if given.name else ""
    print(f"Render it with: {typed(f'render --scene {given.scene}{option}')}")


if __name__ == "__main__":
    with as_command():
        save(parse_command(SavePath, sys.argv[1:]))
