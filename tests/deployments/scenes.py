"""A flow that a worker counts as one of scenes, whose one job sleeps."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from blocks import Asset
from jobs.errors import InvalidInput
from tests.faults.chain import FirstOptions, first, workspace


@flow(name="nerf", flow_run_name="{scene}")
async def nerf(scene: str, root: Path, seconds: float = 1.0) -> Asset:
    """One stage; without time it fails."""
    if not seconds:
        raise InvalidInput(f"scene {scene}: no time")
    place = workspace(root).model_copy(update={"jobs_at_once": 1})
    capture = place.take_in(scene, {"photo": root / scene}, {})
    made: Asset = await first(place, capture, FirstOptions(seconds=seconds))
    return made
