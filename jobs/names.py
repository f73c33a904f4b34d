"""Names of the assets of a scene, the same in every workspace."""

from __future__ import annotations

from typing import Literal

__all__ = ["SUFFIXES", "Product", "asset_name"]

Product = Literal["dataset", "model", "shard", "video", "comparison", "export", "page"]

SUFFIXES: dict[Product, str] = {
    "dataset": "-images-to-nerf-dataset",
    "model": "-nerf",
    "video": "-video",
    "shard": "-video-shard",
    "comparison": "-then-and-now",
    "export": "-export",
    "page": "-page",
}
"""How the name of each product ends. A capture has the scene's own name, so a scene's name must not end like these."""


def asset_name(scene: str, product: Product) -> str:
    """Return the name of the asset that holds a product of a scene, e.g. "facade-nerf"."""
    return scene + SUFFIXES[product]
