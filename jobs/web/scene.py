"""Render the page of a scene: all its videos and versions in one file, those of the shown model first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.text import encodable
from jobs.web.templates import environment
from jobs.web.verdict import Verdict

__all__ = ["Clip", "ScenePage", "render_scene"]


@dataclass(frozen=True)
class Clip:
    """A video of a scene.

    Args:
        title: what it shows, e.g. "tour".
        about: its date, its visit and its model, for people.
        remark: why it is shown first, or why not; "" if there is nothing to say.
        verdict: on its model; None if nothing is known.
        poster: a small picture as a `data:` address; "" if there is none.
        video: the address of the file; "" if it cannot be reached from here.
        links: more addresses by name, e.g. "page".
        command: the command that fetches it; "" if it can be reached from here.
        trial: whether its model is much worse than another.
    """

    title: str
    about: str
    remark: str = ""
    verdict: Verdict | None = None
    poster: str = ""
    video: str = ""
    links: dict[str, str] = field(default_factory=dict)
    command: str = ""
    trial: bool = False


@dataclass(frozen=True)
class ScenePage:
    """What a scene's page shows.

    Args:
        scene: its name.
        summary: how many visits, models and videos there are.
        remark: sentences about a better or a newer model that is not shown; "" if there is none.
        clips: its videos, those of the model that it is shown by first, trials last.
        comparisons: videos of then and now, the newest first.
        changes: what has changed between two visits, the newest first.
        columns, rows: the table of its models in the order of the clips, each row with "shown", "trial" or "".
        left_out: how many older videos are not shown.
        state: changes if anything that the page shows changes.
    """

    scene: str
    summary: str
    remark: str
    clips: Sequence[Clip]
    comparisons: Sequence[Clip]
    changes: Sequence[Clip]
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    left_out: int = 0
    state: str = ""


def render_scene(page: ScenePage, gallery: str = "") -> str:
    """Return the page as HTML. Everything that people wrote is escaped.

    Args:
        page: what it shows.
        gallery: the address of the gallery; "" if there is none.
    """
    return encodable(environment().get_template("scene.html").render(page=page, gallery=gallery))
