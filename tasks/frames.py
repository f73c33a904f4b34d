"""The scene frame: which dataset began it, and whether a camera path belongs to it.

The first dataset of a scene fixes orientation, centre and scale; later ones are brought into its frame where they fit,
and else begin another. A camera path is right only in the frame that it was made in.
"""

from __future__ import annotations

import json
import math

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput, NotFound
from jobs.options import RenderOptions
from tasks.patience import patiently

__all__ = ["check_camera_path", "find_frames", "frame_of", "tell_new_frame"]

_NEAR = 5.0  # the least distance of a path to the cameras, in terms of their extent: flying above and around is fine
_ANYWHERE = 100.0  # that of any of its frames


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
    workspace: Workspace, scene: str, dataset: Asset, options: RenderOptions, path: CameraPath | None, named: bool
) -> tuple[RenderOptions, CameraPath | None]:
    """What can be shown of a dataset: the path, or a generated one instead if it belongs to another frame.

    Args:
        workspace, scene, dataset: where and of what.
        options, path: as `find_camera_path` gives them.
        named: whether a person named the path for this run. If it does not say where it comes from, it then belongs to
            this very frame, as after an export from the viewer; the scene's own path, to the scene's first frame.

    Raises:
        InvalidInput: the path lies nowhere near the cameras.
    """
    if path is None:
        return options, path
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
    try:
        transforms = json.loads(await patiently(lambda: workspace.read(dataset, "transforms.json")))
    except NotFound:  # registered by a person, in another form
        return options, path
    if "applied_scale" in transforms:  # else training moves the poses, and the model is in a frame of its own
        cameras = [[row[3] for row in frame["transform_matrix"][:3]] for frame in transforms["frames"]]
        _check_distance(scene, dataset, path, cameras)
    return options, path


def _check_distance(scene: str, dataset: Asset, path: CameraPath, cameras: list[list[float]]) -> None:
    extent = math.dist(*([pick(axis) for axis in zip(*cameras, strict=True)] for pick in (min, max)))
    places = [frame.camera_to_world[3:12:4] for frame in path.camera_path]
    distances = [min(math.dist(place, camera) for camera in cameras) / extent for place in places]
    at, most = ("nearest", _NEAR) if min(distances) > _NEAR else ("farthest", _ANYWHERE)
    distance = min(distances) if at == "nearest" else max(distances)
    if distance > most:
        raise InvalidInput(
            f"scene {scene}: the camera path does not belong here: where it is {at} (frame "
            f"{distances.index(distance) + 1} of {len(distances)}), it is {distance:.0f} times as far from the cameras "
            f"of {dataset} as these are apart. Is it the path of another scene? Make one in the viewer of this one."
        )


async def _datasets(workspace: Workspace, scene: str) -> list[Asset]:
    return await patiently(lambda: workspace.assets(f"{scene}-images-to-nerf-dataset"))


async def _warn(scene: str, about: str, text: str) -> None:
    get_run_logger().warning("%s", text)
    await acreate_markdown_artifact(f"**{text}**", key=f"{scene}-{about}", description=f"To be known about {scene}")
