"""Render a video, in one job or in shards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from prefect import get_run_logger

from blocks import Asset, Workspace
from jobs.camera_path import CameraPath
from jobs.names import asset_name
from jobs.options import RenderOptions, ShardOptions
from tasks.patience import patiently
from tasks.scene_frame import scene_frame_of
from tasks.shot import Shot
from tasks.stage import Plan, Stage, choose_generation, is_begun
from tasks.visit import Visit

__all__ = ["render", "render_in_shards", "shard"]


async def render_in_shards(workspace: Workspace, visit: Visit, shot: Shot, shards: int, refresh: bool = False) -> Asset:
    """Return the video of `render`, rendered by several jobs at the same time and joined by another one.

    Registered shards are used. If a shard fails, the others go on. Shards have the generation of their video, so a
    refresh that is run again uses the shards that it has already made. If one job already renders the whole video,
    that job is followed. Each shard has at least one frame, so a short path has fewer shards.

    Raises:
        RebelNerfError: see `run_to_end`; the error of the first shard that failed, after all have ended.
    """
    chosen = await choose_generation(workspace, render.plan(visit, shot), refresh)
    generation = chosen.plan.generation
    bounds = [number * shot.frames // shards for number in range(shards + 1)]
    spans = [range(first, last) for first, last in pairwise(bounds) if first < last]
    video = render.with_options(generation=generation)
    if chosen.registered or len(spans) == 1 or await _is_rendered_whole(workspace, chosen.plan, visit, shot, spans):
        return await video(workspace, visit, shot)
    parts = await _shards(workspace, visit, shot, spans, generation)
    if shot.path is None:  # each job generated the path, and machines may round differently
        first, *others = await patiently(lambda: [_path_of(workspace, part) for part in parts])
        strange = [number for number, other in enumerate(others, 1) if not other.is_like(first)]
        same_path = replace(shot, path=first)
        again = await _shards(workspace, visit, same_path, [spans[number] for number in strange], generation)
        for number, part in zip(strange, again, strict=True):
            get_run_logger().warning(
                "%s shows another camera path than %s, and is replaced by %s", parts[number], parts[0], part
            )
            parts[number] = part
    return await video(workspace, visit, shot, parts)


async def _shards(
    workspace: Workspace, visit: Visit, shot: Shot, spans: Sequence[range], generation: int
) -> list[Asset]:
    """Return a shard for each span of frames. An error is raised only after all jobs have ended."""
    made: list[Asset | BaseException] = await asyncio.gather(
        *(shard.with_options(generation=generation)(workspace, visit, shot, span) for span in spans),
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
    workspace: Workspace, whole: Plan, visit: Visit, shot: Shot, spans: Sequence[range]
) -> bool:
    """Return whether a job renders the whole video, or has rendered it, and not all of its shards are registered."""
    if not await is_begun(workspace, whole):
        return False
    plans = [replace(shard.plan(visit, shot, span), generation=whole.generation) for span in spans]
    registered = await patiently(lambda: {each.version for each in workspace.assets(plans[0].asset_name)})
    return not registered.issuperset(plan.version for plan in plans)


@Stage
def render(visit: Visit, shot: Shot, shards: Sequence[Asset] = ()) -> Plan:
    """Render a camera path with a model, or join the shards of a video."""
    scene = visit.model.scene
    options, files = _deciding(shot)
    parts = {f"shard{number}": each for number, each in enumerate(shards)}
    joined = tuple(argument for name in parts for argument in ("--shards", f"{{inputs.{name}}}"))
    return Plan(
        scene=scene,
        capture_version=visit.model.capture_version,
        options=options,
        asset_name=asset_name(scene, "video"),
        kind="video",
        output="video",
        must_have=("video.mp4", "video.json"),
        inputs={"dataset": visit.dataset, "model": visit.model},
        parts=parts,
        files=files,
        scratch=("checkpoints",),
        arguments=("--frame", scene_frame_of(visit.dataset), *joined),
        tier="cpu" if parts else "gpu",
        time_limit=12 * 3600,
        work=shot.frames,
    )


@Stage
def shard(visit: Visit, shot: Shot, span: range) -> Plan:
    """Render a part of the frames of a camera path."""
    scene = visit.model.scene
    options, files = _deciding(shot)
    return Plan(
        scene=scene,
        capture_version=visit.model.capture_version,
        options=ShardOptions(**options.model_dump(), first=span.start, last=span.stop),
        asset_name=asset_name(scene, "shard"),
        kind="shard",
        output="shard",
        must_have=("camera_path.json", "shard.json"),
        part=f"from-{span.start}",
        inputs={"dataset": visit.dataset, "model": visit.model},
        files=files,
        scratch=("checkpoints",),
        time_limit=12 * 3600,
        work=len(span),
    )


def _deciding(shot: Shot) -> tuple[RenderOptions, dict[str, str]]:
    """Return the options and files that the fingerprint of a video depends on.

    For a path from a file, they are its content, which includes the options given beside the file, but not its name.
    """
    if shot.path is None:
        return shot.options, {}
    shown = {name: getattr(shot.options, name) for name in ("near_plane", "outputs", "png_frames")}
    files = {"camera_path.json": shot.path.model_dump_json(exclude_none=True)}
    return RenderOptions(camera_path="{files.camera_path.json}", **shown), files
