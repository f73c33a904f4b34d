from __future__ import annotations

import asyncio
import functools
import hashlib
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import TypeAdapter, ValidationError

from blocks import Asset, DroppedCapture, Workspace
from jobs.errors import TRANSIENT, NotFound
from jobs.names import asset_name
from jobs.options import PrepareOptions, Profile, SceneName
from tasks.captures import take_in_dropped
from tasks.patience import patiently
from tasks.workspace import LOCAL

__all__ = ["LookedAt", "list_looked_at", "start_new_captures"]

DEPLOYMENT = "nerf/scene"
_TAKEN_IN_BY = {"taken_in_by": "reprocess"}
_PAGE = 200  # flow runs that a server gives at once
_AT_ONCE = 8  # scenes that a workspace is asked about
_ATTEMPTS = 3


@dataclass(frozen=True)
class LookedAt:
    """A row of the table: a scene's folder, and what was done about it."""

    scene: str
    workspace: str
    found: str
    changed: str
    done: str


@task(description="Start the flow of each scene whose photos are new and have settled.")
async def start_new_captures(
    workspace: Workspace,
    reference: str,
    settle_seconds: float,
    profile: Profile = "auto",
    scenes: list[str] | None = None,
) -> list[LookedAt]:
    """Look at what was dropped for each scene, register what is new and settled, and start a run of `nerf/scene`.

    The same content of a scene is started once; again, three times at most, where its run crashed, or the workspace or
    a machine failed it. What fails for one scene is in its row of the table, and does not touch the others.

    Args:
        workspace: where the captures lie.
        reference: what the runs' parameter `workspace` says.
        settle_seconds: how long nothing may have changed in a scene's folder.
        profile: of the runs.
        scenes: only these; a version of theirs that is there already is started as well, if it never was. Where what
            was dropped is known, that is the newest version.

    Raises:
        NotFound: the server has no deployment `nerf/scene`.
        WorkspaceUnavailable: the captures could not be listed.
    """
    deployment = await _deployment()
    versions: dict[str, Asset] = {}
    if scenes is None:
        listed = await patiently(workspace.dropped)
    else:
        listed, versions = await patiently(lambda: _named(workspace, scenes))
    contents = {each.scene: each.content for each in listed}
    contents |= {scene: asset.tags["content"] for scene, asset in versions.items()}
    keys = {scene: _keys(workspace, scene, content) for scene, content in contents.items()}
    before = await _runs_of([key for each in keys.values() for key in each])
    under_way = await _under_way(deployment, reference)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def done_about(dropped: DroppedCapture) -> str:
        scene, asset = dropped.scene, versions.get(dropped.scene)
        if told := _not_to_be_started(dropped, asset, settle_seconds):
            return told
        earlier = [before[key] for key in keys[scene] if key in before]
        if earlier and not (_failed_by_chance(earlier[-1]) and len(earlier) < _ATTEMPTS):
            return _told_of(earlier[-1], scene, reference)
        key = keys[scene][len(earlier)]
        if run := under_way.get(scene):
            return f"waits: its run {run.name} ({run.id}) is {run.state_name}; looked at again afterwards"
        asset = asset or await patiently(lambda: workspace.find_capture(dropped))
        if asset and asset.archived:
            return f"left alone: it is version {asset.version}, which is archived. Restore it, or change the photos"
        if asset and scenes is None and not earlier:
            # One that this flow took in has no run if the flow died in between, or the server has forgotten it.
            by_others = asset.tags.get("taken_in_by") != "reprocess"
            if by_others or await patiently(functools.partial(_has_dataset, workspace, asset)):
                return f"nothing new: it is version {asset.version}"
        if asset is None:
            asset = await patiently(lambda: take_in_dropped(workspace, dropped, PrepareOptions(), _TAKEN_IN_BY))
        run = await _start(asset, reference, profile, key)
        get_run_logger().info("started %s: run %s (%s)", asset, run.name, run.id)
        return f"started: version {asset.version}, run {run.name} ({run.id})"

    async def look_at(dropped: DroppedCapture) -> LookedAt:
        async with at_once:
            try:
                done = await done_about(dropped)
            except Exception as error:  # whatever it is, the other scenes have nothing to do with it
                done = f"left alone: {error}"
                get_run_logger().warning("scene %s is %s", dropped.scene, done)
        found = f"{len(dropped.files)} files, {dropped.size / 1e6:.1f} MB"
        changed = f"{_duration(dropped.age)} ago" if dropped.files else ""
        return LookedAt(dropped.scene, reference, found, changed, done)

    return list(await asyncio.gather(*map(look_at, listed)))


