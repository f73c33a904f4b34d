"""Another video of a model that stands: `python -m flows.render --scene facade`, or the deployment `render/scene`."""

from __future__ import annotations

import asyncio
import sys

from prefect import flow

import tasks
from blocks import Asset
from flows._cancellation import cancellable
from flows._command import run_as_command
from jobs.options import Layout, Profile, RenderOptions, SceneName, Shards


@flow(name="render", flow_run_name="{scene}")
@cancellable
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
    """Render a camera path with a registered model of a scene; nothing is prepared or trained.

    Args:
        scene: the scene's name.
        model_version: the model's number (3) or its full version (2-0a1b2c3d); if not given, the pinned one, else the
            newest good one.
        data_version: a capture version (2), for its newest dataset, or the dataset's full version; the one that the
            model was trained on if not given.
        workspace: where it runs: "local", or a saved block as BLOCK-TYPE/NAME.
        profile: full, fast, preview, or auto: full where there is a CUDA GPU, else preview.
        render: options of the video, the camera path among them.
        shards: in how many jobs at the same time the video is rendered; it is the same video.
        then: an older visit to show beside this one on the same path: a capture version (1), for its newest model, or
            a model's full version.
        layout: how then and now are shown: side-by-side, or wipe, a line that moves across.

    Raises:
        RebelNerfError: what went wrong, and what to do about it.
    """
    place = await tasks.open_workspace(workspace)
    profile = await tasks.resolve_profile(place, profile)
    shown, path = await asyncio.to_thread(tasks.find_camera_path, scene, render, profile, shards)
    model = await tasks.find_model(place, scene, model_version)
    dataset = await tasks.find_dataset(place, scene, data_version, model)
    old = await tasks.find_then(place, scene, then)
    tasks.check_other_model(scene, old, model)
    tasks.check_same_frame(scene, old, dataset)
    named = render.camera_path != "auto"
    shown, path = await tasks.check_camera_path(place, scene, dataset, shown, path, named, model)
    video = await tasks.render_in_shards(place, dataset, model, path, shown, shards)
    videos = [video, *await tasks.then_and_now(place, video, old, shown, layout, shards)]
    versions = await tasks.show_quality(place, scene, model)
    pages = await tasks.publish_page(place, dataset, model, video, versions)
    await tasks.summarize(place, scene, dataset, model, *videos, *pages)
    return videos[-1]


if __name__ == "__main__":
    run_as_command(render, sys.argv[1:], ("render", "page"))
