from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from pydantic import ValidationError

from blocks import Asset, Workspace
from jobs import camera_path
from jobs.camera_path import CameraPath
from jobs.errors import InvalidInput
from jobs.names import asset_name
from jobs.options import Profile, RenderOptions, ShardOptions
from tasks.frames import frame_of
from tasks.patience import patiently
from tasks.plain_errors import named
from tasks.stage import Plan, is_begun, settle, stage_task

__all__ = ["find_camera_path", "render", "render_in_shards", "shard"]

TRAJECTORIES = Path(__file__).resolve().parent.parent / "trajectories"


def find_camera_path(
    scene: str, options: RenderOptions, profile: Profile, shards: int
) -> tuple[RenderOptions, CameraPath | None]:
    """The options with what their camera path means for a scene: the kind of a generated one, or "file" and the path.

    What the profile decides is filled in; the size of a generated path stays open until the photos' shape is known (see
    `check_camera_path`). What was given beside a file changes its path: size, pace, field of view, projection and crop;
    what is not given stays as the file has it, whatever the profile says.

    Raises:
        InvalidInput: there is no such path, it is not valid, easing or loop was given beside a file, no video can be
            made of it, or it has fewer frames than there are shards; names the scene, file and key.
    """
    with named(scene):
        options, path = _find(scene, options, profile)
    frames = _frames(options, path)
    if shards > frames:
        raise InvalidInput(f"scene {scene}: {frames} frames cannot be rendered in {shards} shards; give fewer shards.")
    return options, path


def _frames(options: RenderOptions, path: CameraPath | None) -> int:
    return len(path.camera_path) if path else options.frames


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
        shape, width = 2.0, width or (None if height or given.long_side else path.render_width)
    if given.long_side and not (width or height):
        width, height = (given.long_side, None) if shape >= 1 else (None, given.long_side)
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

    Shards that are there already are taken as they are; one that fails does not end the others. They have the
    generation of their video: a refresh that is repeated goes on with those that it made. Where one job renders the
    whole video already, it is waited for. There is at least one frame in each shard: of a short path, there are fewer.

    Raises:
        RebelNerfError: see `run_to_end`; of the first shard that failed, after all have ended.
    """
    whole: Plan = render.__wrapped__(dataset, model, path, options)  # type: ignore[attr-defined]
    whole, stands = await settle(workspace, whole, refresh)
    generation, frames = whole.generation, _frames(options, path)
    bounds = [number * frames // shards for number in range(shards + 1)]
    spans = [(first, last) for first, last in pairwise(bounds) if first < last]
    if stands or len(spans) == 1 or await _is_rendered_whole(workspace, whole, (dataset, model, path, options), spans):
        return await render(workspace, dataset, model, path, options, generation=generation)
    parts = await _shards(workspace, dataset, model, path, options, spans, generation)
    if path is None:  # each job has generated it: by another machine's arithmetic, a tie may end otherwise
        first, *others = await patiently(lambda: [_path_of(workspace, part) for part in parts])
        strange = [number for number, other in enumerate(others, 1) if not other.is_like(first)]
        again = await _shards(workspace, dataset, model, first, options, [spans[n] for n in strange], generation)
        for number, part in zip(strange, again, strict=True):
            get_run_logger().warning("%s is of another path than %s: %s takes its place", parts[number], parts[0], part)
            parts[number] = part
    return await render(workspace, dataset, model, path, options, parts, generation=generation)


async def _shards(
    workspace: Workspace,
    dataset: Asset,
    model: Asset,
    path: CameraPath | None,
    options: RenderOptions,
    spans: list[tuple[int, int]],
    generation: int,
) -> list[Asset]:
    """A shard for each span, from its first frame to before its last; an error only after all have ended."""
    made: list[Asset | BaseException] = await asyncio.gather(
        *(shard(workspace, dataset, model, path, options, *span, generation=generation) for span in spans),
        return_exceptions=True,
    )
    parts = []
    for each in made:
        if isinstance(each, BaseException):
            raise each
        parts.append(each)
    return parts


def _path_of(workspace: Workspace, part: Asset) -> CameraPath:
    return CameraPath.model_validate_json(workspace.read(part, "camera_path.json"))


async def _is_rendered_whole(
    workspace: Workspace, whole: Plan, given: tuple[Any, ...], spans: list[tuple[int, int]]
) -> bool:
    """Whether a job renders, or has rendered, a video whose shards are not all there: none of them is paid for then."""
    if not await is_begun(workspace, whole):
        return False
    plans: list[Plan] = [shard.__wrapped__(*given, *span) for span in spans]  # type: ignore[attr-defined]
    registered = await patiently(lambda: {each.version for each in workspace.assets(plans[0].asset_name)})
    return not registered.issuperset(replace(plan, generation=whole.generation).version for plan in plans)


@stage_task
def render(
    dataset: Asset, model: Asset, path: CameraPath | None, options: RenderOptions, shards: Sequence[Asset] = ()
) -> Plan:
    """A model and a camera path to a video; `path` is None where the options name a generated one."""
    scene, frames = model.tags["scene"], _frames(options, path)
    options, files = _decides(path, options)
    parts = {f"shard{number}": each for number, each in enumerate(shards)}
    return Plan(
        scene=scene,
        capture_version=model.tags["capture_version"],
        options=options,
        asset_name=asset_name(scene, "video"),
        kind="video",
        output="video",
        must_have=("video.mp4", "video.json"),
        inputs={"dataset": dataset, "model": model},
        parts=parts,
        files=files,
        scratch=("checkpoints",),
        arguments=("--frame", frame_of(dataset), *(x for name in parts for x in ("--shards", f"{{inputs.{name}}}"))),
        tier="cpu" if parts else "gpu",
        time_limit=12 * 3600,
        work=frames,
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
        asset_name=asset_name(scene, "shard"),
        kind="shard",
        output="shard",
        must_have=("camera_path.json", "shard.json"),
        part=f"from-{first}",
        inputs={"dataset": dataset, "model": model},
        files=files,
        scratch=("checkpoints",),
        time_limit=12 * 3600,
        work=last - first,
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
