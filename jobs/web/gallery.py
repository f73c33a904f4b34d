"""Render the gallery of a workspace: one page with all its scenes, which needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobs.web.templates import environment
from jobs.web.verdict import Verdict

__all__ = ["Card", "render"]


@dataclass(frozen=True)
class Card:
    """A scene in the gallery.

    Args:
        scene: its name.
        made: the day of the model that the scene is shown by, else of its newest visit.
        visits, models: how many of each there are.
        verdict: on that model; None if there is no model, or no figures.
        poster: a small picture as a `data:` address; "" if there is none.
        link: to the scene's page; "" if it cannot be reached from here.
        pinned: whether that model is pinned.
        note: that model's note.
        remark: that it is much worse than another; "" if it is not.
    """

    scene: str
    made: str
    visits: int
    models: int
    verdict: Verdict | None = None
    poster: str = ""
    link: str = ""
    pinned: bool = False
    note: str = ""
    remark: str = ""


def render(cards: Sequence[Card], workspace: str, made: datetime, state: str = "") -> str:
    """Return the gallery as HTML. Everything that people wrote is escaped.

    Args:
        cards: the scenes, in their order.
        workspace: its name for people.
        made: when the gallery is made, in UTC.
        state: changes if anything that the gallery shows changes.
    """
    template = environment().get_template("gallery.html")
    return template.render(cards=cards, workspace=workspace, made=f"{made:%Y-%m-%d %H:%M} UTC", state=state)
