from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset

# Tags that say where an asset comes from rather than how good it is.
_PROVENANCE = {
    *("scene", "stage", "capture_version", "content", "source", "fingerprint", "flow_run", "job"),
    *("images", "dataset", "model", "then", "now"),
}


async def summarize(scene: str, *assets: Asset) -> None:
    """Show what a run led to: an artifact, and lines in the log, with each asset's place and figures."""
    rows, lines = ["| asset | figures | where |", "|---|---|---|"], [f"{scene}:"]
    for asset in assets:
        figures = ", ".join(f"{k} {v}" for k, v in asset.tags.items() if k not in _PROVENANCE)
        rows.append(f"| {asset} | {figures} | `{asset.uri}` |")
        lines += [f"  {asset}: {figures}" if figures else f"  {asset}", f"      {asset.uri}"]
    await acreate_markdown_artifact("\n".join(rows), key=f"{scene}-summary", description=f"What {scene} has led to")
    lines += [f"  the video: {asset.uri.rstrip('/')}/video.mp4" for asset in assets if asset.kind == "video"]
    get_run_logger().info("%s", "\n".join(lines))
