"""Render the 3D page of an export: one file that shows Gaussians in a browser, without a network.

A scene's page contains the same document. It takes only the data from an export, so that no script but this project's
can run.
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from jobs.errors import InvalidInput
from jobs.web.policy import script_sources

__all__ = ["Numbers", "Scene3D", "View", "read", "render", "script_source"]

_TEMPLATE = Path(__file__).with_name("splats.html")
_DATA = re.compile(r' id="view">(.*?)</script>\s*<script type="text/plain" id="splats">(.*?)</script>')

Numbers = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_Tangent = Annotated[float, Field(gt=0, le=100)]


class View(BaseModel):
    """The first view of a scene, and the limits of navigation. Positions are in scene units, with +Y up.

    Args:
        eye, target: the first position, and the point that it looks at and turns about.
        half_field: the tangents of half the horizontal and half the vertical field of view that must fit the window.
        seen_from: directions of length 1 from the target to the photos' cameras; empty if all of them are allowed.
        low, high: corners of the box in which the target stays.
        kind: what people call the Gaussians.
    """

    eye: Numbers
    target: Numbers
    half_field: tuple[_Tangent, _Tangent]
    seen_from: list[Numbers]
    low: Numbers
    high: Numbers
    kind: Literal["points", "splats"]


class Scene3D(NamedTuple):
    """The content of a 3D page: the view, and an SPZ file of Gaussians in base64."""

    view: View
    splats: str


def render(scene: str, shown: Scene3D) -> str:
    """Return the page as HTML."""
    text = _TEMPLATE.read_text().replace("{{script}}", script_source()).replace("{{scene}}", html.escape(scene))
    return text.replace("{{view}}", shown.view.model_dump_json()).replace("{{splats}}", shown.splats)


def script_source() -> str:
    """Return the source expression by which a content security policy admits the page's script."""
    return script_sources(_TEMPLATE.read_text())


def read(file: Path) -> Scene3D | None:
    """Return what a 3D page shows; None if an earlier version of this program made it.

    Raises:
        InvalidInput: the file cannot be read, or its data is damaged.
    """
    try:
        found = _DATA.search(file.read_text())
        if found is None or '"half_field"' not in found[1]:
            return None
        base64.b64decode(found[2], validate=True)
        return Scene3D(View.model_validate_json(found[1]), found[2])
    except (OSError, ValueError, ValidationError) as error:
        raise InvalidInput(f"{file} is damaged: {error}. Export the model again.") from error
