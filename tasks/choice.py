"""List the versions of a scene's model, and choose the one that shows the scene if nobody names one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from blocks import Asset, Marks, Workspace
from blocks.marks import MOST_NOTE_CHARACTERS
from blocks.records import parse_registered
from jobs.errors import InvalidInput
from jobs.names import asset_name, scene_of
from jobs.web.quality import Version, total
from jobs.web.verdict import judge

__all__ = ["Choice", "ModelVersion", "choose", "model_versions", "much_worse", "note_model", "pin_model", "version_of"]

_MUCH_WORSE = 2.0
"""A newer model that is more than this many dB below the best is a trial, and does not replace it."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered model of a scene.

    Args:
        asset: the model.
        version: its figures.
    """

    asset: Asset
    version: Version

    @property
    def title(self) -> str:
        """Return its number, its version and, if it is known, its PSNR, for people."""
        version = self.version
        psnr = f", {version.said}" if version.said else ""
        return f"model {version.number or '–'} ({version.version}{psnr})"

    @property
    def grade(self) -> str:
        """Return how good it is, in a word; "–" if nothing is known."""
        version = self.version
        verdict = judge(parse_registered(version.registered), version.psnr, version.steps, version.psnr_colours_fitted)
        return verdict.grade if verdict else "–"

    @property
    def given(self) -> str:
        """Return the value of `--model-version` that chooses it."""
        return str(self.version.number or self.version.version)


@dataclass(frozen=True)
class Choice:
    """The model that a scene is shown by.

    Args:
        shown: that model.
        newest: the newest model, which may be the same.
        best: the model with which the newest one is compared.
    """

    shown: ModelVersion
    newest: ModelVersion
    best: ModelVersion

    @property
    def said(self) -> str:
        """Return a sentence about a newer model that is not shown; "" if the newest is shown."""
        if self.newest == self.shown:
            return ""
        pinned = ", which is pinned" if self.shown.asset.marks.pinned else ""
        worse = _below(self.newest, self.best)
        newest = f"is {self.newest.title}"
        if worse:
            than = "" if self.best == self.shown else f" than {self.best.title}"
            newest = f", {self.newest.title}, is {abs(worse):.1f} dB {'worse' if worse > 0 else 'better'}{than}"
        return (
            f"Scene {scene_of(self.shown.asset.name)} is shown by {self.shown.title}{pinned}. "
            f"The newest{'' if worse else ' '}{newest}; --model-version {self.newest.given} takes it."
        )


def model_versions(workspace: Workspace, scene: str, also: Asset | None = None) -> list[ModelVersion]:
    """Return the registered models of a scene with their figures, oldest first.

    Args:
        workspace: where the models are registered.
        scene: the scene's name.
        also: a model that was registered just now, which a listing may not contain yet.
    """
    registered = workspace.assets(asset_name(scene, "model"))
    if also and str(also) not in map(str, registered):
        registered.append(also)
    datasets = {str(dataset): dataset for dataset in workspace.assets(asset_name(scene, "dataset"))}
    models = sorted(registered, key=lambda model: model.created)
    return [
        ModelVersion(model, version_of(workspace, model, datasets.get(model.provenance.inputs.get("dataset", ""))))
        for model in models
    ]


def choose(models: Sequence[ModelVersion]) -> Choice | None:
    """Choose the model that a scene is shown by: the pinned one, else the newest good one; None if there is no model.

    A model is good unless its PSNR is more than 2 dB below the best of those whose pictures were at least as large:
    PSNR rises as pictures get smaller, so a larger picture's lower figure says nothing. A model whose PSNR is not known
    is not judged.
    """
    if not models:
        return None
    newest = models[-1]
    pinned = [model for model in models if model.asset.marks.pinned]
    if pinned:
        shown = max(pinned, key=lambda model: model.asset.marks.pinned or model.asset.created)
        return Choice(shown, newest, shown)
    shown = next(model for model in reversed(models) if much_worse(models, model) is None)
    return Choice(shown, newest, _best(models, newest))


def much_worse(models: Sequence[ModelVersion], own: ModelVersion) -> float | None:
    """Return by how many dB a model is worse than the best one; None if it is a good model."""
    below = _below(own, _best(models, own))
    return below if below > _MUCH_WORSE else None


def _best(models: Sequence[ModelVersion], own: ModelVersion) -> ModelVersion:
    """Return the model that `own` falls furthest below; `own` itself if there is none."""
    return max(models, key=lambda other: _below(own, other))


def _below(own: ModelVersion, other: ModelVersion) -> float:
    """Return by how many dB one model's PSNR is below another's; 0 if they cannot be compared."""
    if own.version.counted is None or other.version.counted is None:
        return 0.0
    if (own.version.image_size or 0) > (other.version.image_size or 0):
        return 0.0
    return other.version.counted - own.version.counted


def pin_model(workspace: Workspace, model: Asset, pinned: datetime | None) -> Asset:
    """Pin a model, with the time of pinning, or remove its pin. Its note stays."""
    return workspace.mark(model, model.marks.model_copy(update={"pinned": pinned}))


def note_model(workspace: Workspace, model: Asset, note: str) -> Asset:
    """Replace the note of a model, or remove it with an empty one; its pin stays.

    Raises:
        InvalidInput: the note is too long.
    """
    if len(note) > MOST_NOTE_CHARACTERS:
        raise InvalidInput(
            f"scene {model.provenance.scene or model.name}: a note has at most {MOST_NOTE_CHARACTERS} characters; "
            f"this one has {len(note)}. Shorten it."
        )
    return workspace.mark(model, Marks(pinned=model.marks.pinned, note=note))


def version_of(workspace: Workspace, model: Asset, dataset: Asset | None) -> Version:
    """Return the figures in the tags of a model and its dataset. A model that a person registered has few."""
    known = model.provenance
    capture = known.capture_version or model.leading_version
    seconds = [each.provenance.job_seconds if each else None for each in (dataset, model)]
    costs = [workspace.cost(each) if each else None for each in (dataset, model)]
    steps, side = model.figure("steps"), model.figure("image_size")
    return Version(
        version=model.version,
        number=model.number,
        capture=int(capture) if capture.isdigit() else 0,
        created=model.created,
        options=known.options,
        method=model.tags.get("method"),
        image_size=None if side is None else int(side),
        psnr=model.figure("psnr"),
        psnr_colours_fitted=model.figure("psnr_colours_fitted"),
        ssim=model.figure("ssim"),
        lpips=model.figure("lpips"),
        registered=dataset.tags.get("registered") if dataset else None,
        steps=None if steps is None else int(steps),
        seconds=total(seconds),
        cost=total(costs),
    )
