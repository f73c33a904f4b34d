"""Scene frames: which dataset began one, and which camera paths are for it.

A scene frame is a coordinate frame. A scene's first dataset fixes its orientation, centre and scale. Later datasets are
registered to it, or begin another scene frame if they do not fit. A camera path is right only in the scene frame in
which it was drawn. "Frame" alone means an image of the path.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from blocks.provenance import reference
from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput, NotFound
from jobs.names import asset_name
from jobs.options import RenderOptions
from jobs.program import typed
from jobs.web.chart import as_data
from tasks.patience import patiently
from tasks.plain_errors import naming
from tasks.shot import Shot

if TYPE_CHECKING:
    from jobs.path.photos import PosedPhotos

__all__ = [
    "check_belongs",
    "find_scene_frames",
    "fit_shot",
    "read_cameras",
    "scene_frame_of",
    "warn_of_new_scene_frame",
]

_NEAR = 5.0  # maximum distance of a path's nearest frame from the photos, in their typical depths or extents
_ANYWHERE = 100.0  # the same for the farthest frame
_MOST_LOST = 0.4  # share of frames that may show nothing, of a path that does not name its scene frame
_SOME_LOST = 0.15  # above this share there is a warning
_PLAYED_EVERYWHERE = 4096 * 2304  # px, the limit of H.264's level 5.2


def scene_frame_of(dataset: Asset) -> str:
    """Return the scene frame of a dataset: the dataset that began it, as name:version, which may be itself."""
    frame = dataset.provenance.frame or "new"
    return str(dataset) if frame == "new" else frame


async def find_scene_frames(workspace: Workspace, scene: str) -> dict[str, list[Asset]]:
    """Return the datasets of a scene by their scene frame. Scene frames and datasets are oldest first."""
    found: dict[str, list[Asset]] = {}
    for dataset in await _datasets(workspace, scene):
        found.setdefault(scene_frame_of(dataset), []).append(dataset)
    return found


async def warn_of_new_scene_frame(scene: str, dataset: Asset) -> None:
    """Warn, in the log and as an artifact, that a dataset began a new scene frame although the scene had one."""
    registered_to = dataset.provenance.inputs.get(reference(1))
    if scene_frame_of(dataset) != str(dataset) or registered_to is None:
        return
    text = (
        f"scene {scene}: {dataset} begins a new scene frame, because its photos could not be registered to that of "
        f"{registered_to}. Camera paths of earlier versions do not fit it. If it is the same place, take photos that "
        "show what the earlier ones show, some from the same spots. To refuse such photos, set prepare.frame to keep."
    )
    await _warn(scene, "new-frame", text)


async def fit_shot(workspace: Workspace, scene: str, dataset: Asset, shot: Shot, model: Asset | None = None) -> Shot:
    """Fit a shot to a dataset. If its path is for another scene frame, replace it by a generated path.

    If no size was given, a generated path gets the aspect ratio of the photos. For a path from a file, an artifact
    shows it from above, among the cameras and the sparse points, before anything is rendered.

    Args:
        workspace, scene, dataset: what is shown.
        shot: what `find_shot` returned. If its path does not name its scene frame, a path chosen for this run is taken
            to be for that of `dataset`, as after an export from the viewer; the scene's own path, for the scene's first
            one.
        model: the model that will be rendered, if it exists already.

    Raises:
        InvalidInput: see `check_belongs` and `RenderOptions.in_shape`.
    """
    if shot.path:
        shot = await _check_path(workspace, scene, dataset, shot, shot.path, model)
    if shot.path is None:
        shot = replace(shot, options=await _in_shape(workspace, scene, dataset, shot.options))
    width, height = shot.path.even_size if shot.path else (shot.options.width or 0, shot.options.height or 0)
    if width * height > _PLAYED_EVERYWHERE:
        get_run_logger().warning(
            "scene %s: many players and phones cannot show a video of %dx%d. Most can show 4096x2304",
            *(scene, width, height),
        )
    return shot


async def _in_shape(workspace: Workspace, scene: str, dataset: Asset, options: RenderOptions) -> RenderOptions:
    """Return the options of a generated path with its size; unchanged if only the job can read the photos' size."""
    transforms = await patiently(lambda: _read_json(workspace, dataset, "transforms.json"))
    if transforms is None:
        return options
    from jobs.path import reading

    with naming(scene):
        try:
            shape = reading.photo_shape(transforms)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InvalidInput(
                f"transforms.json of {dataset} is damaged ({error}). Prepare the dataset again."
            ) from error
        return options.in_shape(shape)


async def _check_path(
    workspace: Workspace, scene: str, dataset: Asset, shot: Shot, path: CameraPath, model: Asset | None
) -> Shot:
    """Return what `fit_shot` returns for a path from a file."""
    datasets = await _datasets(workspace, scene)
    known = {str(each): scene_frame_of(each) for each in datasets}
    own = path.rebel_nerf.frame if path.rebel_nerf else None
    unsaid = scene_frame_of(dataset) if shot.chosen else next(iter(known.values()), scene_frame_of(dataset))
    belongs = known.get(own, own) if own else unsaid
    if belongs != scene_frame_of(dataset):
        text = (
            f"scene {scene}: the camera path is for the scene frame of {belongs}, but {dataset} is in that of "
            f"{scene_frame_of(dataset)}, where the path would show something else. The path "
            f"{camera_path.GENERATED[0]} is rendered instead. Draw a path in the viewer of this version, and keep it: "
            f"{typed(f'path --scene {scene} camera_path.json')}"
        )
        await _warn(scene, "camera-path", text)
        return shot.generated()
    with naming(scene):
        photos = await patiently(lambda: read_cameras(workspace, dataset, model))
    if photos is None:
        return shot
    if doubt := await asyncio.to_thread(check_belongs, scene, dataset, path, photos, surely=own is not None):
        await _warn(scene, "camera-path", doubt)
    seen_from_above = await asyncio.to_thread(_plan, photos, path)
    await acreate_markdown_artifact(
        f"![From above]({as_data(seen_from_above)})",
        key=f"{scene}-plan",
        description=f"The camera path from above, among the cameras of {dataset}",
    )
    return shot


