"""How much the light differs between the photos of a dataset."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Light", "of_dataset", "of_manifest"]

_NOTABLE = 0.3
"""Stops of difference from which an appearance per photo is better than one for all (benchmarks/light.md)."""


class Light(NamedTuple):
    """How exposure and white balance differ between photos, measured at points that several of them show.

    Args:
        exposure_stops: the range of exposures of nine tenths of the photos, in stops.
        white_balance: likewise of red or blue in terms of green, whichever differs more; 0.1 is 10 %.
        photos: the number of photos that were compared.
    """

    exposure_stops: float
    white_balance: float
    photos: int

    @property
    def differs(self) -> bool:
        """Return whether the difference is worth an appearance for each photo.

        A change of white balance counts as a change of exposure that is as large in one channel.
        """
        return max(self.exposure_stops, math.log2(1 + self.white_balance)) >= _NOTABLE

    def __str__(self) -> str:
        return (
            f"exposure differs by {self.exposure_stops:.1f} stops and white balance by {100 * self.white_balance:.0f} "
            "% between photos"
        )


def of_manifest(content: dict[str, Any]) -> Light | None:
    """Return the light that a `dataset.json` records; None if it has none, as those of earlier versions."""
    try:
        found = content["light"]
        light = Light(float(found["exposure_stops"]), float(found["white_balance"]), int(found["photos"]))
    except (KeyError, TypeError, ValueError):
        return None
    return light if math.isfinite(light.exposure_stops) and 0 <= light.white_balance < math.inf else None


def of_dataset(dataset: Path) -> Light | None:
    """Return the light that the `dataset.json` of a dataset folder records, if there is such a file."""
    try:
        content = json.loads((dataset / "dataset.json").read_text())
    except (OSError, ValueError):
        return None
    return of_manifest(content) if isinstance(content, dict) else None
