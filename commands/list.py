"""List the scenes of a workspace, or the versions of one: `rebel-nerf list`, `rebel-nerf list --scene facade`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, Field

import tasks
from blocks import Workspace
from commands.shell.run import as_command, open_workspace, parse_command
from commands.shell.table import print_table
from jobs.errors import NotFound
from jobs.names import SceneName, asset_name
from jobs.program import typed
from jobs.web.quality import row
from jobs.web.trials import trial

_AT_ONCE = 8
_SCENES = ("scene", "visits", "models", "shown by", "quality", "PSNR, dB", "photos registered", "newest", "note")
_VERSIONS = (
    *("", "model", "version", "made", "quality", "PSNR, dB", "SSIM", "at"),
    *("photos registered", "steps", "time", "cost", "note"),
)


class Scenes(BaseModel):
    """List the scenes of a workspace; with --scene, the versions of that scene's model."""

    scene: SceneName | None = Field(None, description="list the versions of this scene; by default, list all scenes")
    workspace: str = Field("local", description="local, or a saved block as BLOCK-TYPE/NAME")


def show(options: Scenes) -> None:
    """Print the table.

    Raises:
        RebelNerfError: there is no such scene, or the workspace cannot be reached.
    """
    workspace = open_workspace(options.workspace)
    if options.scene:
        _show_versions(workspace, options.scene)
    else:
        _show_scenes(workspace)


def _show_scenes(workspace: Workspace) -> None:
    scenes = workspace.scenes()
    if not scenes:
        print(
            f"There is no scene in {workspace.identity} yet. To start: {typed('run --scene NAME --images FOLDER')}, "
            f"or {typed('demo')}."
        )
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows, remarks = zip(*pool.map(lambda scene: _scene_row(workspace, scene), scenes), strict=True)
    print_table(_SCENES, rows)
    for remark in filter(None, remarks):
        print(remark)
    print(f"{typed('list --scene NAME')} lists the versions of a scene.")


def _scene_row(workspace: Workspace, scene: str) -> tuple[list[str], str]:
    """Return the row of a scene, and that a better model than the one shown exists; "" if none does."""
    models, visits = tasks.model_versions(workspace, scene), workspace.assets(scene)
    choice = tasks.choose(models)
    if choice is None:
        newest = max((visit.created for visit in visits), default=None)
        made = f"{newest:%Y-%m-%d %H:%M}" if newest else "–"
        return [scene, str(len(visits)), "0", "–", "–", "–", "–", made, ""], ""
    shown, marks = choice.shown.version, choice.shown.asset.marks
    cells = [
        scene,
        str(len(visits)),
        str(len(models)),
        f"model {shown.number or '–'} ({shown.version}){', pinned' if marks.pinned else ''}",
        choice.shown.grade,
        row(shown, workspace.currency)[2],
        shown.registered or "–",
        f"{models[-1].version.created:%Y-%m-%d %H:%M}",
        marks.note,
    ]
    return cells, choice.remark if choice.worse else ""


def _show_versions(workspace: Workspace, scene: str) -> None:
    models = tasks.model_versions(workspace, scene)
    choice = tasks.choose(models)
    if choice is None:
        if not workspace.assets(scene):
            raise tasks.no_such_scene(workspace, scene)
        raise NotFound(
            f"scene {scene}: it has photos in {workspace.identity}, but no {asset_name(scene, 'model')} yet. "
            f"To train one: {typed(f'run --scene {scene}')}"
        )
    rows, versions = [], [each.version for each in models]
    for each in reversed(models):
        state = "pinned" if each.asset.marks.pinned and each == choice.shown else ""
        state = state or ("shown" if each == choice.shown else "trial" if trial(versions, each.version) else "")
        _, made, psnr, ssim, _, *more = row(each.version, workspace.currency)
        number = str(each.version.number or "–")
        rows.append([state, number, each.version.version, made, each.grade, psnr, ssim, *more, each.asset.marks.note])
    print_table(_VERSIONS, rows)
    if choice.remark:
        print(choice.remark)
    print(
        f"{typed(f'pin --scene {scene} --model-version N')} shows the scene by model N; "
        f"{typed(f'page --scene {scene}')} opens its page."
    )


if __name__ == "__main__":
    with as_command():
        show(parse_command(Scenes, sys.argv[1:]))
