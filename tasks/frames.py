"""The scene frame: which dataset began it, and whether a camera path belongs to it.

The first dataset of a scene fixes orientation, centre and scale; later ones are brought into its frame where they fit,
and else begin another. A camera path is right only in the frame that it was made in.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput, NotFound
from jobs.names import asset_name
from jobs.options import RenderOptions
from jobs.web.chart import as_data
from tasks.patience import patiently
from tasks.plain_errors import named as named_scene

__all__ = ["check_belongs", "check_camera_path", "find_frames", "frame_of", "read_cameras", "tell_new_frame"]

_NEAR = 5.0  # the least distance of a path to the photos, in typical distances to what they show, or of their extent
_ANYWHERE = 100.0  # that of any of its frames
_MOST_LOST = 0.4  # share of frames that look into nothing, of a path that does not say where it comes from
_SOME_LOST = 0.15
_PLAYED_EVERYWHERE = 4096 * 2304  # px, of level 5.2 of H.264


def frame_of(dataset: Asset) -> str:
    """The dataset, as name:version, that began the frame of a dataset: itself, if it was brought into no other's."""
    frame = dataset.tags.get("frame", "new")
    return str(dataset) if frame == "new" else frame


async def find_frames(workspace: Workspace, scene: str) -> dict[str, list[Asset]]:
    """The datasets of a scene by their frame, frames and datasets oldest first."""
    frames: dict[str, list[Asset]] = {}
    for dataset in await _datasets(workspace, scene):
        frames.setdefault(frame_of(dataset), []).append(dataset)
    return frames


async def tell_new_frame(scene: str, dataset: Asset) -> None:
    """Say loudly, in the log and as an artifact, that a dataset began a new frame though the scene had one."""
    if frame_of(dataset) != str(dataset) or "reference_1" not in dataset.tags:
        return
    text = (
        f"scene {scene}: {dataset} begins a new frame: its photos were not brought into that of "
        f"{dataset.tags['reference_1']}. Camera paths of earlier versions do not fit it. If it is the same place, take "
        "photos that show again what the earlier ones show, some from the same spots. With frame=keep, an option of "
        "prepare, such photos are refused."
    )
    await _warn(scene, "new-frame", text)


async def check_camera_path(
    workspace: Workspace,
    scene: str,
    dataset: Asset,
    options: RenderOptions,
    path: CameraPath | None,
    named: bool,
    model: Asset | None = None,
) -> tuple[RenderOptions, CameraPath | None]:
    """Return what can be shown of a dataset: the path, or a generated one instead if it belongs to another frame.

    A generated path gets the shape of the photos, where no size was given. An artifact shows a path of a file from
    above, among the cameras and the sparse points, before anything is rendered.

    Args:
        workspace, scene, dataset: where and of what.
        options, path: as `find_camera_path` gives them.
        named: whether a person named the path for this run. If it does not say where it comes from, it then belongs to
            this very frame, as after an export from the viewer; the scene's own path, to the scene's first frame.
        model: that is to be rendered, where it is there already.

    Raises:
        InvalidInput: see `check_belongs` and `RenderOptions.in_shape`.
    """
    if path:
        options, path = await _check_path(workspace, scene, dataset, options, path, named, model)
    if path is None:
        options = await _in_shape(workspace, scene, dataset, options)
    width, height = path.even_size if path else (options.width or 0, options.height or 0)
    if width * height > _PLAYED_EVERYWHERE:
        get_run_logger().warning(
            "scene %s: many players and phones cannot show a video of %dx%d; 4096x2304 is what most can",
            *(scene, width, height),
        )
    return options, path


async def _in_shape(workspace: Workspace, scene: str, dataset: Asset, options: RenderOptions) -> RenderOptions:
    """Return the options of a generated path with its size, or as they are where only the job can read the photos'."""
    try:
        transforms = json.loads(await patiently(lambda: workspace.read(dataset, "transforms.json")))
    except (NotFound, ValueError):
        return options
    from jobs.path import reading

    with named_scene(scene):
        return options.in_shape(reading.photo_shape(transforms))


async def _check_path(
    workspace: Workspace,
    scene: str,
    dataset: Asset,
    options: RenderOptions,
    path: CameraPath,
    named: bool,
    model: Asset | None,
) -> tuple[RenderOptions, CameraPath | None]:
    """Do what `check_camera_path` says, of a path from a file."""
    datasets = await _datasets(workspace, scene)
    frames = {str(known): frame_of(known) for known in datasets}
    own = path.rebel_nerf.frame if path.rebel_nerf else None
    unsaid = frame_of(dataset) if named else next(iter(frames.values()), frame_of(dataset))
    belongs = frames.get(own, own) if own else unsaid
    if belongs != frame_of(dataset):
        text = (
            f"scene {scene}: the camera path belongs to the frame of {belongs}, and {dataset} is in that of "
            f"{frame_of(dataset)}: it would show something else. The path {camera_path.GENERATED[0]} is rendered "
            "instead. Make a path in the viewer of this version, and keep it: "
            f"python -m flows.camera_path --scene {scene} camera_path.json"
        )
        await _warn(scene, "camera-path", text)
        return options.model_copy(update={"camera_path": camera_path.GENERATED[0]}), None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not await patiently(lambda: read_cameras(workspace, dataset, model, folder)):
            return options, path
        if doubt := await asyncio.to_thread(check_belongs, scene, dataset, path, folder, surely=own is not None):
            await _warn(scene, "camera-path", doubt)
        seen_from_above = await asyncio.to_thread(_plan, folder, path)
    await acreate_markdown_artifact(
        f"![From above]({as_data(seen_from_above)})",
        key=f"{scene}-plan",
        description=f"The camera path from above, among the cameras of {dataset}",
    )
    return options, path


