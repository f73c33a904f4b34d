"""Find what changed in a scene between two visits."""

from __future__ import annotations

import asyncio

from prefect import get_run_logger

from blocks import Asset, Workspace
from jobs.errors import RunCancelled
from jobs.names import asset_name
from jobs.options import ChangesOptions
from tasks.patience import patiently
from tasks.stage import Plan, Stage
from tasks.stages.scale import find_metres
from tasks.visit import Visit

__all__ = ["changes", "find_changes"]


@Stage
def changes(then: Visit, now: Visit, metres: Asset | None = None, options: ChangesOptions = ChangesOptions()) -> Plan:
    """Find what is new, gone or different between two visits in one scene frame."""
    scene = now.model.scene
    return Plan(
        scene=scene,
        capture_version=now.model.capture_version,
        options=options,
        asset_name=asset_name(scene, "changes"),
        kind="changes",
        output="changes",
        must_have=("changes.json", "changes.ply"),
        inputs={
            "then": then.dataset,
            "older": then.model,
            "now": now.dataset,
            "newer": now.model,
            **({"metres": metres} if metres else {}),
        },
        tier="gpu",
        time_limit=6 * 3600,
    )


async def find_changes(workspace: Workspace, older: Visit | None, now: Visit) -> list[Asset]:
    """Return the changes since an older visit; nothing if there is none, or if they cannot be found.

    Two models of the same photos are not compared. A failure is only logged, because the purpose of the run is the
    video.

    Raises:
        RunCancelled: somebody cancelled this flow run.
    """
    if older is None or str(older.dataset) == str(now.dataset):
        return []
    try:
        metres = await patiently(lambda: find_metres(workspace, now.dataset) or find_metres(workspace, older.dataset))
        return [await changes(workspace, older, now, metres)]
    except (RunCancelled, asyncio.CancelledError):
        raise
    except Exception as error:
        get_run_logger().warning(
            "scene %s: the changes since the older visit could not be found: %s", now.model.scene, error
        )
        return []
