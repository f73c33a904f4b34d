"""Make one page of all scenes of a workspace: `rebel-nerf gallery`."""

from __future__ import annotations

import sys
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, Field

import tasks
from blocks import LocalWorkspace
from flows._command import as_command, open_workspace, parse_command
from jobs.errors import InvalidInput
from jobs.web.gallery import render

_AT_ONCE = 8


class Gallery(BaseModel):
    """Make one page of all scenes, with pictures, dates and quality, and open it."""

    to: Path | None = Field(
        None, description="the file to write; gallery.html in the folder of this machine's workspace if not given"
    )
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    browser: bool = Field(True, description="open the browser, too")


def show(given: Gallery) -> None:
    """Write the file, say where it is, and open it.

    Raises:
        RebelNerfError: the workspace cannot be reached, or the file cannot be written.
    """
    place = open_workspace(given.workspace)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        cards = list(pool.map(lambda scene: tasks.card_of(place, scene), place.scenes()))
    cards.sort(key=lambda card: card.made, reverse=True)
    file = (given.to or LocalWorkspace().folder / "gallery.html").expanduser().absolute()
    where = "the workspace of this machine" if given.workspace == tasks.LOCAL else given.workspace
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(render(cards, where, datetime.now()))
    except OSError as error:
        raise InvalidInput(f"to: {file} cannot be written ({error.strerror}). Name another file.") from error
    print(f"{len(cards)} scene{'' if len(cards) == 1 else 's'}: {file.as_uri()}")
    if given.browser:
        webbrowser.open(file.as_uri())


if __name__ == "__main__":
    with as_command():
        show(parse_command(Gallery, sys.argv[1:]))
