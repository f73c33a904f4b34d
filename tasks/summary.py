"""Summarize a run on its page in Prefect: a picture, a verdict, where the results are, and figures."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image
from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs.errors import NotFound
from jobs.text import in_markdown
from jobs.web.inline import shrunk
from jobs.web.quality import money
from jobs.web.verdict import Verdict, judge
from tasks.budget import spent_by
from tasks.choice import choose, model_versions
from tasks.links import file_link, scene_link
from tasks.patience import patiently
from tasks.wanted import current_run
from tasks.workspace import page_command

__all__ = ["OPENED", "figures_of", "poster_of", "summarize", "verdict_of"]

_UNKNOWN = "not available"
_POSTER_WIDTH = 480  # px: about 30 kB, so that the run's page opens at once
OPENED = {"page": ("page", "index.html"), "video": ("video", "video.mp4"), "export": ("3D", "index.html")}
"""What a person can open, by the asset's kind: its name for people, and the file."""


def figures_of(asset: Asset) -> dict[str, str]:
    """Return the tags that say how good an asset is, without those that are not known."""
    return {name: value for name, value in asset.figures.items() if value != _UNKNOWN}


def verdict_of(dataset: Asset | None, model: Asset | None) -> Verdict | None:
    """Judge a model by its own tags and those of its dataset; None if they have no figures."""
    steps = model.figure("steps") if model else None
    return judge(
        dataset.registered_photos if dataset else None,
        model.figure("psnr") if model else None,
        None if steps is None else int(steps),
        model.figure("psnr_colours_fitted") if model else None,
    )


async def summarize(workspace: Workspace, scene: str, *assets: Asset) -> None:
    """Show the results of a run, as an artifact and in the log.

    Args:
        workspace: where the assets are registered.
        scene: the scene's name.
        assets: the assets that the run made or found, in the order of the stages.
    """
    by_kind = {asset.kind: asset for asset in assets}
    verdict = verdict_of(by_kind.get("dataset"), by_kind.get("model"))
    videos = [asset for asset in assets if asset.kind == "video"]
    poster = await patiently(lambda: poster_of(workspace, videos[-1])) if videos else ""
    parts = [f"![{scene}]({poster})"] if poster else []
    if verdict:
        parts.append(f"**{verdict}**. {verdict.why}".rstrip())
    if model := by_kind.get("model"):
        choice = choose(await patiently(lambda: model_versions(workspace, scene, model)))
        if choice and (choice.worse or str(choice.shown.asset) != str(model)):
            parts.append(choice.remark)
    places = await patiently(lambda: _places(workspace, scene, assets))
    if links := " · ".join(f"[{place.name}]({place.link})" for place in places if place.link):
        parts.append(f"Open: {links}")
    parts.append("\n".join(f"- {place.name}: `{place.about}`" for place in places if place.about))
    rows = []  # a list, because Prefect's UI cuts a wide table off
    lines = [f"{scene}: {verdict}" if verdict else f"{scene}:"]
    for asset in assets:
        figures = ", ".join(f"{name} {value}" for name, value in figures_of(asset).items())
        cost = workspace.cost(asset)
        paid = f"cost {money(cost, workspace.currency)}" if cost is not None else ""
        rows.append(f"- **{asset.title}** {', '.join(filter(None, (in_markdown(figures), paid)))}".rstrip())
        lines += [f"  {asset.title}: {figures}" if figures else f"  {asset.title}", f"      {asset.uri}"]
    parts.append("\n".join(["Results:", *rows]))
    if spent := await spent_by(workspace, str(current_run())):
        parts.append(spent)
        lines.append(f"  {spent}")
    lines += [f"  {place.name}: {place.link or place.about}" for place in places]
    description = f"Results of this run for {scene}" + (f". {verdict}" if verdict else "")
    await acreate_markdown_artifact("\n\n".join(parts), key=f"{scene}-summary", description=description)
    get_run_logger().info("%s", "\n".join(lines))


class _Place(NamedTuple):
    """What a person can open: its name, its path or a command, and its web address if a server serves it."""

    name: str
    about: str
    link: str = ""


def _places(workspace: Workspace, scene: str, assets: tuple[Asset, ...]) -> list[_Place]:
    """Return what a person can open, the page first, and the command that opens the page. Blocks."""
    found = []
    for kind, (name, file) in OPENED.items():
        for asset in (asset for asset in assets if asset.kind == kind):
            found.append(_Place(name, f"{asset.uri.rstrip('/')}/{file}", file_link(workspace, asset, file)))
            if kind == "page":
                found.append(_Place("open it with", page_command(workspace, scene, asset)))
    if link := scene_link(workspace, scene):
        found.append(_Place("scene", "", link))
    return found


def poster_of(workspace: Workspace, video: Asset) -> str:
    """Return a small picture of a video as a `data:` address; "" if there is none. Blocks."""
    try:
        content = workspace.read(video, "poster.jpg")
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            small = picture.convert("RGB")
    except (NotFound, OSError):  # a video of an earlier version of this program, or not of ours
        return ""
    return shrunk(small, _POSTER_WIDTH, quality=75)
