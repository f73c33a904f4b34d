"""Names of the assets of a scene, the same in every workspace, and names of files as text."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["SUFFIXES", "Product", "asset_name", "printable"]

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

_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python reads bytes that are not UTF-8


def asset_name(scene: str, product: Product) -> str:
    """Return the name of the asset that holds a product of a scene, e.g. "facade-nerf"."""
    return scene + SUFFIXES[product]


def printable(text: str) -> str:
    """Return text in which each byte of a file's name that is not UTF-8 is written as `\\xNN`."""
    return _SURROGATE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
