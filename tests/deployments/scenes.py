"""Flows that a worker counts as those of scenes, whose jobs are real processes that do next to nothing."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

import tasks
from blocks import Asset
from flows._ends import with_plain_ends
from jobs.errors import InvalidInput
from jobs.options import TrainOptions
from tests.faults.chain import FirstOptions, chain_workspace, first
from tests.trainer import trainer, visit


@flow(name="nerf", flow_run_name="{scene}")
@with_plain_ends
async def nerf(scene: str, root: Path, seconds: float = 1.0) -> Asset:
    """Run one stage, which fails if it has no time."""
    if not seconds:
        raise InvalidInput(f"scene {scene}: no time")
    workspace = chain_workspace(root).model_copy(update={"jobs_at_once": 1})
    capture = workspace.take_in(scene, {"photo": root / scene}, {})
    made: Asset = await first(workspace, capture, FirstOptions(seconds=seconds))
    return made


@flow(name="nerf", flow_run_name="{scene}")
@with_plain_ends
async def two_models(scene: str, root: Path) -> None:
    """Train two models of a scene, of which the second is worse."""
    workspace = trainer(root)
    for capture, psnr in ((1, 25.0), (2, 22.5)):
        model = await tasks.train(workspace, visit(workspace, capture, psnr, scene), TrainOptions(max_num_iterations=5))
        await tasks.show_quality(workspace, scene, model)