def _named(workspace: Workspace, scenes: list[str]) -> tuple[list[DroppedCapture], dict[str, Asset]]:
    """What was dropped for the scenes, and the newest versions of those for which nothing new was."""
    listed, versions = [], {}
    for scene in scenes:
        nothing = DroppedCapture(scene, {}, 0.0)
        if _no_name(scene):  # it is not looked for: the folder of a name like ".." is another
            listed.append(nothing)
            continue
        dropped = next(iter(workspace.dropped(scene)), nothing)
        listed.append(dropped)
        new = dropped.uploading or (dropped.files and not workspace.find_capture(dropped))
        if not new and (known := workspace.assets(scene)):
            versions[scene] = known[-1]
    return listed, versions


def _keys(workspace: Workspace, scene: str, content: str) -> list[str]:
    """What the runs for a content are known by, one after another: Prefect makes no other of the same key."""
    known = hashlib.sha256("\n".join((workspace.identity, scene, content)).encode()).hexdigest()
    return [f"rebel-nerf-{known}{f'-{attempt}' if attempt > 1 else ''}" for attempt in range(1, _ATTEMPTS + 1)]


def _has_dataset(workspace: Workspace, capture: Asset) -> bool:
    """Whether a dataset was made of a capture version."""
    datasets = workspace.assets(asset_name(capture.name, "dataset"))
    return any(each.tags.get("images") == str(capture) for each in datasets)


def _no_name(scene: str) -> str | None:
    """Why a name is no scene's; None if it is one."""
    try:
        TypeAdapter(SceneName).validate_python(scene)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def _not_to_be_started(dropped: DroppedCapture, asset: Asset | None, settle_seconds: float) -> str | None:
    if why := _no_name(dropped.scene):
        return f"left alone: {why}"
    if asset:
        return None
    if dropped.uploading:
        return f"waits: {', '.join(dropped.uploading[:3])} is being uploaded; if not, delete it or upload it again"
    if not dropped.files:
        return "left alone: there are no photos and no video"
    if dropped.age < settle_seconds:
        return f"waits until nothing has changed for {_duration(settle_seconds)}: it may still be growing"
    return None


def _failed_by_chance(run: FlowRun) -> bool:
    """Whether a run ended by what has nothing to do with the photos, and another may go through."""
    if run.state_type is not StateType.FAILED:
        return run.state_type is StateType.CRASHED
    return any(kind.__name__ in ((run.state and run.state.message) or "") for kind in TRANSIENT)


def _told_of(run: FlowRun, scene: str, reference: str) -> str:
    if run.state_type not in TERMINAL_STATES:
        return f"is being processed: run {run.name} ({run.id}) is {run.state_name}"
    if run.state_type is StateType.COMPLETED:
        return f"nothing new: run {run.name} ({run.id}) made its video"
    return (
        f"not started again: run {run.name} ({run.id}) of the same photos is {run.state_name}. "
        "Change the photos, or run it by hand: "
        f"prefect deployment run {DEPLOYMENT} -p scene={scene} -p workspace={reference}"
    )


async def _start(asset: Asset, reference: str, profile: Profile, key: str) -> FlowRun:
    parameters: dict[str, Any] = {"scene": asset.name, "workspace": reference, "profile": profile}
    if asset.version.isdigit():  # else a person named it, and it is the newest
        parameters["version"] = int(asset.version)
    return await arun_deployment(DEPLOYMENT, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=key)


async def _deployment() -> UUID:
    async with get_client() as client:
        try:
            return (await client.read_deployment_by_name(DEPLOYMENT)).id
        except ObjectNotFound:
            raise NotFound(f"there is no deployment {DEPLOYMENT} on this server. Make it with: make deploy") from None


async def _runs_of(keys: list[str]) -> dict[str, FlowRun]:
    """By idempotency key, the runs that the server has."""
    found = {}
    async with get_client() as client:
        for start in range(0, len(keys), _PAGE):
            chosen = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys[start : start + _PAGE]))
            for run in await client.read_flow_runs(flow_run_filter=chosen, limit=_PAGE):
                found[run.idempotency_key or ""] = run
    return found


async def _under_way(deployment: UUID, reference: str) -> dict[str, FlowRun]:
    """By scene, the runs of the deployment in this workspace that have not ended."""
    types = [kind for kind in StateType if kind not in TERMINAL_STATES]
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    found: dict[str, FlowRun] = {}
    offset = 0
    async with get_client() as client:
        while runs := await client.read_flow_runs(
            flow_run_filter=chosen, deployment_filter=of_it, limit=_PAGE, offset=offset
        ):
            offset += len(runs)
            found |= {
                run.parameters["scene"]: run
                for run in runs
                if run.parameters.get("workspace", LOCAL) == reference and "scene" in run.parameters
            }
    return found


async def list_looked_at(found: list[LookedAt]) -> None:
    """Show what was found and done: an artifact."""
    rows = [asdict(each) for each in found]
    await acreate_table_artifact(rows, key="reprocess", description="Captures, and what was done about each")


def _duration(seconds: float) -> str:
    """In words, of two units at most: "35 s", "15 min", "3 h 20 min", "12 days"."""
    minutes = int(seconds / 60)
    if seconds < 60:
        return f"{max(seconds, 0):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days"
