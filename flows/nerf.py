"""From a capture to a video: `python -m flows.nerf --scene facade --images photos/`, or the deployment `nerf/scene`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

import tasks
from blocks import Asset
from flows._cancellation import cancellable
from flows._command import run_as_command
from jobs.options import (
    CaptureVersion,
    Layout,
    PrepareOptions,
    Profile,
    RenderOptions,
    SceneName,
    Shards,
    TrainOptions,
)

STAGES = ("capture", "prepare", "train", "render", "page")
"""Of this flow, in their order."""


@flow(name="nerf", flow_run_name="{scene}")
@cancellable
async def nerf(
    scene: SceneName,
    version: CaptureVersion | None = None,
    images: Path | None = None,
    workspace: str = "local",
    profile: Profile = "auto",
    prepare: PrepareOptions = PrepareOptions(),
    train: TrainOptions = TrainOptions(),
    render: RenderOptions = RenderOptions(),
    shards: Shards = 1,
    then: str | int | None = None,
    layout: Layout = "side-by-side",
    refresh: list[Literal["prepare", "train", "render"]] = [],  # noqa: B006 – Prefect takes no tuple
    max_psnr_fall: Annotated[float, Field(ge=0)] | None = None,
) -> Asset:
    """Turn a capture of a scene into a dataset, a model and a video; what already stands is not made again.

    Args:
        scene: the scene's name: lower-case letters, digits and hyphens.
        version: the capture version to work on; the newest if not given.
        images: a folder of photos, or a video, to take in first as a new capture version.
        workspace: where it runs: "local", or a saved block as BLOCK-TYPE/NAME.
        profile: full, fast, preview, or auto: full where there is a CUDA GPU, else preview.
        prepare: options of the dataset.
        train: options of the model.
        render: options of the video, the camera path among them.
        shards: in how many jobs at the same time the video is rendered; it is the same video.
        then: an older visit to show beside the new one on the same path: a capture version (1), for its newest model,
            or a model's full version; left out, with a warning, where the new photos are in another frame.
        layout: how then and now are shown: side-by-side, or wipe, a line that moves across.
        refresh: stages to do anew though their result stands; what is made of them follows.
        max_psnr_fall: refuse a model whose PSNR is more than so many dB below that of the version before it, trained
            with the same options; none is refused if not given.

    Raises:
        RebelNerfError: what went wrong, and what to do about it.
    """
    place = await tasks.open_workspace(workspace)
    profile = await tasks.resolve_profile(place, profile)
    shown, path = await asyncio.to_thread(tasks.find_camera_path, scene, render, profile, shards)
    old = await tasks.find_then(place, scene, then)
    capture = await tasks.capture(place, scene, version, images, prepare)
    frames = await tasks.find_frames(place, scene)
    dataset = await tasks.prepare(place, capture, prepare.with_profile(profile), frames, refresh="prepare" in refresh)
    await tasks.tell_new_frame(scene, dataset)
    old = await tasks.leave_out_then(scene, old, dataset)
    named = render.camera_path != "auto"
    shown, path = await tasks.check_camera_path(place, scene, dataset, shown, path, named)
    gate = None if max_psnr_fall is None else tasks.psnr_gate(max_psnr_fall)
    model = await tasks.train(place, dataset, train.with_profile(profile), gate, refresh="train" in refresh)
    tasks.check_other_model(scene, old, model)
    versions = await tasks.show_quality(place, scene, model)
    video = await tasks.render_in_shards(place, dataset, model, path, shown, shards, refresh="render" in refresh)
    videos = [video, *await tasks.then_and_now(place, video, old, shown, layout, shards)]
    pages = await tasks.publish_page(place, dataset, model, video, versions)
    await tasks.summarize(place, scene, capture, dataset, model, *videos, *pages)
    return videos[-1]


if __name__ == "__main__":
    run_as_command(nerf, sys.argv[1:], STAGES)
