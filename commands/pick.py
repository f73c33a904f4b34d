"""Make the page for measuring and for picking known lengths in photos: `rebel-nerf pick --scene facade`."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

from pydantic import BaseModel, Field

import tasks
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.metric.picking import picking_page
from jobs.names import SceneName
from jobs.program import typed


class Pick(BaseModel):
    """Write and open a page to measure in the photos of a scene, and to pick known lengths in them."""

    scene: SceneName = Field(description="the scene's name")
    output: Path | None = Field(None, description="file to write; by default, SCENE-pick.html")
    model_version: str | None = Field(
        None, description="show the photos of this model: its number (3) or its full version (2-0a1b2c3d)"
    )
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    browser: bool = Field(True, description="open the browser, too")


def write(options: Pick) -> None:
    """Write and open the page.

    Raises:
        RebelNerfError: there is no such scene, its dataset is damaged, or the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    model = tasks.find_registered_model(workspace, options.scene, options.model_version)
    dataset = tasks.find_registered_dataset(workspace, options.scene, None, model)
    file = (options.output or Path(f"{options.scene}-pick.html")).expanduser()
    metres = tasks.read_metres(workspace, dataset)
    page = picking_page(options.scene, workspace.fetch(dataset), metres, str(dataset), tasks.scene_frame_of(dataset))
    file.write_text(page, encoding="utf-8")
    print(f"{dataset}: {file.resolve().as_uri()}")
    command = typed(f"scale --scene {options.scene} --measurements ~/Downloads/scale.json")
    print(f"Known lengths: save scale.json there, then: {command}")
    if options.browser:
        webbrowser.open(file.resolve().as_uri())


if __name__ == "__main__":
    with as_command():
        write(parse_command(Pick, sys.argv[1:]))