def read_cameras(workspace: Workspace, dataset: Asset, model: Asset | None) -> PosedPhotos | None:
    """Read the cameras and sparse points of a dataset, in the model frame. Return None if they cannot be known.

    They cannot if the dataset has no `transforms.json`, which a dataset from elsewhere may lack. If training moves the
    poses to another model frame, they cannot be known before there is a model.

    Args:
        workspace: where the assets are.
        dataset, model: see `fit_shot`.

    Raises:
        InvalidInput: the dataset is damaged.
    """
    from jobs.path import reading

    transforms = _read_json(workspace, dataset, "transforms.json")
    if transforms is None:
        return None
    if "applied_scale" in transforms:  # as `jobs.prepare` writes it: the model frame is the scene frame
        applied = transforms.get("applied_transform", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
        saved: dict[str, Any] | None = {"transform": applied, "scale": transforms["applied_scale"]}
    else:
        saved = _read_json(workspace, model, "dataparser_transforms.json") if model else None
    if saved is None:
        return None
    file, cloud = transforms.get("ply_file_path", ""), b""
    # A name that leads out of the dataset is not followed.
    if file and Path(file).name == file:
        with suppress(NotFound):
            cloud = workspace.read(dataset, file)
    return reading.parse_photos(str(dataset), transforms, saved, cloud)


def _read_json(workspace: Workspace, asset: Asset, file: str) -> dict[str, Any] | None:
    """Return the JSON object in a file of an asset; None if the asset has no such file."""
    try:
        content = json.loads(workspace.read(asset, file))
    except (NotFound, ValueError):
        return None
    return content if isinstance(content, dict) else None


def check_belongs(
    scene: str, dataset: Asset, path: CameraPath, photos: PosedPhotos, surely: bool = False
) -> str | None:
    """Refuse a path that shows nothing of a dataset, such as another scene's path. Return a doubt for people, if any.

    The cameras of every scene are within a unit of its origin, so distance alone says little. The check is whether
    frames show what the photos saw (`jobs.path.sight.lost`). Two scenes can have similar paths, such as two walks
    around an object, or a walk in a house and one in a room. Only the origin in the path can tell those apart: of the
    generated paths of six captures in each other's scene frames, about half are recognised.

    Args:
        scene: the scene's name.
        dataset: the dataset that the path should show.
        path: in the model frame.
        photos: what `read_cameras` returned.
        surely: whether the path names this scene frame. Then it is refused only if no frame shows anything.

    Raises:
        InvalidInput: the path is far from the cameras, or most of its frames show nothing.
    """
    import numpy as np  # slow to import

    from jobs.path import sight

    size = max(photos.depth, float(np.linalg.norm(np.ptp(photos.centres, axis=0))))
    places = np.array([frame.camera_to_world[3:12:4] for frame in path.camera_path])
    distances = sight.distances(photos, places) * photos.depth / size
    nearest, farthest = int(distances.argmin()), int(distances.argmax())
    at, number, most = ("nearest", nearest, _NEAR) if distances[nearest] > _NEAR else ("farthest", farthest, _ANYWHERE)
    if distances[number] > most:
        raise InvalidInput(
            f"scene {scene}: the camera path does not belong here: its {at} frame ({number + 1} of {len(places)}) is "
            f"{distances[number]:.0f} times as far from the cameras of {dataset} as these are apart. Is it the path of "
            "another scene? Draw one in the viewer of this scene."
        )
    lost = sight.lost(photos, path)
    first = next((number for number, is_lost in lost.items() if is_lost), None)
    share = sum(lost.values()) / len(lost)
    if first is None or share <= _SOME_LOST:
        return None
    text = (
        f"scene {scene}: {share:.0%} of the camera path's frames show little or nothing of what the photos of "
        f"{dataset} saw, the first of them frame {first + 1} of {len(places)}."
    )
    if share == 1.0 or (share > _MOST_LOST and not surely):
        raise InvalidInput(
            f"{text} Is it the path of another scene, or of a model in another scene frame? Draw one in the viewer of "
            f"this scene, or choose a generated path: {', '.join(camera_path.GENERATED)}."
        )
    return text


def _plan(photos: PosedPhotos, path: CameraPath) -> str:
    from jobs.web import plan

    return plan.draw(photos, path)


async def _datasets(workspace: Workspace, scene: str) -> list[Asset]:
    return await patiently(lambda: workspace.assets(asset_name(scene, "dataset")))


async def _warn(scene: str, about: str, text: str) -> None:
    get_run_logger().warning("%s", text)
    await acreate_markdown_artifact(f"**{text}**", key=f"{scene}-{about}", description=f"A warning about {scene}")
