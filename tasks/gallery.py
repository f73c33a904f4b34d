"""Write the gallery of a workspace and a page for each of its scenes, as files of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from prefect import get_run_logger

from blocks import Asset, LocalWorkspace, Workspace
from blocks.local_files import replace_durably
from jobs.errors import InvalidInput
from jobs.names import asset_name
from jobs.web import gallery, quality, templates
from jobs.web.gallery import Card
from jobs.web.scene import Clip, ScenePage, render_scene
from jobs.web.trials import Trial, trial
from jobs.web.verdict import Verdict
from tasks.choice import Choice, ModelVersion, choose, model_versions
from tasks.find import newest_made_of
from tasks.patience import patiently
from tasks.summary import poster_of, verdict_of
from tasks.workspace import is_here, page_command, reference_to

__all__ = [
    "gallery_file",
    "refresh_gallery",
    "refresh_scene_page",
    "scene_page_file",
    "update_pages",
    "write_gallery",
    "write_scene_page",
]

_AT_ONCE = 8
_MOST_CLIPS = 60
_STATE = re.compile(r'<meta name="state" content="([0-9a-f]*)">')
_CODE = "".join(
    hashlib.sha256(file.read_bytes()).hexdigest()
    for folder in (Path(__file__).parent, templates.FOLDER)
    for file in sorted(folder.glob("*.*"))
)
"""Checksums of the code that makes pages, so that an update of this project renews them."""


class _Rank(IntEnum):
    """The order of a scene's models, and of their videos, on its page."""

    SHOWN = 0
    """The model that the scene is shown by."""
    OTHER = 1
    TRIAL = 2


_STATES = {_Rank.SHOWN: "shown", _Rank.OTHER: "", _Rank.TRIAL: "trial"}


@dataclass(frozen=True)
class _Scene:
    """The assets of a scene, each list oldest first, and the file of its page."""

    workspace: Workspace
    name: str
    page: Path
    visits: Sequence[Asset]
    models: Sequence[ModelVersion]
    datasets: dict[str, Asset]
    videos: Sequence[Asset]
    comparisons: Sequence[Asset]
    pages: Sequence[Asset]
    exports: Sequence[Asset]
    changes: Sequence[Asset]

    @classmethod
    def read(cls, workspace: Workspace, scene: str, page: Path) -> _Scene:
        """List everything. Blocks."""
        video, pages, export, comparison, dataset, changes = (
            workspace.assets(asset_name(scene, product))
            for product in ("video", "page", "export", "comparison", "dataset", "changes")
        )
        datasets = {str(each): each for each in dataset}
        models = model_versions(workspace, scene)
        visits = workspace.assets(scene)
        return cls(workspace, scene, page, visits, models, datasets, video, comparison, pages, export, changes)

    @cached_property
    def choice(self) -> Choice | None:
        """Return the model that the scene is shown by."""
        return choose(self.models)

    @cached_property
    def state(self) -> str:
        """Return a checksum that changes with these assets, the currency, and the code of the pages."""
        known = [_CODE, self.workspace.currency]
        assets = [*self.visits, *(each.asset for each in self.models), *self.videos]
        for asset in (*assets, *self.comparisons, *self.pages, *self.exports, *self.changes):
            known.append(f"{asset} {asset.created} {asset.marks.model_dump_json()}")
        return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]

    def model_of(self, video: Asset) -> ModelVersion | None:
        """Return the model of a video; None if it is gone."""
        model = video.provenance.inputs.get("model")
        return next((each for each in self.models if str(each.asset) == model), None)

    def rank(self, model: ModelVersion | None) -> _Rank:
        """Return the place of a model and its videos on the scene's page."""
        if model and self.choice and model == self.choice.shown:
            return _Rank.SHOWN
        return _Rank.TRIAL if model and self.trial(model) else _Rank.OTHER

    def trial(self, model: ModelVersion) -> Trial | None:
        """Return why a model is a trial; None if it is good."""
        return trial([each.version for each in self.models], model.version)

    def verdict(self, model: Asset) -> Verdict | None:
        """Judge a model."""
        return verdict_of(self.datasets.get(model.provenance.inputs.get("dataset", "")), model)


def gallery_file(workspace: Workspace) -> Path:
    """Return where the gallery of a workspace is, on this machine. Its scenes' pages are in the folder beside it."""
    name = "gallery" if is_here(workspace) else f"gallery-{re.sub(r'[^a-z0-9]+', '-', reference_to(workspace).lower())}"
    return LocalWorkspace().folder / f"{name}.html"


def scene_page_file(scene: str) -> Path:
    """Return where the page of a scene of this machine's workspace is."""
    return _page_file(scene, gallery_file(LocalWorkspace()))


