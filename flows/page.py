"""Open a scene's page in the browser: `python -m flows.page --scene facade`."""

from __future__ import annotations

import sys
import webbrowser

from pydantic import BaseModel, Field

import tasks
from flows._command import as_command, open_workspace, parse_command
from jobs.names import asset_name
from jobs.options import SceneName


class Page(BaseModel):
    """Fetch the page of a scene's video, say where it is, and open it."""

    scene: SceneName = Field(description="the scene's name")
    version: str | None = Field(None, description="of the page: in full, or a capture version; the newest if not given")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    browser: bool = Field(True, description="open the browser, too")


def show(given: Page) -> None:
    """Fetch and open it.

    Raises:
        RebelNerfError: there is no such page, or the workspace cannot be reached.
    """
    place = open_workspace(given.workspace)
    page = tasks.find_registered(place, given.scene, asset_name(given.scene, "page"), given.version)
    file = place.fetch(page) / "index.html"
    print(f"{page}: {file}")
    if given.browser:
        webbrowser.open(file.as_uri())


if __name__ == "__main__":
    with as_command():
        show(parse_command(Page, sys.argv[1:]))
