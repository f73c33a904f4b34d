"""A scene as the gallery shows it."""

from __future__ import annotations

from pathlib import Path

from blocks import Asset, Workspace
from jobs.names import Product, asset_name
from jobs.web.gallery import Card
from tasks.choice import choose, model_versions
from tasks.summary import poster_of, verdict_of

__all__ = ["card_of"]


def card_of(workspace: Workspace, scene: str) -> Card:
    """Return a scene's card, of the model that it is shown by and the newest video of that model. Blocks."""
    visits, models = workspace.assets(scene), model_versions(workspace, scene)
    choice = choose(models)
    if choice is None:
        made = max((visit.created for visit in visits), default=None)
        return Card(scene, f"{made:%Y-%m-%d}" if made else "", len(visits), 0)
    model = choice.shown.asset
    dataset = workspace.find_asset(*_named(model.tags["dataset"])) if "dataset" in model.tags else None
    videos, pages = _of_model(workspace, scene, "video", model), _of_model(workspace, scene, "page", model)
    link = (Path(pages[-1].uri) / "index.html").as_uri() if pages and pages[-1].uri.startswith("/") else ""
    return Card(
        scene,
        f"{model.created:%Y-%m-%d}",
        len(visits),
        len(models),
        verdict=verdict_of(dataset, model),
        poster=poster_of(workspace, videos[-1]) if videos else "",
        link=link,
        pinned=model.marks.pinned is not None,
        note=model.marks.note,
    )


def _named(asset: str) -> tuple[str, str]:
    name, _, version = asset.partition(":")
    return name, version


def _of_model(workspace: Workspace, scene: str, product: Product, model: Asset) -> list[Asset]:
    made = workspace.assets(asset_name(scene, product))
    return [asset for asset in made if asset.tags.get("model") == str(model)]