def write_gallery(workspace: Workspace, file: Path) -> int:
    """Write the gallery, and the page of each scene in the folder beside it. Blocks.

    A file is left alone if neither what it shows nor this project's code has changed.

    Returns:
        The number of scenes.

    Raises:
        InvalidInput: a file cannot be written.
        RebelNerfError: the workspace cannot be reached.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda scene: _Scene.read(workspace, scene, _page_file(scene, file)), workspace.scenes()))
        list(pool.map(lambda scene: _write_scene(scene, file), found))
        state = hashlib.sha256("".join(scene.state for scene in found).encode()).hexdigest()[:16]
        if _state_of(file) != state:
            cards = sorted(pool.map(lambda scene: _card(scene, file), found), key=lambda card: card.made, reverse=True)
            where = "the workspace of this machine" if is_here(workspace) else reference_to(workspace)
            _write(file, gallery.render(cards, where, datetime.now(timezone.utc), state))
    return len(found)


def write_scene_page(workspace: Workspace, scene: str, file: Path) -> Path:
    """Write the page of one scene into the folder beside a gallery, and return its path. Blocks.

    Raises:
        InvalidInput: the file cannot be written.
        RebelNerfError: the workspace cannot be reached.
    """
    return _write_scene(_Scene.read(workspace, scene, _page_file(scene, file)), file)


def update_pages(workspace: Workspace, scene: str) -> None:
    """Write the page of a scene, or delete it if the scene is gone, and the gallery if there is one. Blocks.

    Nothing is done for a workspace that is not on this machine.

    Raises:
        InvalidInput: a file cannot be written.
    """
    if not isinstance(workspace, LocalWorkspace):
        return
    file = gallery_file(workspace)
    if scene in workspace.scenes():
        write_scene_page(workspace, scene, file)
    else:
        _page_file(scene, file).unlink(missing_ok=True)
    if file.is_file():
        write_gallery(workspace, file)


async def refresh_scene_page(workspace: Workspace, scene: str) -> None:
    """Bring the page of a scene of this machine up to date. A failure is only logged."""
    if not is_here(workspace):
        return  # its videos cannot be opened from here; `rebel-nerf gallery` makes the page
    await _refresh(f"scene {scene}: its page", lambda: write_scene_page(workspace, scene, gallery_file(workspace)))


async def refresh_gallery(workspace: Workspace) -> None:
    """Bring the gallery of a workspace and the pages of its scenes up to date. A failure is only logged."""
    name = f"the gallery of {reference_to(workspace)}"
    await _refresh(name, lambda: write_gallery(workspace, gallery_file(workspace)))


async def _refresh(name: str, write: Callable[[], object]) -> None:
    try:
        await patiently(write)
    except Exception as error:  # the run has succeeded without it
        get_run_logger().warning("%s could not be written: %s", name, error)


def _write_scene(scene: _Scene, gallery_file: Path) -> Path:
    if _state_of(scene.page) != scene.state:
        _write(scene.page, render_scene(_scene_page(scene), f"../{gallery_file.name}"))
    return scene.page


def _page_file(scene: str, gallery_file: Path) -> Path:
    return gallery_file.with_suffix("") / f"{scene}.html"


def _state_of(file: Path) -> str | None:
    try:
        found = _STATE.search(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def _write(file: Path, text: str) -> None:
    try:
        replace_durably(file, text)  # in one step, because two runs may write the same page
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written ({error.strerror}). Name another file.") from error


def _card(scene: _Scene, gallery_file: Path) -> Card:
    """Return a scene's card: the model that shows it, and the newest video of that model."""
    visits, models = len(scene.visits), len(scene.models)
    link = f"{gallery_file.stem}/{scene.name}.html"
    if scene.choice is None:
        made = max((visit.created for visit in scene.visits), default=None)
        return Card(scene.name, f"{made:%Y-%m-%d}" if made else "", visits, models, link=link if models else "")
    model = scene.choice.shown.asset
    video = newest_made_of(scene.videos, model=model)
    return Card(
        scene.name,
        f"{model.created:%Y-%m-%d}",
        visits,
        models,
        verdict=scene.verdict(model),
        poster=poster_of(scene.workspace, video) if video else "",
        link=link,
        pinned=model.marks.pinned is not None,
        note=model.marks.note,
        remark=f"It {worse.reason} than {worse.than.model_title}." if (worse := scene.choice.worse) else "",
    )


