"""What changed between two visits: the content of `changes.json`."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from jobs.geometry import Similarity

__all__ = ["Change", "Changes", "Kind", "Origin", "ToModel"]

_NAMED = 3  # changes that are described one by one

Kind = Literal["new", "gone", "moved", "changed"]
"""Something that was not there, that is no longer there or that is elsewhere, or a surface that looks different."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class ToModel(_Record):
    """The map from the scene frame to the frame of the newer model, in which camera paths are: see `Similarity`."""

    scale: float = 1.0
    rotation: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, similarity: Similarity) -> Self:
        """Record a map."""
        rotation, translation = similarity.rotation.tolist(), similarity.translation.tolist()
        return cls(scale=similarity.scale, rotation=rotation, translation=translation)

    @property
    def similarity(self) -> Similarity:
        """Return the map."""
        return Similarity(self.scale, np.array(self.rotation), np.array(self.translation))


class Origin(_Record):
    """Where something that was moved was before.

    Args:
        centre: (3,) in the scene frame.
        low, high: (3,) corners of its box, in the scene frame.
        distance: from there to the new place, in metres or scene units.
        fit: the share of either shape, then and now, that lies on the other.
    """

    centre: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    distance: float
    fit: float


class Change(_Record):
    """A connected part of the scene that changed.

    Args:
        kind: what happened to it.
        centre: (3,) in the scene frame; where it is now, if it was moved.
        low, high: (3,) corners of its box, in the scene frame.
        area: as seen from the front, in the unit of `Changes.unit`.
        times_noise: by how much it differs, as a multiple of what light, noise and inexact depths do there.
        photos: how many photos show each part of it, in the median.
        confidence: high if it differs by twice what is needed to be reported.
        origin: where it was; None unless it was moved.
        name: that people gave to the area in which its centre is; "" without one.
    """

    kind: Kind
    centre: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    area: float
    times_noise: float
    photos: int
    confidence: Literal["high", "fair"]
    origin: Origin | None = None
    name: str = ""


class Changes(_Record):
    """All changes between two visits.

    Args:
        unit: of areas: "m²", or "square units" if the scene has no scale.
        area_error: the standard error that the scale adds to an area, as a share of it; 0 without a scale.
        changes: the largest first.
        compared: the share of the pixels of now whose surfaces both visits saw well enough to compare.
        least: the smallest area that would have been reported.
        needed: by what multiple of light, noise and inexact depths it would have to differ.
        pictures: files of photos of now on which the changes are marked; one photo if there are none.
        to_model: the map from the scene frame to the frame of the newer model, in which its camera paths are.
        voxel: the side of a voxel of `changes.ply`, in scene units; 0 if it is not known.
        leaves: the area of leaves that have another colour, as by the season. They are no changes.
    """

    unit: Literal["m²", "square units"]
    area_error: float
    changes: tuple[Change, ...]
    compared: float
    least: float
    needed: float
    pictures: tuple[str, ...] = ()
    to_model: ToModel = ToModel()
    voxel: float = 0.0
    leaves: float = 0.0

    @property
    def area(self) -> float:
        """Return the area of all changes."""
        return sum(change.area for change in self.changes)

    @property
    def words(self) -> str:
        """Describe the changes in one line, the largest by kind and area."""
        leaves = f", apart from {_short(self.leaves)} {self.unit} of leaves in another colour" if self.leaves else ""
        if not self.changes:
            return f"nothing larger than {_short(self.least)} {self.unit}{leaves}"
        listed = [self._describe(change) for change in self.changes[:_NAMED]]
        more = [f"{len(self.changes) - _NAMED} more"] if len(self.changes) > _NAMED else []
        places = f"{len(self.changes)} place{'s' if len(self.changes) > 1 else ''}"
        return f"{_short(self.area)} {self.unit} in {places}: {', '.join(listed + more)}{leaves}"

    def _describe(self, change: Change) -> str:
        length = "m" if self.unit == "m²" else "units"
        far = f" by {_short(change.origin.distance)} {length}" if change.origin else ""
        name = f"{change.name}: " if change.name else ""
        return f"{name}{change.kind} {_short(change.area)} {self.unit}{far}"


def _short(value: float) -> str:
    """Return a figure with two digits, and never as 1.2e+02."""
    return f"{float(f'{value:.2g}'):g}"
