"""Make the page of a scene's video, and show it in the flow run."""

from __future__ import annotations

import asyncio

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs.errors import RunCancelled
from jobs.names import asset_name
from jobs.options import PageOptions
from jobs.web.chart import as_data
from jobs.web.quality import Facts, Made, Role
from tasks.find import newest_made_of
from tasks.links import file_link
from tasks.patience import patiently
from tasks.quality import Compared
from tasks.stage import Plan, Stage
from tasks.stages.scale import read_metres
from tasks.summary import figures_of
from tasks.workspace import page_command

__all__ = ["page", "publish_page"]


@Stage
def page(dataset: Asset, model: Asset, video: Asset, facts: Facts, export: Asset | None = None) -> Plan:
    """Make a page of a video and what it was made from. The page opens in any browser."""
    scene, inputs = video.scene, {"dataset": dataset, "model": model, "video": video}
    return Plan(
        scene=scene,
        capture_version=video.capture_version,
        options=PageOptions(),
        asset_name=asset_name(scene, "page"),
        kind="page",
        output="page",
        must_have=("index.html",),
        inputs=inputs | ({"export": export} if export else {}),
        files={"facts.json": facts.as_json()},
        arguments=("--facts", "{files.facts.json}"),
        tier="cpu",
        time_limit=3600,
    )


async def publish_page(
    workspace: Workspace,
    dataset: Asset,
    model: Asset,
    video: Asset,
    compared: Compared,
    exported: Asset | None = None,
) -> list[Asset]:
    """Make the video's page, and show its plan and how to open it as an artifact.

    Returns:
        The page; nothing if it could not be made. The run then continues.

    Args:
        workspace: where the assets are.
        dataset, model, video: what the page is about.
        compared: what `show_quality` returned for the model.
        exported: an export of the model, which the page shows in 3D. Defaults to the newest that exists.

    Raises:
        RunCancelled: somebody cancelled this flow run.
    """
    scene = video.scene
    made = [_made(workspace, "dataset", dataset), _made(workspace, "model", model), _made(workspace, "video", video)]
    capture = dataset.provenance.inputs.get("images", "")
    versions, better = compared
    facts = Facts(
        scene=scene, capture=capture, made=made, versions=versions, better=better, currency=workspace.currency
    )
    try:
        metres = await patiently(lambda: read_metres(workspace, dataset))
        facts = facts.model_copy(update={"metres": metres})
        exported = exported or await patiently(lambda: _newest_export(workspace, model))
        asset = await page(workspace, dataset, model, video, facts, exported)
        plan = (await patiently(lambda: workspace.read(asset, "plan.svg"))).decode()
    except (RunCancelled, asyncio.CancelledError):
        raise
    except Exception as error:  # the run is for the video, which exists
        get_run_logger().warning("scene %s: the video was made, but its page could not be made: %s", scene, error)
        return []
    command = page_command(workspace, scene, asset)
    file = f"{asset.uri.rstrip('/')}/index.html"
    link = await patiently(lambda: file_link(workspace, asset, "index.html"))
    text = f"{f'[The page]({link})' if link else 'The page'}, one file: `{file}`. This opens it:"
    text += f"\n\n```\n{command}\n```\n\n![From above]({as_data(plan)})"
    await acreate_markdown_artifact(text, key=f"{scene}-page", description=f"The page of {video}, and its plan")
    get_run_logger().info("the page of %s: %s, opened by: %s", video, file, command)
    return [asset]


def _newest_export(workspace: Workspace, model: Asset) -> Asset | None:
    return newest_made_of(workspace.assets(asset_name(model.scene, "export")), model=model)


def _made(workspace: Workspace, role: Role, asset: Asset) -> Made:
    seconds = None if asset.seconds is None else sum(asset.seconds.values())
    return Made(role=role, asset=asset.title, figures=figures_of(asset), seconds=seconds, cost=workspace.cost(asset))