def _scene_page(scene: _Scene) -> ScenePage:
    videos = sorted(scene.videos, key=lambda video: (scene.rank(scene.model_of(video)), -video.created.timestamp()))
    models = list(reversed(scene.models))
    models.sort(key=scene.rank)  # it keeps the newest first among equals
    columns, rows = quality.table([each.version for each in models], scene.workspace.currency)
    return ScenePage(
        scene=scene.name,
        summary=", ".join(
            f"{number} {what}{'' if number == 1 else 's'}"
            for number, what in ((len(scene.visits), "visit"), (len(scene.models), "model"), (len(videos), "video"))
        ),
        remark=scene.choice.remark if scene.choice else "",
        clips=[_clip(scene, video) for video in videos[:_MOST_CLIPS]],
        comparisons=[_comparison(scene, each) for each in reversed(scene.comparisons)],
        changes=[_changes(scene, each) for each in reversed(scene.changes)],
        columns=columns,
        rows=[(_STATES[scene.rank(model)], row) for model, row in zip(models, rows, strict=True)],
        left_out=max(0, len(videos) - _MOST_CLIPS),
        state=scene.state,
    )


def _clip(scene: _Scene, video: Asset) -> Clip:
    model = scene.model_of(video)
    rank = scene.rank(model)
    about = [f"{video.created:%Y-%m-%d %H:%M}", _visit(scene, video.provenance.capture_version or "?")]
    about += [model.title] if model else []
    page = newest_made_of(scene.pages, video=video)
    links = {"page": _address(scene, page, "index.html")} if page else {}
    if model and (export := newest_made_of(scene.exports, model=model.asset)):
        links["3D"] = _address(scene, export, "index.html")
    remark = ""
    if model and rank is _Rank.SHOWN:
        remark = f"The scene is shown by this model{', which is pinned' if model.asset.marks.pinned else ''}."
    if model and (worse := scene.trial(model)):
        remark = f"{remark} This model {worse.reason} than {worse.than.model_title}.".lstrip()
    address = _address(scene, video, "video.mp4")
    return Clip(
        title=video.tags.get("path", "video"),
        about=" · ".join(about),
        remark=remark,
        verdict=scene.verdict(model.asset) if model else None,
        poster=poster_of(scene.workspace, video),
        video=address,
        links={name: link for name, link in links.items() if link},
        command="" if address or page is None else page_command(scene.workspace, scene.name, page),
        trial=rank is _Rank.TRIAL,
    )


def _comparison(scene: _Scene, video: Asset) -> Clip:
    inputs = video.provenance.inputs
    return Clip(
        title=_visits(scene, video, {str(each): each for each in scene.videos}),
        about=f"made {video.created:%Y-%m-%d %H:%M} · {inputs.get('then', '?')} and {inputs.get('now', '?')}",
        poster=poster_of(scene.workspace, video),
        video=_address(scene, video, "video.mp4"),
    )


def _changes(scene: _Scene, asset: Asset) -> Clip:
    inputs = asset.provenance.inputs
    links = {"list": _address(scene, asset, "changes.json"), "points": _address(scene, asset, "changes.ply")}
    marked = newest_made_of(scene.comparisons, marked=asset)
    is_there = marked is not None and (Path(marked.uri) / "changes.mp4").is_file()
    return Clip(
        title=_visits(scene, asset, scene.datasets),
        about=f"made {asset.created:%Y-%m-%d %H:%M} · {inputs.get('older', '?')} and {inputs.get('newer', '?')}",
        remark=f"Changed: {asset.tags.get('changed', '?')}.",
        poster=poster_of(scene.workspace, asset),
        video=_address(scene, marked, "changes.mp4") if marked and is_there else "",
        links={name: link for name, link in links.items() if link},
    )


def _visits(scene: _Scene, asset: Asset, known: dict[str, Asset]) -> str:
    """Return the two visits that an asset compares. Its inputs `then` and `now` are among the known assets, or gone."""
    then, now = (known.get(asset.provenance.inputs.get(side, "")) for side in ("then", "now"))
    return " → ".join(_visit(scene, each.provenance.capture_version or "?") if each else "?" for each in (then, now))


def _visit(scene: _Scene, version: str) -> str:
    """Return a visit's number and the day on which its photos were registered."""
    day = next((f", {visit.created:%Y-%m-%d}" for visit in scene.visits if visit.version == version), "")
    return f"visit {version}{day}"


def _address(scene: _Scene, asset: Asset, file: str) -> str:
    """Return the address of a file of an asset on the scene's page; "" if it is not on this machine.

    Within a workspace's folder, it is relative, so that it also holds where a server shows that folder.
    """
    if not asset.uri.startswith("/"):
        return ""
    place, folder = Path(asset.uri) / file, scene.page.parent
    if place.is_relative_to(folder.parent):
        return quote(os.path.relpath(place, folder))
    return place.as_uri()
