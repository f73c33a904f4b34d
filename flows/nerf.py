"""Turn a capture into a video: `python -m flows.nerf --scene facade --images photos/`, or `nerf/scene`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

import tasks
from blocks import Asset
from flows._ends import with_plain_ends
from jobs.names import SceneName
from jobs.options import CaptureVersion, Images, Layout, PrepareOptions, RenderOptions, Shards, TrainOptions
from jobs.profiles import Profile

STAGES = ("capture", "prepare", "train", "render", "page")
"""The stages of this flow, in their order."""


@flow(name="nerf", flow_run_name="{scene}")
@with_plain_ends
async def nerf(
    scene: SceneName,
    images: Images = "",
    workspace: str = "local",
    profile: Profile = "auto",
    export: bool = False,
    version: CaptureVersion | None = None,
    then: str | int | None = None,
    layout: Layout = "side-by-side",
    refresh: list[Literal["prepare", "train", "render"]] = [],  # noqa: B006 – Prefect takes no tuple
    max_psnr_fall: Annotated[float, Field(ge=0)] | None = None,
    shards: Shards = 1,
    prepare: PrepareOptions | None = None,
    train: TrainOptions | None = None,
    render: RenderOptions | None = None,
) -> Asset:
    """Turn a capture of a scene into a dataset, a model and a video. Results that exist are used again.

    Args:
        scene: the scene's name: lower-case letters, digits and hyphens.
        images: a folder of photos, or a video, to register first as a new capture version.
        workspace: where the jobs run: "local", or a saved block as BLOCK-TYPE/NAME.
        profile: full, preview, or auto. auto is full if jobs get a CUDA GPU, else preview.
        export: also export the model to files for other programs, and show the scene in 3D on its page.
        version: the capture version to work on. Defaults to the newest.
        then: an older visit to show beside the new one on the same path, and to list the changes since: a capture
            version (1), for its newest model, or a model's full version. If the new photos are in another scene frame,
            there is a warning instead.
        layout: how both visits are shown: side-by-side, or wipe, a line that moves across.
        refresh: stages to run again although their results exist. Later stages follow.
        max_psnr_fall: refuse a model if its PSNR is more than this many dB below that of the previous version with
            the same options. What training starts from (train.start) may differ. By default no model is refused.
        shards: how many jobs render the video at the same time. The video is the same.
        prepare: options of the dataset. Defaults to those of the profile.
        train: options of the model. Defaults to those of the profile.
        render: options of the video, including the camera path. Defaults to those of the profile.

    Raises:
        RebelNerfError: says what went wrong, and what to do.
    """
    # None, so that Prefect's form shows these groups folded.
    prepare, train, render = prepare or PrepareOptions(), train or TrainOptions(), render or RenderOptions()
    ws = await tasks.open_workspace(workspace)
    special = tasks.special_words(profile, prepare, train, render)
    profile = await tasks.resolve_profile(ws, profile)
    shot = await tasks.find_shot(scene, render, profile, shards)
    older = await tasks.find_older_visit(ws, scene, then)
    photos = Path(images) if images else None
    given = await tasks.read_measurements(ws, scene, version, photos)

    capture = await tasks.capture(ws, scene, version, photos, prepare)
    compared = f"compared with {then}" if then else ""
    chosen = f"version {version}" if version else ""
    again = [f"{stage} again" for stage in refresh]
    await tasks.label_run(scene, workspace, capture.version, chosen, *special, compared, *again)

    scene_frames = await tasks.find_scene_frames(ws, scene)
    preparing = tasks.prepare.with_options(refresh="prepare" in refresh)
    dataset = await preparing(ws, capture, prepare.with_profile(profile), scene_frames)
    await tasks.warn_of_new_scene_frame(scene, dataset)
    older = await tasks.keep_comparable(scene, older, dataset)
    shot = await tasks.fit_shot(ws, scene, dataset, shot)
    metres = await tasks.measure_scene(ws, dataset, given)

    train = train.with_profile(profile)
    gate = None if max_psnr_fall is None else tasks.psnr_gate(max_psnr_fall, train)
    earlier = await tasks.find_start(ws, dataset, train)
    model = await tasks.train.with_options(refresh="train" in refresh)(ws, dataset, train, gate, earlier)
    tasks.check_other_model(scene, older, model)
    versions = await tasks.show_quality(ws, scene, model)

    visit = tasks.Visit(dataset, model)
    video = await tasks.render_in_shards(ws, visit, shot, shards, refresh="render" in refresh)
    changes = await tasks.find_changes(ws, older, visit)
    videos = [video, *await tasks.then_and_now(ws, video, older, shot, layout, shards, changes)]

    exported = await tasks.export_for_page(ws, dataset, model, profile) if export else []
    pages = await tasks.publish_page(ws, dataset, model, video, versions, *exported)
    await tasks.refresh_scene_page(ws, scene)
    await tasks.summarize(ws, scene, capture, dataset, *metres, model, *videos, *changes, *exported, *pages)
    return videos[-1]


if __name__ == "__main__":
    from commands.shell.run import run_as_command

    run_as_command(nerf, sys.argv[1:], STAGES)
