"""Render another video of a registered model: `python -m flows.render --scene facade`, or `render/scene`."""

from __future__ import annotations

import sys

from prefect import flow

import tasks
from blocks import Asset
from flows._ends import with_plain_ends
from jobs.names import SceneName
from jobs.options import Layout, RenderOptions, Shards
from jobs.profiles import Profile


@flow(name="render", flow_run_name="{scene}")
@with_plain_ends
async def render(
    scene: SceneName,
    model_version: str | int | None = None,
    data_version: str | int | None = None,
    workspace: str = "local",
    profile: Profile = "auto",
    render: RenderOptions = RenderOptions(),
    shards: Shards = 1,
    then: str | int | None = None,
    layout: Layout = "side-by-side",
) -> Asset:
    """Render a camera path with a registered model of a scene. Nothing is prepared or trained.

    Args:
        scene: the scene's name.
        model_version: the model's number (3) or its full version (2-0a1b2c3d). Defaults to the pinned model, else to
            the newest good one.
        data_version: a capture version (2), for its newest dataset, or the dataset's full version. Defaults to the
            dataset that the model was trained on.
        workspace: where the jobs run: "local", or a saved block as BLOCK-TYPE/NAME.
        profile: full, preview, or auto. auto is full if jobs get a CUDA GPU, else preview.
        render: options of the video, including the camera path.
        shards: how many jobs render the video at the same time. The video is the same.
        then: an older visit to show beside this one on the same path, and to list the changes since: a capture
            version (1), for its newest model, or a model's full version.
        layout: how both visits are shown: side-by-side, or wipe, a line that moves across.

    Raises:
        RebelNerfError: says what went wrong, and what to do.
    """
    ws = await tasks.open_workspace(workspace)
    special = tasks.special_words(profile, render)
    profile = await tasks.resolve_profile(ws, profile)
    shot = await tasks.find_shot(scene, render, profile, shards)
    model = await tasks.find_model(ws, scene, model_version)
    dataset = await tasks.find_dataset(ws, scene, data_version, model)
    compared = f"compared with {then}" if then else ""
    name = f"video of model {model.number or model.version}"
    await tasks.label_run(scene, workspace, model.version, name, *special, compared)
    older = await tasks.find_older_visit(ws, scene, then)
    tasks.check_other_model(scene, older, model)
    tasks.check_same_frame(scene, older, dataset)
    shot = await tasks.fit_shot(ws, scene, dataset, shot, model)
    visit = tasks.Visit(dataset, model)
    video = await tasks.render_in_shards(ws, visit, shot, shards)
    changes = await tasks.find_changes(ws, older, visit)
    videos = [video, *await tasks.then_and_now(ws, video, older, shot, layout, shards, changes)]
    versions = await tasks.show_quality(ws, scene, model)
    pages = await tasks.publish_page(ws, dataset, model, video, versions)
    await tasks.refresh_scene_page(ws, scene)
    await tasks.summarize(ws, scene, dataset, model, *videos, *changes, *pages)
    return videos[-1]


if __name__ == "__main__":
    from commands.shell.run import run_as_command

    run_as_command(render, sys.argv[1:], ("render", "page"))
