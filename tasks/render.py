from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from prefect import get_run_logger
from pydantic import ValidationError

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput
from jobs.options import Profile, RenderOptions, ShardOptions
from tasks.plain_errors import named
from tasks.stage import Plan, stage_task, standing

__all__ = ["find_camera_path", "render", "render_in_shards", "shard"]

TRAJECTORIES = Path(__file__).resolve().parent.parent / "trajectories"

_PLAYED_EVERYWHERE = 4096 * 2304  # px, of level 5.2 of H.264


def find_camera_path(
    scene: str, options: RenderOptions, profile: Profile, shards: int
) -> tuple[RenderOptions, CameraPath | None]:
    """The options with what their camera path means for a scene: the kind of a generated one, or "file" and the path.

    What the profile decides is filled in. What was given beside a file changes its path: size, pace, field of view,
    projection and crop; what is not given stays as the file has it, whatever the profile says.

    Raises:
        InvalidInput: there is no such path, it is not valid, easing or loop was given beside a file, no video can be
            made of it, or it has fewer frames than there are shards; names the scene, file and key.
    """
    with named(scene):
        options, path = _find(scene, options, profile)
    frames = len(path.camera_path) if path else options.frames
    if shards > frames:
        raise InvalidInput(f"scene {scene}: {frames} frames cannot be rendered in {shards} shards; give fewer shards.")
    width, height = path.even_size if path else (options.width or 0, options.height or 0)
    if width * height > _PLAYED_EVERYWHERE:
        get_run_logger().warning(
            "scene %s: a video of %dx%d is more than many players and phones can show; 4096x2304 is what most can",
            *(scene, width, height),
        )
    return options, path


def _find(scene: str, given: RenderOptions, profile: Profile) -> tuple[RenderOptions, CameraPath | None]:
    options = given.with_profile(profile)
    name, own = options.camera_path, TRAJECTORIES / f"{scene}.json"
    if name == "auto" and not own.exists():
        name = camera_path.GENERATED[0]
    if name in camera_path.GENERATED:
        # It is the same path, whether its default is named or not.
        projection = None if options.camera_type == "perspective" else options.camera_type
        return options.model_copy(update={"camera_path": name, "camera_type": projection}), None
    places = [own] if name == "auto" else [Path(name).expanduser(), TRAJECTORIES / scene / f"{name}.json"]
    file = next((place for place in places if place.is_file()), places[0])
    path = camera_path.read(file)
    return options.model_copy(update={"camera_path": "file"}), _adjusted(path, file, given)


def _adjusted(path: CameraPath, file: Path, given: RenderOptions) -> CameraPath:
    """A path with what a person gave beside its file; the very same where nothing was given."""
    if given.loop or given.easing != "linear":
        raise InvalidInput(
            f"easing and loop are for generated paths; {file} has a pace and an end of its own. Leave them out, "
            f"or take a generated path: {', '.join(camera_path.GENERATED)}."
        )
    frames = len(path.camera_path)
    seconds = given.seconds or (frames / given.fps if given.fps else None)
    projection, width, height = given.camera_type or path.camera_type, given.width, given.height
    shape = path.render_width / path.render_height
    if projection == "equirectangular" != path.camera_type:
        shape, width = 2.0, width or (None if height else path.render_width)
    new = {
        "render_width": width or (height and round(height * shape)),
        "render_height": height or (width and round(width / shape)),
        "seconds": seconds,
        "fps": frames / seconds if seconds and seconds != path.seconds else None,
        "camera_type": given.camera_type,
        "crop": given.crop and given.crop.model_dump(mode="json", exclude_none=True),
    }
    new = {name: value for name, value in new.items() if value}
    views = {"fov": given.field_of_view} if given.field_of_view else {}
    if not new and not views:
        return path
    content = path.content() | new
    if (content["render_width"], content["render_height"]) != (path.render_width, path.render_height):
        views["aspect"] = content["render_width"] / content["render_height"]
    content["camera_path"] = [frame | views for frame in content["camera_path"]]
    try:
        return CameraPath.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"{file} with the options given beside it: {camera_path.describe(error)}") from None


async def render_in_shards(
    workspace: Workspace,
    dataset: Asset,
    model: Asset,
    path: CameraPath | None,
    options: RenderOptions,
    shards: int,
    refresh: bool = False,
) -> Asset:
    """The video of `render`, its frames rendered by so many jobs at the same time, and joined by another.

    Shards that are there already are taken as they are; one that fails does not end the others.

    Raises:
        RebelNerfError: see `run_to_end`; of the first shard that failed, after all have ended.
    """
    plan: Plan = render.__wrapped__(dataset, model, path, options)  # type: ignore[attr-defined]
    if shards == 1 or (await standing(workspace, plan) and not refresh):
        return await render(workspace, dataset, model, path, options, refresh=refresh)
    frames = len(path.camera_path) if path else options.frames
    bounds = [number * frames // shards for number in range(shards + 1)]
    made: list[Asset | BaseException] = await asyncio.gather(
        *(
            shard(workspace, dataset, model, path, options, first, last, refresh=refresh)
            for first, last in pairwise(bounds)
        ),
        return_exceptions=True,
    )
    parts = []
    for each in made:
        if isinstance(each, BaseException):
            raise each
        parts.append(each)
    return await render(workspace, dataset, model, path, options, parts, refresh=refresh)


@stage_task
def render(
    dataset: Asset, model: Asset, path: CameraPath | None, options: RenderOptions, shards: Sequence[Asset] = ()
) -> Plan:
    """A model and a camera path to a video; `path` is None where the options name a generated one."""
    scene = model.tags["scene"]
    options, files = _decides(path, options)
    parts = {f"shard{number}": each for number, each in enumerate(shards)}
    return Plan(
        scene=scene,
        capture_version=model.tags["capture_version"],
        options=options,
        asset_name=f"{scene}-video",
        kind="video",
        output="video",
        inputs={"dataset": dataset, "model": model},
        parts=parts,
        files=files,
        scratch=("checkpoints",),
        arguments=tuple(part for name in parts for part in ("--shards", f"{{inputs.{name}}}")),
        tier="cpu" if parts else "gpu",
        time_limit=12 * 3600,
    )


@stage_task
def shard(dataset: Asset, model: Asset, path: CameraPath | None, options: RenderOptions, first: int, last: int) -> Plan:
    """A part of a camera path, from frame `first` to before `last`, to a part of its video."""
    scene = model.tags["scene"]
    options, files = _decides(path, options)
    return Plan(
        scene=scene,
        capture_version=model.tags["capture_version"],
        options=ShardOptions(**options.model_dump(), first=first, last=last),
        asset_name=f"{scene}-video-shard",
        kind="shard",
        output="shard",
        inputs={"dataset": dataset, "model": model},
        files=files,
        scratch=("checkpoints",),
        time_limit=12 * 3600,
    )


def _decides(path: CameraPath | None, options: RenderOptions) -> tuple[RenderOptions, dict[str, str]]:
    """The options and files that decide a video: a path's content, not its file's name, nor a generated one's size.

    What was given beside a file is in the path already: see `_adjusted`.
    """
    if path is None:
        return options, {}
    shown = {name: getattr(options, name) for name in ("near_plane", "outputs", "png_frames")}
    files = {"camera_path.json": path.model_dump_json(exclude_none=True)}
    return RenderOptions(camera_path="{files.camera_path.json}", **shown), files
