"""Show an older visit beside a newer one, on the same camera path."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput
from jobs.names import asset_name
from jobs.options import CompareOptions, Layout
from tasks.find import find_dataset, find_model_of_capture
from tasks.patience import patiently
from tasks.scene_frame import scene_frame_of
from tasks.shot import Shot
from tasks.stage import Plan, Stage
from tasks.stages.render import render_in_shards
from tasks.visit import Visit

__all__ = [
    "check_other_model",
    "check_same_frame",
    "compare",
    "find_older_visit",
    "keep_comparable",
    "then_and_now",
]


def check_same_frame(scene: str, older: Visit | None, now: Asset) -> None:
    """Refuse a dataset in another scene frame than the older visit's: a path would show something else in each.

    Args:
        scene: the scene's name.
        older: see `find_older_visit`.
        now: the newer dataset.

    Raises:
        InvalidInput: they are in different scene frames.
    """
    if older and scene_frame_of(older.dataset) != scene_frame_of(now):
        raise InvalidInput(
            f"scene {scene}: {older.dataset} and {now} are in different scene frames, so no camera path shows the same "
            "in both. Prepare the newer one again with photos of places that have not changed, or compare versions in "
            "the same scene frame."
        )


async def keep_comparable(scene: str, older: Visit | None, now: Asset) -> Visit | None:
    """Return the older visit, or None with a warning if the new dataset is in another scene frame.

    A new visit gets its video even if it cannot be compared. See `check_same_frame` for the arguments.
    """
    try:
        check_same_frame(scene, older, now)
    except InvalidInput as error:
        text = f"{error} There is no comparison; {now} gets its own video."
        get_run_logger().warning("%s", text)
        await acreate_markdown_artifact(f"**{text}**", key=f"{scene}-then", description=f"A warning about {scene}")
        return None
    return older


def check_other_model(scene: str, older: Visit | None, now: Asset) -> None:
    """Refuse to compare a model with itself.

    Raises:
        InvalidInput: the older model is the newer one.
    """
    if older and str(older.model) == str(now):
        raise InvalidInput(
            f"scene {scene}: then and now are the same model, {now}. Give the full version of an older model as `then`."
        )


async def find_older_visit(workspace: Workspace, scene: str, version: str | int | None) -> Visit | None:
    """Find the dataset and the model of an older visit, by its capture version or the model's full version.

    Returns None if no version is given.

    Raises:
        NotFound: the model or its dataset does not exist.
    """
    if version is None:
        return None
    model = await find_model_of_capture(workspace, scene, version)
    return Visit(await find_dataset(workspace, scene, None, model), model)


async def then_and_now(
    workspace: Workspace,
    video: Asset,
    older: Visit | None,
    shot: Shot,
    layout: Layout,
    shards: int,
    changes: Sequence[Asset] = (),
) -> list[Asset]:
    """Render a video's camera path with an older model, and show both in one video.

    Args:
        workspace: where the assets are.
        video: of the newer model. The camera path is read from it, so that a generated one is the same.
        older: the older visit; None if no comparison is wanted.
        shot: what the video shows.
        layout: how the two are shown.
        shards: see `render_in_shards`.
        changes: what changed between both visits, to mark it; empty if that is not known.

    Returns:
        The older model's video and the comparison; nothing if no comparison is wanted.
    """
    if older is None:
        return []
    path = CameraPath.model_validate_json(await patiently(lambda: workspace.read(video, "camera_path.json")))
    only_colours = shot.options.model_copy(update={"outputs": (), "png_frames": False})
    before = await render_in_shards(workspace, older, Shot(only_colours, path), shards)
    then, now = await patiently(lambda: [_label(workspace, each) for each in (before, video)])
    options = CompareOptions(layout=layout, then_label=then, now_label=now)
    return [before, await compare(workspace, before, video, options, *changes)]


def _label(workspace: Workspace, video: Asset) -> str:
    """Return a version and its day: that of the capture, or of the video if the capture is gone."""
    version = video.capture_version
    shown = workspace.find_asset(video.scene, version) or video
    return f"version {version}, {shown.created:%Y-%m-%d}"


@Stage
def compare(then: Asset, now: Asset, options: CompareOptions, marked: Asset | None = None) -> Plan:
    """Join two videos of the same camera path to one that shows both, and to one on which the changes are marked."""
    return Plan(
        scene=now.scene,
        capture_version=now.capture_version,
        options=options,
        asset_name=asset_name(now.scene, "comparison"),
        kind="video",
        output="video",
        must_have=("video.mp4", "video.json"),
        inputs={"then": then, "now": now, **({"marked": marked} if marked else {})},
        tier="cpu",
        time_limit=3 * 3600,
    )
