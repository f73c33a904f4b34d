from __future__ import annotations

from datetime import datetime

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput
from jobs.names import asset_name
from jobs.options import CompareOptions, Layout, RenderOptions
from tasks.find import find_dataset, find_model_of_capture
from tasks.frames import frame_of
from tasks.patience import patiently
from tasks.stage import Plan, stage_task
from tasks.stages.render import render_in_shards

__all__ = ["check_other_model", "check_same_frame", "compare", "find_then", "leave_out_then", "then_and_now"]


def check_same_frame(scene: str, then: tuple[Asset, Asset] | None, now: Asset) -> None:
    """Refuse a dataset whose poses are in another frame than those of then: the same path would lead elsewhere in each.

    Args:
        scene: its name.
        then: see `find_then`.
        now: the dataset of the newer version.

    Raises:
        InvalidInput: they are not in the same frame.
    """
    if then and frame_of(then[0]) != frame_of(now):
        raise InvalidInput(
            f"scene {scene}: {then[0]} and {now} are in different frames, so no camera path shows the same in both. "
            "Prepare the newer one again with photos of places that have not changed, or compare versions that share "
            "a frame."
        )


async def leave_out_then(scene: str, then: tuple[Asset, Asset] | None, now: Asset) -> tuple[Asset, Asset] | None:
    """`then`; where `now` is in another frame, None, said loudly, in the log and as an artifact.

    For a visit that has just been taken in: its own video is made whether or not it can be compared. See
    `check_same_frame` for the arguments.
    """
    try:
        check_same_frame(scene, then, now)
    except InvalidInput as error:
        text = f"{error} Then and now are left out; {now} gets its own video."
        get_run_logger().warning("%s", text)
        await acreate_markdown_artifact(f"**{text}**", key=f"{scene}-then", description=f"To be known about {scene}")
        return None
    return then


def check_other_model(scene: str, then: tuple[Asset, Asset] | None, now: Asset) -> None:
    """Refuse to compare a model with itself.

    Raises:
        InvalidInput: the older model is the newer one.
    """
    if then and str(then[1]) == str(now):
        raise InvalidInput(f"scene {scene}: then and now are the same model, {now}. Name the older one in full.")


async def find_then(workspace: Workspace, scene: str, version: str | int | None) -> tuple[Asset, Asset] | None:
    """Find the dataset and the model of an older visit, by its capture version or the model's full version.

    Returns None if no version is given.

    Raises:
        NotFound: there is no such model, or its dataset is gone.
    """
    if version is None:
        return None
    model = await find_model_of_capture(workspace, scene, version)
    return await find_dataset(workspace, scene, None, model), model


async def then_and_now(
    workspace: Workspace,
    video: Asset,
    then: tuple[Asset, Asset] | None,
    options: RenderOptions,
    layout: Layout,
    shards: int,
) -> list[Asset]:
    """What a video shows, with an older model, and both as one video.

    Args:
        workspace: where all of it lies.
        video: of the newer model; the camera path is read from it, so that a generated one is the same.
        then: the older model's dataset, and that model; None where none was asked for.
        options: with which the video was rendered.
        layout: how the two are shown.
        shards: see `render_in_shards`.

    Returns:
        The older model's video, and the one of both; nothing where none was asked for.
    """
    if then is None:
        return []
    path = CameraPath.model_validate_json(await patiently(lambda: workspace.read(video, "camera_path.json")))
    only_colours = options.model_copy(update={"outputs": (), "png_frames": False})
    before = await render_in_shards(workspace, *then, path, only_colours, shards)
    labels = await patiently(lambda: [_label(workspace, each) for each in (before, video)])
    shown = CompareOptions(layout=layout, then_label=labels[0], now_label=labels[1])
    both = await compare(workspace, before, video, shown)
    return [before, both]


def _label(workspace: Workspace, video: Asset) -> str:
    """A version and its day: of the capture, else of the video itself."""
    scene, version = video.tags["scene"], video.tags["capture_version"]
    capture = workspace.find_asset(scene, version)
    day: datetime = (capture or video).created
    return f"version {version}, {day:%Y-%m-%d}"


@stage_task
def compare(then: Asset, now: Asset, options: CompareOptions) -> Plan:
    """Two videos of the same camera path to one that shows both."""
    scene = now.tags["scene"]
    return Plan(
        scene=scene,
        capture_version=now.tags["capture_version"],
        options=options,
        asset_name=asset_name(scene, "comparison"),
        kind="video",
        output="video",
        must_have=("video.mp4", "video.json"),
        inputs={"then": then, "now": now},
        tier="cpu",
        time_limit=3 * 3600,
    )
