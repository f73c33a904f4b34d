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
from jobs.program import typed
from jobs.web.quality import Version, total
from jobs.web.trials import Trial, below, trial
from jobs.web.verdict import judge

__all__ = ["Choice", "ModelVersion", "choose", "model_versions", "note_model", "pin_model", "version_of"]


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
        return self.version.model_title

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
        trial: why the newest is a trial; None if it is not.
        worse: why the shown one, which is pinned, is a trial; None if it is not.
    """

    shown: ModelVersion
    newest: ModelVersion
    trial: Trial | None = None
    worse: Trial | None = None

    @property
    def remark(self) -> str:
        """Return sentences about a better or a newer model that is not shown; "" if there is none."""
        is_newest = self.newest == self.shown
        if is_newest and not self.worse:
            return ""
        scene = scene_of(self.shown.asset.name)
        pinned = ", which is pinned" if self.shown.asset.marks.pinned else ""
        text = f"Scene {scene} is shown by {self.shown.title}{pinned}."
        if self.worse:
            better = self.worse.than
            pin = typed(f"pin --scene {scene} --model-version {better.number or better.version}")
            text += f" It {self.worse.reason} than {better.model_title}; to show that one: {pin}."
            is_newest = is_newest or better == self.newest.version
        return (
            text if is_newest else f"{text} The newest{self._compared}; --model-version {self.newest.given} takes it."
        )

    @property
    def _compared(self) -> str:
        """Return how the newest model compares with the one that is shown, after the words "The newest"."""
        if self.trial:
            than = "" if self.trial.than == self.shown.version else f" than {self.trial.than.model_title}"
            return f", {self.newest.title}, {self.trial.reason}{than}"
        same_size = self.newest.version.image_size == self.shown.version.image_size
        if same_size and (difference := below(self.newest.version, self.shown.version)):
            return f", {self.newest.title}, is {abs(difference):.1f} dB {'worse' if difference > 0 else 'better'}"
        return f" is {self.newest.title}"


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

    A model is good if it is no trial, as `jobs/web/trials.py` decides. A model without figures is good.
    """
    if not models:
        return None
    newest, versions = models[-1], [each.version for each in models]
    pinned = [model for model in models if model.asset.marks.pinned]
    if pinned:
        shown = max(pinned, key=lambda model: model.asset.marks.pinned or model.asset.created)
        return Choice(shown, newest, trial([shown.version], newest.version), trial(versions, shown.version))
    shown = next((model for model in reversed(models) if not trial(versions, model.version)), newest)
    return Choice(shown, newest, trial(versions, newest.version))


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
