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


def save(options: SavePath) -> None:
    """Check and save a camera path, and print how to use it.

    Raises:
        RebelNerfError: the path is not valid or shows nothing of the scene, the model does not exist, or another path
            has the name.
    """
    path = tasks.read_camera_path(options.scene, options.file)
    workspace = open_workspace(options.workspace)
    model = tasks.find_registered_model(workspace, options.scene, options.model_version)
    dataset = tasks.find_registered_dataset(workspace, options.scene, None, model)
    doubt = tasks.check_taken_path(workspace, path, options.scene, model, dataset, anyway=options.anyway)
    kept = tasks.keep_camera_path(path, options.scene, options.name, model, dataset, replace=options.replace)
    print(f"{kept}: {len(path.camera_path)} frames, drawn in {model.title}.")
    if doubt:
        print(doubt)
    option = f" --render.camera-path {options.name}" if options.name else ""
    print(f"Render it with: {typed(f'render --scene {options.scene}{option}')}")


if __name__ == "__main__":
    with as_command():
        save(parse_command(SavePath, sys.argv[1:]))
