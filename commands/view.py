"""Open the viewer of a scene, during or after training: `rebel-nerf view --scene facade`."""

from __future__ import annotations

import signal
import sys
import webbrowser

from pydantic import BaseModel, Field

import tasks
from commands.shell.run import as_command, open_workspace, parse_command
from jobs.names import SceneName


class Viewer(BaseModel):
    """Open nerfstudio's viewer: that of a running training, else that of a registered model."""

    scene: SceneName = Field(description="the scene's name")
    model_version: str | None = Field(
        None,
        description="a registered model's number or full version; by default, a running training, else the one shown",
    )
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")
    port: int = Field(
        7007,
        ge=1,
        le=65535,
        description="port of this machine; ignored for a training on this machine, which chooses its own",
    )
    browser: bool = Field(True, description="open the browser, too")


def view(options: Viewer) -> None:
    """Open the connection to the viewer, and the browser. Keep it open until Ctrl-C or the end of the job.

    Raises:
        RebelNerfError: the scene has neither a training job nor a model, or the viewer cannot be reached or served.
    """
    workspace = open_workspace(options.workspace)
    if options.model_version is None and (running := tasks.wait_for_page(workspace, options.scene, _say)):
        _say(f"{running.job} is training.")
        with tasks.opened_page(workspace, running, options.port) as page:
            _look(options, page.link, "Ctrl-C closes the connection; the training continues." if page.tunnel else "")
            if page.tunnel:
                _say(f"{running.job} is {tasks.until_ended(workspace, running.job, page.tunnel)}.")
        return
    if options.model_version is None:
        model, remark = tasks.find_shown_model(workspace, options.scene)
        if remark:
            _say(remark)
    else:
        model = tasks.find_registered_model(workspace, options.scene, options.model_version)
    dataset = tasks.find_registered_dataset(workspace, options.scene, None, model)
    _say(f"Opening {model.title} …")
    with tasks.served_page(workspace, dataset, model, options.port) as printed:
        _look(options, f"http://localhost:{options.port}", "Ctrl-C ends it.")
        for _ in printed:  # read its output, so that the viewer does not block
            pass


def _look(options: Viewer, link: str, more: str) -> None:
    _say(f"Look at {link} {more}".rstrip())
    if options.browser:
        webbrowser.open(link)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # end the processes that were started
    with as_command():
        view(parse_command(Viewer, sys.argv[1:]))
