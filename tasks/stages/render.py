from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from prefect import get_run_logger

from blocks import Asset, Workspace
from jobs.camera_path import CameraPath
from jobs.names import asset_name
from jobs.options import RenderOptions, ShardOptions
from tasks.camera_path import frame_count
from tasks.frames import frame_of
from tasks.patience import patiently
from tasks.stage import Plan, is_begun, settle, stage_task

__all__ = ["render", "render_in_shards", "shard"]


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
    generation, frames = whole.generation, frame_count(options, path)
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
    scene, frames = model.tags["scene"], frame_count(options, path)
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

    What was given beside a file is in the path already: see `tasks.camera_path`.
    """
    if path is None:
        return options, {}
    shown = {name: getattr(options, name) for name in ("near_plane", "outputs", "png_frames")}
    files = {"camera_path.json": path.model_dump_json(exclude_none=True)}
    return RenderOptions(camera_path="{files.camera_path.json}", **shown), files
