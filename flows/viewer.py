"""Look at a scene while it trains, or afterwards: `python -m flows.viewer --scene facade`."""

from __future__ import annotations

import asyncio
import signal
import sys
import webbrowser

from pydantic import BaseModel, Field

import tasks
from flows._command import parse_command, say_errors
from jobs.options import SceneName


class Viewer(BaseModel):
    """Open nerfstudio's viewer: of the training that runs, else of a registered model."""

    scene: SceneName = Field(description="the scene's name")
    model_version: str | None = Field(None, description="of a registered model: in full, or a capture version")
    workspace: str = Field("local", description="local, or a saved block as <block type>/<name>")
    port: int = Field(7007, ge=1, le=65535, description="of this machine, for a registered model")
    browser: bool = Field(True, description="open the browser, too")


def view(given: Viewer) -> None:
    """Say where the viewer is, open it, and serve it until Ctrl-C.

    Raises:
        RebelNerfError: there is neither a training that runs nor a model, or the viewer cannot be served.
    """
    place = asyncio.run(tasks.open_workspace(given.workspace))
    if given.model_version is None and (running := tasks.running_page(place, given.scene)):
        job, page = running
        *commands, link = place.reach(job, page.port).splitlines()
        print(f"{job} is training.")
        for command in commands:
            print(f"Run this and leave it running:\n\n    {command}\n")
        print(f"Look at {link}")
        if given.browser and not commands:
            webbrowser.open(link)
        return
    model = tasks.find_registered_model(place, given.scene, given.model_version)
    dataset = tasks.find_registered_dataset(place, given.scene, None, model)
    print(f"Opening {model} …")
    with tasks.served_page(place, dataset, model, given.port) as serving:
        link = f"http://localhost:{given.port}"
        print(f"Look at {link}; Ctrl-C ends it.", flush=True)
        if given.browser:
            webbrowser.open(link)
        assert serving.stdout
        for _ in serving.stdout:  # what the viewer prints is of no interest, but must go somewhere
            pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending what was started
    with say_errors():
        view(parse_command(Viewer, sys.argv[1:]))