def read_cameras(workspace: Workspace, dataset: Asset, model: Asset | None, folder: Path) -> bool:
    """Read into a folder what tells where the photos of a dataset were taken; whether that can be told.

    It cannot where the dataset has no `transforms.json`, as one that a person registered, nor before there is a model
    where training brings the poses into a frame of its own.

    Args:
        workspace: where the assets lie.
        dataset, model: see `check_camera_path`.
        folder: gets `transforms.json`, the sparse points that it names, and `dataparser_transforms.json`, so that it
            is a dataset and a model for `jobs.path.trajectory`.
    """
    try:
        text = workspace.read(dataset, "transforms.json")
        meta = json.loads(text)
    except (NotFound, ValueError):
        return False
    (folder / "transforms.json").write_bytes(text)
    saved = folder / "dataparser_transforms.json"
    if "applied_scale" in meta:  # as `jobs.prepare` writes it: the model is in the dataset's frame
        identity = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
        way = {"transform": meta.get("applied_transform", identity), "scale": meta["applied_scale"]}
        saved.write_text(json.dumps(way))
    else:
        try:
            saved.write_bytes(workspace.read(model, saved.name) if model else b"")
        except NotFound:
            return False
    points = meta.get("ply_file_path", "")
    # A name that leads elsewhere is not followed.
    if points and Path(points).name == points:
        with suppress(NotFound):
            (folder / points).write_bytes(workspace.read(dataset, points))
    return saved.stat().st_size > 0


def check_belongs(scene: str, dataset: Asset, path: CameraPath, folder: Path, surely: bool = False) -> str | None:
    """Refuse a path that shows nothing of a dataset, as one that was made for another scene; what is doubtful, if any.

    Every scene's cameras are within a unit of its origin, so that distance alone tells little. Looked at is whether
    frames show what the photos saw (`jobs.path.sight.lost`). Where the paths of two scenes look alike, as two walks
    about a thing in the middle, or a walk in a house and one in a room, nothing but the origin in the path can tell
    them apart: of generated paths of six captures in each other's frames, about half are recognised.

    Args:
        scene: the scene's name.
        dataset: that the path is to show.
        path: in the frame of the dataset's model.
        folder: as `read_cameras` fills it.
        surely: the path says that it belongs to this frame: it is refused only if not one frame shows anything.

    Raises:
        InvalidInput: the path lies nowhere near the cameras, or looks into nothing for the most part.
    """
    import numpy as np  # not before a path is there

    from jobs.path import reading, sight

    with named_scene(scene):
        capture = reading.read_capture(folder, folder)
    size = max(capture.depth, float(np.linalg.norm(np.ptp(capture.centres, axis=0))))
    places = np.array([frame.camera_to_world[3:12:4] for frame in path.camera_path])
    distances = sight.distances(capture, places) * capture.depth / size
    nearest, farthest = int(distances.argmin()), int(distances.argmax())
    at, number, most = ("nearest", nearest, _NEAR) if distances[nearest] > _NEAR else ("farthest", farthest, _ANYWHERE)
    if distances[number] > most:
        raise InvalidInput(
            f"scene {scene}: the camera path does not belong here: where it is {at} (frame {number + 1} of "
            f"{len(places)}), it is {distances[number]:.0f} times as far from the cameras of {dataset} as these are "
            "apart. Is it the path of another scene? Make one in the viewer of this one."
        )
    lost = sight.lost(capture, path)
    first = next((number for number, is_lost in lost.items() if is_lost), None)
    share = sum(lost.values()) / len(lost)
    if first is None or share <= _SOME_LOST:
        return None
    text = (
        f"scene {scene}: {share:.0%} of the camera path's frames look into nothing, the first of them frame "
        f"{first + 1} of {len(places)}: they show little or nothing of what the photos of {dataset} saw."
    )
    if share == 1.0 or (share > _MOST_LOST and not surely):
        raise InvalidInput(
            f"{text} Is it the path of another scene, or of a model in another frame? Make one in the viewer of this "
            f"scene, or take a generated path: {', '.join(camera_path.GENERATED)}."
        )
    return text


def _plan(folder: Path, path: CameraPath) -> str:
    from jobs.web import plan

    return plan.draw(folder, folder, path)


async def _datasets(workspace: Workspace, scene: str) -> list[Asset]:
    return await patiently(lambda: workspace.assets(asset_name(scene, "dataset")))


async def _warn(scene: str, about: str, text: str) -> None:
    get_run_logger().warning("%s", text)
    await acreate_markdown_artifact(f"**{text}**", key=f"{scene}-{about}", description=f"To be known about {scene}")
