"""What people note about a model: a pin and a few words. Unlike everything else about an asset, it can change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["MOST_NOTE_CHARACTERS", "Marks"]

MOST_NOTE_CHARACTERS = 500
"""Of a note. Azure ML's tags hold 1000."""

_PINNED, _NOTE = "pinned", "note"


class Marks(BaseModel):
    """What people have noted about a model.

    Args:
        pinned: when the model was pinned; None if it is not. Of several, the one pinned last is the scene's.
        note: a few words; "" if there are none.
    """

    model_config = ConfigDict(frozen=True)

    pinned: datetime | None = None
    note: Annotated[str, StringConstraints(max_length=MOST_NOTE_CHARACTERS, strip_whitespace=True)] = ""

    @classmethod
    def take_from(cls, tags: dict[str, str]) -> Marks:
        """Remove the tags that hold marks from `tags`, and return the marks. A pin that is no time is none."""
        pinned, note = tags.pop(_PINNED, ""), tags.pop(_NOTE, "")
        try:
            return cls(pinned=datetime.fromisoformat(pinned) if pinned else None, note=note[:MOST_NOTE_CHARACTERS])
        except ValueError:
            return cls(note=note[:MOST_NOTE_CHARACTERS])

    def put_into(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return `tags` with these marks in place of those that it holds."""
        others = {name: value for name, value in tags.items() if name not in (_PINNED, _NOTE)}
        own = {_PINNED: self.pinned.isoformat() if self.pinned else "", _NOTE: self.note}
        return {**others, **{name: value for name, value in own.items() if value}}
