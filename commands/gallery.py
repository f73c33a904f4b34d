"""Make one page of all scenes of a workspace, and a page for each scene: `rebel-nerf gallery`."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

from pydantic import BaseModel, Field

import tasks
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName


class Gallery(BaseModel):
    """Make one page of all scenes, and for each scene a page with all its videos and versions. Open it."""

    scene: SceneName | None = Field(None, description="open the page of this scene; by default, the page of all scenes")
    to: Path | None = Field(
        None,
        description="file to write; the pages of the scenes go into the folder beside it; by default, gallery.html in "
        "the folder of this machine's workspace",
    )
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    browser: bool = Field(True, description="open the browser, too")


def show(options: Gallery) -> None:
    """Write the files, print where they are, and open one.

    Raises:
        RebelNerfError: the workspace cannot be reached, there is no such scene, or a file cannot be written.
    """
    workspace = open_workspace(options.workspace)
    file = (options.to or tasks.gallery_file(workspace)).expanduser().absolute()
    if options.scene:
        if options.scene not in workspace.scenes():
            raise tasks.no_such_scene(workspace, options.scene)
        file = tasks.write_scene_page(workspace, options.scene, file)
        print(f"{options.scene}: {file.as_uri()}")
    else:
        number = tasks.write_gallery(workspace, file)
        print(f"{number} scene{'' if number == 1 else 's'}: {file.as_uri()}")
    if options.browser:
        webbrowser.open(file.as_uri())


if __name__ == "__main__":
    with as_command():
        show(parse_command(Gallery, sys.argv[1:]))
