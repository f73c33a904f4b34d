"""What structure from motion found, and why pictures have no pose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pycolmap

from jobs.sfm.overlays import Region
from jobs.sfm.search import FEW_MATCHES, Search
from jobs.sfm.shared import registered

__all__ = ["Given", "Outcome"]


@dataclass
class Given:
    """How poses that were given fit the pictures.

    Args:
        number: how many pictures had a given pose.
        refused: why a picture has no pose now, by the picture's name.
        fit: the share of a picture's matching features that show a point of the model; median over the pictures.
        moved: how far the refinement moved the cameras, as a fraction of the scene's size: median and greatest.
        turned: how far it turned them, in degrees: median and greatest.
    """

    number: int
    refused: dict[str, str]
    fit: float = 0.0
    moved: tuple[float, float] = (0.0, 0.0)
    turned: tuple[float, float] = (0.0, 0.0)

    def figures(self) -> dict[str, float | list[float]]:
        """Return the figures for `dataset.json`."""
        return {
            "given": self.number,
            "fit": round(self.fit, 4),
            "moved": [round(value, 6) for value in self.moved],
            "turned_degrees": [round(value, 4) for value in self.turned],
        }


@dataclass
class Outcome:
    """The outcome of structure from motion.

    Args:
        model: the reconstruction with the most registered pictures; None if there is none.
        matching: the kinds of matching that were tried, whether they helped or not.
        mapper: the mappers that were tried, in words, e.g. "global, then incremental".
        models: the number of registered pictures of each separate reconstruction, largest first.
        features: number of features by picture's name.
        best_matches: the number of inlier matches with the best neighbour, by picture's name.
        elsewhere: the names of the pictures that are only in the other models, for each of these.
        search: the features and matches, to which pictures of an earlier dataset can be added.
        only_turned: whether the camera only turned on the spot. Then there is no model.
        connected: the names of the pictures that matches connect, if these are too few for a dataset. Then no poses
            were sought.
        refined: number of cameras whose principal point was refined.
        without_exif: why the focal lengths in EXIF were ignored, in words; None if they were not.
        lenses: which lenses were found for photos without a known camera, or that all are fisheyes, in words; else
            None.
        look_alikes: the names of the pictures of each place, the largest first, if several places look so alike that
            they had been merged.
        apart_by_gps: whether GPS separated these places.
        confused: whether places that look alike could not be separated, so poses are wrong.
        given: how given poses fit the pictures; None if there were none.
        fisheye: whether all lenses are fisheyes.
        cropped: the names of the pictures that are cropped off the middle, each of which has its own camera.
    """

    model: pycolmap.Reconstruction | None = None
    matching: tuple[str, ...] = ()
    mapper: str = ""
    models: list[int] = field(default_factory=list)
    features: dict[str, int] = field(default_factory=dict)
    best_matches: Counter[str] = field(default_factory=Counter)
    elsewhere: list[set[str]] = field(default_factory=list)
    search: Search | None = None
    only_turned: bool = False
    connected: set[str] | None = None
    refined: int = 0
    without_exif: str | None = None
    lenses: str | None = None
    look_alikes: list[set[str]] = field(default_factory=list)
    apart_by_gps: bool = False
    confused: bool = False
    given: Given | None = None
    fisheye: bool = False
    cropped: list[str] = field(default_factory=list)

    @property
    def overlays(self) -> dict[str, list[Region]]:
        """Return the regions that are the same in most pictures, by picture's name."""
        return self.search.overlays if self.search else {}

    @property
    def registered(self) -> set[str]:
        """Return the names of the pictures with a pose."""
        return registered(self.model) if self.model else set()

    def why_not(self, name: str) -> str:
        """Return why a picture has no pose, in words."""
        if self.given and name in self.given.refused:
            return self.given.refused[name]
        if self.only_turned:
            return "no parallax: the camera only turned on the spot"
        if self.features[name] < FEW_MATCHES:
            return f"too few features: {self.features[name]} (blurred, dark, or without texture)"
        if self.best_matches[name] < FEW_MATCHES:
            return f"too few matches: {self.best_matches[name]} with its best neighbour"
        if any(name in place for place in self.elsewhere):
            return "not connected to the largest model"
        if self.connected is not None:
            return "too few pictures are connected with it by matches"
        return f"no consistent pose, with {self.best_matches[name]} matches to its best neighbour"
