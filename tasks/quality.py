"""How good the versions of a scene's model are, side by side, and the gate that keeps a worse one from being taken."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from blocks import Asset, Workspace
from jobs.errors import GateRefused
from jobs.names import asset_name
from jobs.web.chart import as_data
from jobs.web.quality import COLUMNS, Version, fall, plot, row, total, warning
from tasks.patience import patiently
from tasks.stage import Gate

__all__ = ["psnr_gate", "show_quality"]


async def show_quality(workspace: Workspace, scene: str, model: Asset) -> list[Version]:
    """Show all versions of a scene's model: an artifact, and a warning if `model` is worse than the one before it.

    Returns:
        The versions up to that of `model`, oldest first.
    """
    registered = await patiently(lambda: workspace.assets(asset_name(scene, "model")))
    models = sorted([model, *(each for each in registered if str(each) != str(model))], key=lambda each: each.created)
    datasets = await patiently(lambda: workspace.assets(asset_name(scene, "dataset")))
    by_name = {str(dataset): dataset for dataset in datasets}
    versions = [_version(workspace, each, by_name.get(each.tags.get("dataset", ""))) for each in models]
    own = models.index(model)
    if said := warning(versions, versions[own]):
        get_run_logger().warning("%s: %s", model, said)
    lines = [f"**{said}**\n"] if said else []
    lines += [f"|{'|'.join(COLUMNS)}|", "|---" * len(COLUMNS) + "|"]
    lines += [
        f"|{'|'.join(_cell(cell, bold=each is versions[own]) for cell in row(each, workspace.currency))}|"
        for each in versions
    ]
    lines += ["", f"![PSNR over the versions]({as_data(drawn)})"] if (drawn := plot(versions)) else []
    description = f"The versions of {scene}'s model" + (f". {said}" if said else "")
    await acreate_markdown_artifact("\n".join(lines), key=f"{scene}-quality", description=description)
    return versions[: own + 1]


def psnr_gate(most: float) -> Gate:
    """A gate for models: their PSNR may be at most so many dB below that of the last version made the same way."""

    def gate(workspace: Workspace, tags: Mapping[str, str]) -> None:
        scene, now = tags["scene"], datetime.now(timezone.utc)
        models = workspace.assets(asset_name(scene, "model"))
        made = Asset(name="", version=tags["capture_version"], kind="model", tags=dict(tags), uri="", created=now)
        found = fall([_version(workspace, model, None) for model in models], _version(workspace, made, None))
        if found and found[0] > most:
            raise GateRefused(
                f"scene {scene}: the new model's PSNR, {tags['psnr']} dB, is {found[0]:.2f} dB below that of version "
                f"{found[1].title}; {most:g} dB are allowed (max_psnr_fall), so it is not registered. Look for "
                "blur, other light or moving things in the new photos; or run again without max_psnr_fall, and it is "
                "taken as it is: nothing is trained again. To have it trained again, add a refresh of train."
            )

    return gate


def _version(workspace: Workspace, model: Asset, dataset: Asset | None) -> Version:
    """What the tags of a model and of its dataset say; of assets that a person registered, little or nothing."""
    tags, made_of = model.tags, dataset.tags if dataset else {}
    capture = tags.get("capture_version", model.version.partition("-")[0])
    seconds = [_number(each.get("job_seconds")) for each in (made_of, tags)]
    costs = [workspace.cost(each) if each else None for each in (dataset, model)]
    steps, side = _number(tags.get("steps")), _number(tags.get("image_size"))
    return Version(
        version=model.version,
        number=model.number,
        capture=int(capture) if capture.isdigit() else 0,
        created=model.created,
        options=tags.get("options"),
        method=tags.get("method"),
        image_size=None if side is None else int(side),
        psnr=_number(tags.get("psnr")),
        ssim=_number(tags.get("ssim")),
        lpips=_number(tags.get("lpips")),
        registered=made_of.get("registered"),
        steps=None if steps is None else int(steps),
        seconds=total(seconds),
        cost=total(costs),
    )


def _number(text: str | None) -> float | None:
    """A figure from a tag; None for "not available" and what a person wrote by hand."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _cell(text: str, bold: bool) -> str:
    escaped = text.replace("|", "\\|")
    return f"**{escaped}**" if bold else escaped
