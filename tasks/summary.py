from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs.web.quality import money
from tasks.budget import spent_by
from tasks.wanted import current_run

# Tags that say where an asset comes from rather than how good it is.
_PROVENANCE = {
    *("scene", "stage", "capture_version", "content", "source", "fingerprint", "options", "tier", "flow_run", "job"),
    *("images", "dataset", "model", "video", "then", "now", "frame", "taken_in_by", "job_seconds", "parts_seconds"),
    "work",
}
_REFERENCE = "reference_"  # and a number


def figures_of(asset: Asset) -> dict[str, str]:
    """The tags that say how good an asset is."""
    return {name: value for name, value in asset.tags.items() if not _is_provenance(name)}


def _is_provenance(name: str) -> bool:
    return name in _PROVENANCE or name.startswith(_REFERENCE)


async def summarize(workspace: Workspace, scene: str, *assets: Asset) -> None:
    """Show what a run led to: an artifact, and lines in the log, with each asset's place, figures and cost."""
    rows, lines = ["| asset | figures | cost | where |", "|---|---|---|---|"], [f"{scene}:"]
    for asset in assets:
        figures = ", ".join(f"{name} {value}" for name, value in figures_of(asset).items())
        cost = money(workspace.cost(asset), workspace.currency)
        rows.append(f"| {asset.title} | {figures} | {cost} | `{asset.uri}` |")
        lines += [f"  {asset.title}: {figures}" if figures else f"  {asset.title}", f"      {asset.uri}"]
    spent = await spent_by(workspace, str(current_run()))
    rows += ["", spent] if spent else []
    await acreate_markdown_artifact("\n".join(rows), key=f"{scene}-summary", description=f"What {scene} has led to")
    shown = {"video": "the video: {}/video.mp4", "export": "in a browser: {}/index.html"}
    lines += [f"  {shown[asset.kind].format(asset.uri.rstrip('/'))}" for asset in assets if asset.kind in shown]
    lines += [f"  {spent}"] if spent else []
    get_run_logger().info("%s", "\n".join(lines))
