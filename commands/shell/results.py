"""Print the results of a run in a few lines at its end."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from blocks import Asset, LocalWorkspace
from jobs.names import scene_of
from jobs.program import typed
from jobs.report import duration
from tasks.gallery import scene_page_file
from tasks.news import News
from tasks.summary import OPENED, verdict_of
from tasks.workspace import LOCAL

__all__ = ["Results", "words_of"]


def words_of(news: News) -> str:
    """Return what a stage's line shows about its result; "" if there is nothing to add to the stage's name."""
    asset = news.asset
    if asset is None:
        return news.words
    tags = asset.tags
    if asset.kind == "dataset" and (photos := asset.registered_photos):
        words = f"{photos[0]} of {photos[1]} photos registered"
    elif asset.kind == "model" and (fitted := asset.figure("psnr_colours_fitted")) is not None:
        words = f"{fitted:.1f} dB on held-out photos with colours fitted"
    elif asset.kind == "model" and (psnr := asset.figure("psnr")) is not None:
        words = f"{psnr:.1f} dB on held-out photos"
    elif asset.kind == "metres" and "scale" in tags:
        words = tags["scale"]
    elif asset.kind == "changes" and "changed" in tags:
        words = tags["changed"]
    elif asset.kind == "video" and "size" in tags:
        words = f"{tags.get('frames', '?')} frames, {tags['size'].replace('x', '×')} px"
    else:
        words = news.words
    if news.was_there:
        return f"{words} (existed already)" if words else "existed already"
    return words


class Results:
    """Collects the results of a run.

    Args:
        workspace: the value of `--workspace`.
    """

    def __init__(self, workspace: str = LOCAL) -> None:
        self._elsewhere = "" if workspace == LOCAL else f" --workspace {workspace}"
        self._assets: dict[str, Asset] = {}

    def take(self, news: News) -> None:
        """Note a stage's result."""
        if news.asset:
            self._assets[news.asset.kind] = news.asset

    def show(self, seconds: float, log: Path, open_page: bool = False) -> None:
        """Print a verdict, and links to the page, the video and the 3D view. With `open_page`, open the page."""
        made = self._assets
        if not made:
            return
        scene = scene_of(next(iter(made.values())).name)
        verdict = verdict_of(made.get("dataset"), made.get("model"))
        print(f"\n{scene}: {verdict}, in {duration(seconds)}" if verdict else f"\n{scene}: {duration(seconds)}")
        if verdict and verdict.why:
            print(f"  {verdict.why}")
        print(f"  log    {log}")
        for kind, (name, _) in OPENED.items():
            if kind in made:
                print(f"  {name:<6} {self._link(made[kind], scene)}")
            elif kind == "export" and "model" in made:
                print(f"  {name:<6} not made yet; {typed(f'export --scene {scene}{self._elsewhere}')} makes it")
        here = any(Path(each.uri).is_relative_to(LocalWorkspace().folder) for each in made.values())
        if here and (file := scene_page_file(scene)).is_file():
            print(f"  {'scene':<6} {file.as_uri()}")
        if open_page and (page := made.get("page")) and page.uri.startswith("/"):
            webbrowser.open(self._link(page, scene))

    def _link(self, asset: Asset, scene: str) -> str:
        """Return the URL of an asset; the command that opens it if it is on another machine."""
        if asset.uri.startswith("/"):
            return (Path(asset.uri) / OPENED[asset.kind][1]).as_uri()
        if asset.kind == "page":
            return typed(f"page --scene {scene} --version {asset.version}{self._elsewhere}")
        return asset.uri
