"""Open a scene's page in the browser: `rebel-nerf page --scene facade`."""

from __future__ import annotations

import sys
import webbrowser

from pydantic import BaseModel, Field

import tasks
from blocks import Asset, Workspace
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.errors import NotFound
from jobs.names import SceneName, asset_name
from jobs.program import typed


class Page(BaseModel):
    """Fetch and open the page of a scene: that of the pinned model, else of the newest good one."""

    scene: SceneName = Field(description="the scene's name")
    model_version: str | None = Field(
        None, description="show this model's page: its number (3) or its full version (2-0a1b2c3d)"
    )
    version: str | None = Field(None, description="version of the page itself: a full version, or a capture version")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    browser: bool = Field(True, description="open the browser, too")


def show(options: Page) -> None:
    """Fetch the page, print where it is, and open it.

    Raises:
        RebelNerfError: there is no such page, or the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    page, remark = find_page(workspace, options.scene, options.model_version, options.version)
    file = workspace.fetch(page) / "index.html"
    if remark:
        print(remark, file=sys.stderr)
    print(f"{page}: {file.as_uri()}")
    if options.browser:
        webbrowser.open(file.as_uri())


def find_page(workspace: Workspace, scene: str, model_version: str | None, version: str | None) -> tuple[Asset, str]:
    """Return the newest page of a model, or a page by its own version, and sentences about models that are not shown.

    If the model that shows the scene has no page, this is the page of the newest good model that has one.

    Raises:
        NotFound: there is no such page.
    """
    name = asset_name(scene, "page")
    if version is not None:
        return tasks.find_registered(workspace, scene, name, version), ""
    pages, remark = {page.tags.get("model", "?"): page for page in workspace.assets(name)}, ""
    if model_version is None:
        model, remark = tasks.find_shown_model(workspace, scene)
    else:
        model = tasks.find_registered_model(workspace, scene, model_version)
    if page := pages.get(str(model)):
        return page, remark
    make = f"To make one: {typed(f'render --scene {scene} --model-version {model.number or model.version}')}"
    if model_version is None and pages:
        models = {str(each.asset): each for each in tasks.model_versions(workspace, scene)}
        if other := tasks.choose([each for name, each in models.items() if name in pages]):
            remark = f"Scene {scene} is shown by {models[str(model)].title}, which has no page. {make}"
            return pages[str(other.shown.asset)], f"{remark}\nThis is the page of {other.shown.title}."
    listed = ", ".join(pages) or "none yet"
    raise NotFound(f"scene {scene}: {model.title} has no page. There are pages of {listed}. {make}")


if __name__ == "__main__":
    with as_command():
        show(parse_command(Page, sys.argv[1:]))
