"""Names of scenes and of their assets, the same in every workspace."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from jobs.text import printable

__all__ = [
    "SUFFIXES",
    "Product",
    "SceneName",
    "asset_name",
    "check_scene_name",
    "scene_of",
    "scenes_among",
    "within",
]

Product = Literal["dataset", "model", "shard", "video", "comparison", "export", "page", "metres", "changes"]

SUFFIXES: dict[Product, str] = {
    "dataset": "-images-to-nerf-dataset",
    "model": "-nerf",
    "video": "-video",
    "shard": "-video-shard",
    "comparison": "-then-and-now",
    "export": "-export",
    "page": "-page",
    "metres": "-metres",
    "changes": "-changes",
}
"""How the name of each product ends. A capture has the scene's own name, so a scene's name must not end like these."""

_SCENE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def asset_name(scene: str, product: Product) -> str:
    """Return the name of the asset that holds a product of a scene, e.g. "facade-nerf"."""
    return scene + SUFFIXES[product]


def within(folder: Path, name: str) -> Path:
    """Return the path of a file that the content of an asset's folder names.

    Raises:
        ValueError: the name leads out of the folder, so it could be any file of this machine.
    """
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{printable(name)} leads out of {folder}")
    return file


def check_scene_name(name: str) -> str:
    """Return a scene's name as it is.

    Raises:
        ValueError: no scene can have it.
    """
    if not _SCENE_NAME.fullmatch(name):
        shown = f"{name[:70]!r}{'…' if len(name) > 70 else ''}"
        raise ValueError(
            f"scene {shown} is not a valid name: use 1 to 63 lower-case letters, digits and hyphens, and start with a "
            "letter or digit. For example: town-hall-2"
        )
    endings = tuple(SUFFIXES.values())
    if name.endswith(endings):
        raise ValueError(
            f"scene {name!r} would share its name with an asset of another scene: {', '.join(endings)} are reserved. "
            "Choose a name with another ending. If a scene has had this name since before the ending was reserved, run "
            "its photos again under another name: its assets stay as they are."
        )
    return name


_VALID = "1 to 63 lower-case letters, digits and hyphens, first a letter or digit, such as town-hall-2"
_NOT_RESERVED = f"a name with another ending than {', '.join(SUFFIXES.values())}"

SceneName = Annotated[
    str,
    AfterValidator(check_scene_name),
    # A pattern alone would be shown to people. Validators say of this: "'1 to 63 lower-case letters …' was expected".
    Field(
        json_schema_extra={
            "if": {"pattern": f"^{_SCENE_NAME.pattern}$"},
            "then": {
                "if": {"type": "string", "pattern": f"({'|'.join(SUFFIXES.values())})$"},
                "then": {"const": _NOT_RESERVED},
            },
            "else": {"const": _VALID},
        }
    ),
]
"""A scene's name: 1 to 63 lower-case letters, digits and hyphens, which Azure ML and file systems accept."""


def scene_of(name: str) -> str:
    """Return the scene that the asset of that name belongs to, e.g. "facade" for "facade-nerf"."""
    ending = next((suffix for suffix in SUFFIXES.values() if name.endswith(suffix)), "")
    return name.removesuffix(ending)


def scenes_among(names: Collection[str], is_capture: Callable[[str], bool]) -> set[str]:
    """Return the scenes to which assets belong.

    A scene may have had a name such as "ten-metres" before that ending was reserved. Its capture is not the product of
    a scene "ten", so `is_capture` is asked about the names of products whose scene has no capture in `names`.

    Args:
        names: the names of assets.
        is_capture: returns whether the asset of that name is a capture.
    """
    found = set()
    for name in names:
        scene = scene_of(name)
        found.add(name if scene not in names and is_capture(name) else scene)
    return found
