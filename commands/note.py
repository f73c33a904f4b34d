"""Attach a note to a model: `rebel-nerf note --scene facade --model-version 3 "before the repaint"`."""

from __future__ import annotations

import sys

from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg

import tasks
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName
from jobs.text import printable


class Note(BaseModel):
    """Attach a note to a model; `rebel-nerf list` shows it. An empty text removes the note."""

    text: CliPositionalArg[str] = Field(description="the text of the note, in quotes")
    scene: SceneName = Field(description="the scene's name")
    model_version: str | None = Field(
        None,
        description="the model's number (3) or its full version (2-0a1b2c3d); by default, the one that is shown",
    )
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")


def note(options: Note) -> None:
    """Save the note, and print it with the model's name.

    Raises:
        RebelNerfError: there is no such model, the text is too long, or the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    model = tasks.find_registered_model(workspace, options.scene, options.model_version)
    noted = tasks.note_model(workspace, model, options.text.strip())
    tasks.update_pages(workspace, options.scene)
    print(f"{noted.title}: {printable(noted.marks.note) or 'no note'}")


if __name__ == "__main__":
    with as_command():
        note(parse_command(Note, sys.argv[1:]))
