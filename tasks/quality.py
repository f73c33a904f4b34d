"""Compare the versions of a scene's model, and refuse a version that is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.events import emit_event

from blocks import Asset, Workspace
from jobs.errors import GateRefused
from jobs.names import asset_name
from jobs.options import TrainOptions
from jobs.web.chart import as_data
from jobs.web.quality import Version, fall, plot, table, warning
from jobs.web.trials import trial
from tasks.choice import choose, model_versions, version_of
from tasks.patience import patiently
from tasks.plan import Gate
from tasks.wanted import current_run

__all__ = ["GOT_WORSE", "Compared", "psnr_gate", "show_quality"]

GOT_WORSE = "rebel-nerf.scene.got-worse"
"""The event of a run whose new model is worse than the one before it. Its payload says how much worse (`said`)."""


class Compared(NamedTuple):
    """The versions up to a model's own, oldest first, and a later one beside which it is a trial."""

    versions: list[Version]
    better: Version | None


async def show_quality(workspace: Workspace, scene: str, model: Asset) -> Compared:
    """Show all versions of a scene's model, as an artifact.

    If `model` is worse than the version before it, warn, and emit the event `GOT_WORSE` if this run trained it.

    Returns:
        The versions up to that of `model`, and a later one that is much better.
    """
    models = await patiently(lambda: model_versions(workspace, scene, model))
    versions = [each.version for each in models]
    own = [str(each.asset) for each in models].index(str(model))
    choice = choose(models)
    shown = choice.remark if choice and (choice.worse or str(choice.shown.asset) != str(model)) else ""
    worse = warning(versions, versions[own])
    if worse and model.provenance.flow_run == str(current_run()):
        emit_event(
            GOT_WORSE, {"prefect.resource.id": f"rebel-nerf.scene.{scene}", "scene": scene}, payload={"said": worse}
        )
    remark = " ".join(filter(None, (worse, shown)))
    if remark:
        get_run_logger().warning("%s: %s", model, remark)
    lines = [f"**{remark}**\n"] if remark else []
    columns, rows = table(versions, workspace.currency)
    lines += [f"|{'|'.join(columns)}|", "|---" * len(columns) + "|"]
    lines += [f"|{'|'.join(_cell(cell, bold=index == own) for cell in cells)}|" for index, cells in enumerate(rows)]
    lines += ["", f"![PSNR over the versions]({as_data(drawn)})"] if (drawn := plot(versions)) else []
    description = f"The versions of {scene}'s model" + (f". {remark}" if remark else "")
    await acreate_markdown_artifact("\n".join(lines), key=f"{scene}-quality", description=description)
    worse_than_later = trial(versions[own + 1 :], versions[own])
    return Compared(versions[: own + 1], worse_than_later.than if worse_than_later else None)


def psnr_gate(most: float, options: TrainOptions) -> Gate:
    """Return a gate that refuses a model more than `most` dB worse than the last version with the same options.

    Which model a training starts from does not matter: a revisit is compared with trainings from the beginning, too.

    Args:
        most: dB of PSNR.
        options: of the training, with the profile's values.
    """

    def gate(workspace: Workspace, tags: Mapping[str, str]) -> None:
        scene, now = tags["scene"], datetime.now(timezone.utc)
        models = workspace.assets(asset_name(scene, "model"))
        made = Asset(name="", version=tags["capture_version"], kind="model", tags=dict(tags), uri="", created=now)
        *before, own = _ignoring_start([version_of(workspace, model, None) for model in (*models, made)], options)
        found = fall(before, own)
        if found and found.decibels > most:
            raise GateRefused(
                f"scene {scene}: the new model's PSNR, {own.counted} dB, is {found.decibels:.2f} dB below that of "
                f"version {found.before.title}; max_psnr_fall allows {most:g} dB, so the model is not registered. Look "
                "for blur, different light or moving things in the new photos. To accept the model without training "
                "it again, run again without max_psnr_fall. To train it again, add train to refresh."
            )

    return gate


def _ignoring_start(versions: Sequence[Version], options: TrainOptions) -> list[Version]:
    """Return versions as if those with these options had all been trained from the beginning."""
    fresh, earlier = (options.model_copy(update={"start": start}).fingerprint()[:8] for start in ("fresh", "earlier"))
    return [each.model_copy(update={"options": fresh}) if each.options == earlier else each for each in versions]


def _cell(text: str, bold: bool) -> str:
    escaped = text.replace("|", "\\|")
    return f"**{escaped}**" if bold else escaped
