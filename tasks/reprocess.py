"""Start runs for the photos that people dropped."""

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
from jobs.names import SceneName, asset_name
from jobs.options import PrepareOptions
from jobs.profiles import Profile
from jobs.program import typed
from jobs.validation import complaints
from tasks.captures import take_in_dropped
from tasks.patience import patiently
from tasks.workspace import LOCAL

__all__ = ["LookedAt", "list_looked_at", "start_new_captures"]

DEPLOYMENT = "nerf/scene"
_TAKEN_IN_BY = {"taken_in_by": "reprocess"}
_PAGE = 200  # flow runs per answer of the server
_AT_ONCE = 8  # scenes that are looked up at the same time
_ATTEMPTS = 3


@dataclass(frozen=True)
class LookedAt:
    """A row of the table: a scene's drop folder, and what was done about it. If nothing was, and nothing failed, `idle`
    is true."""

    scene: str
    workspace: str
    found: str
    changed: str
    done: str
    idle: bool


@task(description="Start the flow of each scene that has new photos which no longer change.")
async def start_new_captures(
    workspace: Workspace,
    reference: str,
    settle_seconds: float,
    profile: Profile = "auto",
    scenes: list[str] | None = None,
    compare: bool = False,
) -> list[LookedAt]:
    """Register the dropped photos of each scene that are new and settled, and start a run of `nerf/scene` for them.

    The same content of a scene is started once. If its run crashed, or failed because of the workspace or a machine, it
    is started again, at most three times in total. If one scene fails, its row of the table says so, and the others go
    on.

    Args:
        workspace: where the captures are.
        reference: the value of the runs' parameter `workspace`.
        settle_seconds: how long a scene's folder must have been unchanged.
        profile: the profile of the runs.
        scenes: only these scenes. If nothing new was dropped for one of them, its newest version is started if it
            never was.
        compare: whether the runs compare the photos with the version before them.

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
    contents |= {scene: asset.provenance.content or "" for scene, asset in versions.items()}
    keys = {scene: _keys(workspace, scene, content) for scene, content in contents.items()}
    before = await _runs_of([key for each in keys.values() for key in each])
    under_way = await _under_way(deployment, reference)
    at_once, started = asyncio.Semaphore(_AT_ONCE), set[str]()

    async def changes_of(dropped: DroppedCapture, asset: Asset | None = None) -> str:
        return await patiently(lambda: _changes(workspace, dropped, asset)) if compare else ""

    async def done_about(dropped: DroppedCapture) -> str:
        scene, asset = dropped.scene, versions.get(dropped.scene)
        if reason := _not_to_be_started(dropped, asset, settle_seconds):
            return reason
        earlier = [before[key] for key in keys[scene] if key in before]
        if earlier and not (_may_pass(earlier[-1]) and len(earlier) < _ATTEMPTS):
            return _describe(earlier[-1], scene, reference) + await changes_of(dropped)
        key = keys[scene][len(earlier)]
        if run := under_way.get(scene):
            return f"waits: its run {run.name} ({run.id}) is {run.state_name}. It will be checked again afterwards"
        asset = asset or await patiently(lambda: workspace.find_capture(dropped))
        if asset and asset.archived:
            return f"left alone: it is version {asset.version}, which is archived. Restore it, or change the photos"
        if asset and scenes is None and not earlier:
            # A version that this flow took in has no run if the flow then died, or if the server was reset.
            by_others = asset.provenance.taken_in_by != "reprocess"
            if by_others or await patiently(functools.partial(_has_dataset, workspace, asset)):
                return f"nothing new: it is version {asset.version}{await changes_of(dropped, asset)}"
        if asset is None:
            asset = await patiently(lambda: take_in_dropped(workspace, dropped, PrepareOptions(), _TAKEN_IN_BY))
        then = await patiently(functools.partial(_version_before, workspace, asset)) if compare else None
        run = await _start(asset, reference, profile, key, then)
        started.add(scene)
        get_run_logger().info("started %s: run %s (%s)", asset, run.name, run.id)
        return f"started: version {asset.version}, run {run.name} ({run.id})"

    async def look_at(dropped: DroppedCapture) -> LookedAt:
        async with at_once:
            failed = False
            try:
                done = await done_about(dropped)
            except Exception as error:  # the other scenes do not depend on this one
                done, failed = f"left alone: {error}", True
                get_run_logger().warning("scene %s is %s", dropped.scene, done)
        found = f"{len(dropped.files)} files, {dropped.size / 1e6:.1f} MB"
        changed = f"{_duration(dropped.age)} ago" if dropped.files else ""
        idle = not failed and dropped.scene not in started
        return LookedAt(dropped.scene, reference, found, changed, done, idle)

    return list(await asyncio.gather(*map(look_at, listed)))


def _named(workspace: Workspace, scenes: list[str]) -> tuple[list[DroppedCapture], dict[str, Asset]]:
    """Return the drop folders of the scenes, and the newest versions of those without new photos."""
    listed, versions = [], {}
    for scene in scenes:
        nothing = DroppedCapture(scene, {}, 0.0)
        if _why_invalid(scene):  # do not look for it: a name like ".." is another folder
            listed.append(nothing)
            continue
        dropped = next(iter(workspace.dropped(scene)), nothing)
        listed.append(dropped)
        new = dropped.uploading or (dropped.files and not workspace.find_capture(dropped))
        if not new and (known := workspace.assets(scene)):
            versions[scene] = known[-1]
    return listed, versions


def _keys(workspace: Workspace, scene: str, content: str) -> list[str]:
    """Return the idempotency keys of the runs for a content, in order. Prefect starts one run a key."""
    known = hashlib.sha256("\n".join((workspace.identity, scene, content)).encode()).hexdigest()
    return [f"rebel-nerf-{known}{f'-{attempt}' if attempt > 1 else ''}" for attempt in range(1, _ATTEMPTS + 1)]


def _has_dataset(workspace: Workspace, capture: Asset) -> bool:
    """Return whether a dataset was made of a capture version."""
    datasets = workspace.assets(asset_name(capture.name, "dataset"))
    return any(each.provenance.inputs.get("images") == str(capture) for each in datasets)


def _version_before(workspace: Workspace, capture: Asset) -> int | None:
    """Return the newest version before a capture that has a model; None if there is none."""
    if not capture.version.isdigit():
        return None
    with_model = {model.leading_version for model in workspace.assets(asset_name(capture.name, "model"))}
    versions = [int(version) for version in with_model if version.isdigit()]
    return max((version for version in versions if version < int(capture.version)), default=None)


def _changes(workspace: Workspace, dropped: DroppedCapture, capture: Asset | None) -> str:
    """Return what has changed in the dropped photos since an earlier version, for a row; "" if it is not known.

    `capture` is their version, if it has been looked up already.
    """
    capture = capture or workspace.find_capture(dropped)
    found = workspace.assets(asset_name(dropped.scene, "changes")) if capture else []
    changed = [each.tags.get("changed", "?") for each in found if capture and each.leading_version == capture.version]
    return f". Changed: {changed[-1]}" if changed else ""


def _why_invalid(scene: str) -> str | None:
    """Return why a name is not a valid name of a scene; None if it is one."""
    try:
        TypeAdapter(SceneName).validate_python(scene)
    except ValidationError as error:
        return complaints(error)[0]
    return None


def _not_to_be_started(dropped: DroppedCapture, asset: Asset | None, settle_seconds: float) -> str | None:
    if why := _why_invalid(dropped.scene):
        return f"left alone: {why}"
    if asset:
        return None
    if dropped.uploading:
        return f"waits: {', '.join(dropped.uploading[:3])} is being uploaded; if not, delete it or upload it again"
    if not dropped.files:
        return "left alone: it has no photos and no video"
    if dropped.age < settle_seconds:
        return f"waits until nothing has changed for {_duration(settle_seconds)}: photos may still be arriving"
    return None


def _may_pass(run: FlowRun) -> bool:
    """Return whether a run failed for a reason that has nothing to do with the photos, so another may succeed."""
    if run.state_type is not StateType.FAILED:
        return run.state_type is StateType.CRASHED
    return any(kind.__name__ in ((run.state and run.state.message) or "") for kind in TRANSIENT)


def _describe(run: FlowRun, scene: str, reference: str) -> str:
    if run.state_type not in TERMINAL_STATES:
        return f"is being processed: run {run.name} ({run.id}) is {run.state_name}"
    if run.state_type is StateType.COMPLETED:
        return f"nothing new: run {run.name} ({run.id}) made its video"
    return (
        f"not started again: run {run.name} ({run.id}) of the same photos is {run.state_name}. "
        "Change the photos, or run it by hand: "
        f"prefect deployment run {DEPLOYMENT} -p scene={scene} -p workspace={reference}"
    )


async def _start(asset: Asset, reference: str, profile: Profile, key: str, then: int | None) -> FlowRun:
    parameters: dict[str, Any] = {"scene": asset.name, "workspace": reference, "profile": profile}
    if asset.version.isdigit():  # else a person named it, and it is the newest
        parameters["version"] = int(asset.version)
    if then is not None:
        parameters["then"] = then
    return await arun_deployment(DEPLOYMENT, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=key)


async def _deployment() -> UUID:
    async with get_client() as client:
        try:
            return (await client.read_deployment_by_name(DEPLOYMENT)).id
        except ObjectNotFound:
            raise NotFound(f"this server has no deployment {DEPLOYMENT}. Create it with: {typed('deploy')}") from None


async def _runs_of(keys: list[str]) -> dict[str, FlowRun]:
    """Return the runs that the server has, by idempotency key."""
    found = {}
    async with get_client() as client:
        for start in range(0, len(keys), _PAGE):
            chosen = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys[start : start + _PAGE]))
            for run in await client.read_flow_runs(flow_run_filter=chosen, limit=_PAGE):
                found[run.idempotency_key or ""] = run
    return found


async def _under_way(deployment: UUID, reference: str) -> dict[str, FlowRun]:
    """Return the runs of the deployment in this workspace that have not ended, by scene."""
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
    """Show what was found and done, as an artifact."""
    rows = [{name: value for name, value in asdict(each).items() if name != "idle"} for each in found]
    await acreate_table_artifact(rows, key="reprocess", description="Captures, and what was done about each")


def _duration(seconds: float) -> str:
    """Return a duration for people, in at most two units: "35 s", "15 min", "3 h 20 min", "12 days"."""
    minutes = int(seconds / 60)
    if seconds < 60:
        return f"{max(seconds, 0):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days"
