"""What people note about a model: a pin and a note. Unlike everything else about an asset, marks can change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["MOST_NOTE_CHARACTERS", "Marks"]

MOST_NOTE_CHARACTERS = 500
"""The maximum length of a note. Azure ML's tags hold 1000 characters."""

_PINNED, _NOTE = "pinned", "note"


class Marks(BaseModel):
    """What people have noted about a model.

    Args:
        pinned: when it was pinned; None if it is not. If several models are pinned, the last one pinned counts.
        note: a few words; "" if there are none.
    """

    model_config = ConfigDict(frozen=True)

    pinned: datetime | None = None
    note: Annotated[str, StringConstraints(max_length=MOST_NOTE_CHARACTERS, strip_whitespace=True)] = ""

    @classmethod
    def take_from(cls, tags: dict[str, str]) -> Marks:
        """Remove the tags that hold marks from `tags`, and return the marks. A pin that is not a time is ignored."""
        pinned, note = tags.pop(_PINNED, ""), tags.pop(_NOTE, "")
        try:
            return cls(pinned=datetime.fromisoformat(pinned) if pinned else None, note=note[:MOST_NOTE_CHARACTERS])
        except ValueError:
            return cls(note=note[:MOST_NOTE_CHARACTERS])

    def put_into(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return `tags` with their marks replaced by these."""
        others = {name: value for name, value in tags.items() if name not in (_PINNED, _NOTE)}
        own = {_PINNED: self.pinned.isoformat() if self.pinned else "", _NOTE: self.note}
        return {**others, **{name: value for name, value in own.items() if value}}
