"""Start runs for the photos that people dropped."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from dataclasses import asdict, dataclass, field
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
from tasks.workspace import LOCAL, is_here

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
    starter = _Starter(
        workspace=workspace,
        reference=reference,
        settle_seconds=settle_seconds,
        profile=profile,
        compare=compare,
        all_scenes=scenes is None,
        versions=versions,
        keys=keys,
        before=await _runs_of([key for each in keys.values() for key in each]),
        under_way=await _under_way(deployment, {reference, LOCAL} if is_here(workspace) else {reference}),
    )
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def look_at(dropped: DroppedCapture) -> LookedAt:
        async with at_once:
            return await starter.look_at(dropped)

    return list(await asyncio.gather(*map(look_at, listed)))


@dataclass(frozen=True)
class _Starter:
    """Decides for each drop folder whether a run is started, and starts it.

    Args:
        workspace, reference, settle_seconds, profile, compare: see `start_new_captures`.
        all_scenes: whether nobody named scenes.
        versions: by named scene without new photos: its newest version.
        keys: by scene: the idempotency keys of the runs for its content, in order.
        before: the runs that have these keys.
        under_way: by scene: its run that has not ended.
        started: the scenes of which a run was started; filled by `look_at`.
    """

    workspace: Workspace
    reference: str
    settle_seconds: float
    profile: Profile
    compare: bool
    all_scenes: bool
    versions: dict[str, Asset]
    keys: dict[str, list[str]]
    before: dict[str, FlowRun]
    under_way: dict[str, FlowRun]
    started: set[str] = field(default_factory=set)

    async def look_at(self, dropped: DroppedCapture) -> LookedAt:
        """Return the row of a drop folder. An error is a part of it: the other scenes do not depend on this one."""
        failed = False
        try:
            done = await self._decide(dropped)
        except Exception as error:
            done, failed = f"left alone: {error}", True
            get_run_logger().warning("scene %s is %s", dropped.scene, done)
        found = f"{len(dropped.files)} files, {dropped.size / 1e6:.1f} MB"
        changed = f"{_duration(dropped.age)} ago" if dropped.files else ""
        idle = not failed and dropped.scene not in self.started
        return LookedAt(dropped.scene, self.reference, found, changed, done, idle)

    async def _decide(self, dropped: DroppedCapture) -> str:
        """Start a run if one is due. Return what was done and why, for the row."""
        scene, asset = dropped.scene, self.versions.get(dropped.scene)
        if reason := _not_to_be_started(dropped, asset, self.settle_seconds):
            return reason
        earlier = [self.before[key] for key in self.keys[scene] if key in self.before]
        if earlier and not (_may_pass(earlier[-1]) and len(earlier) < _ATTEMPTS):
            return _describe(earlier[-1], scene, self.reference) + await self._changes(dropped)
        if run := self.under_way.get(scene):
            return f"waits: its run {run.name} ({run.id}) is {run.state_name}. It will be checked again afterwards"
        asset = asset or await patiently(lambda: self.workspace.find_capture(dropped))
        if asset and asset.archived:
            return f"left alone: it is version {asset.version}, which is archived. Restore it, or change the photos"
        if asset and self.all_scenes and not earlier:
            # A version that this flow took in has no run if the flow then died, or if the server was reset.
            by_others = asset.provenance.taken_in_by != "reprocess"
            if by_others or await patiently(functools.partial(_has_dataset, self.workspace, asset)):
                return f"nothing new: it is version {asset.version}{await self._changes(dropped, asset)}"
        if asset is None:
            asset = await patiently(lambda: take_in_dropped(self.workspace, dropped, PrepareOptions(), _TAKEN_IN_BY))
        return await self._start(asset, self.keys[scene][len(earlier)])

    async def _start(self, asset: Asset, key: str) -> str:
        then = await patiently(lambda: _version_before(self.workspace, asset)) if self.compare else None
        run = await _start(asset, self.reference, self.profile, key, then)
        self.started.add(asset.name)
        get_run_logger().info("started %s: run %s (%s)", asset, run.name, run.id)
        return f"started: version {asset.version}, run {run.name} ({run.id})"

    async def _changes(self, dropped: DroppedCapture, asset: Asset | None = None) -> str:
        return await patiently(lambda: _changes(self.workspace, dropped, asset)) if self.compare else ""


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


async def _under_way(deployment: UUID, references: set[str]) -> dict[str, FlowRun]:
    """Return the runs of the deployment in this workspace, by its references, that have not ended, by scene."""
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
                if run.parameters.get("workspace", LOCAL) in references and "scene" in run.parameters
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
