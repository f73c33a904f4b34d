"""Tell trials from the good versions of a scene's model, so that a short trial does not take a good version's place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.web.quality import Version

__all__ = ["Trial", "below", "trial"]

_MUCH_WORSE = 2.0
"""A version that is more than this many dB below another is a trial beside it."""

_PER_HALVING = 3.5
"""The most dB by which PSNR rises if held-out photos and their renderings are halved in size.

It rose by 0.3 to 3.5 dB for models of the street after 20 to 1,000 steps: the better the model, the more.
"""


@dataclass(frozen=True)
class Trial:
    """Why a version is a trial.

    Args:
        than: the version that is better.
        reason: the second half of a sentence about the trial, such as "is 11.7 dB worse", which can be followed by
            "than" and the other version.
        decibels: by how much its PSNR is lower; negative if it is higher, but of smaller pictures.
    """

    than: Version
    reason: str
    decibels: float


def trial(versions: Sequence[Version], own: Version) -> Trial | None:
    """Return why a version is a trial beside the best of the others; None if it is good, or nothing is known.

    A version is a trial if its PSNR is more than 2 dB below that of another. Where its pictures are larger, the part
    of the difference that their size may explain does not count. It is also a trial if it was trained on smaller
    pictures in fewer steps, unless the other one is the trial, because PSNR rises as pictures get smaller.
    """
    found = [each for other in versions if (each := _beside(own, other))]
    return max(found, key=lambda each: (each.decibels, each.than.created), default=None)


def below(own: Version, other: Version) -> float:
    """Return by how many dB a version's PSNR is below another's; 0 if that is not known.

    Where its pictures are larger, this is what their size cannot explain.
    """
    if own.counted is None or other.counted is None:
        return 0.0
    halvings = math.log2(own.image_size / other.image_size) if own.image_size and other.image_size else 0.0
    return other.counted - own.counted - max(0.0, halvings) * _PER_HALVING


def _beside(own: Version, other: Version) -> Trial | None:
    difference = below(own, other)
    larger = (own.image_size or 0) > (other.image_size or 0) > 0
    if difference > _MUCH_WORSE:
        return Trial(other, f"is {'at least ' if larger else ''}{difference:.1f} dB worse", difference)
    if _is_smaller(own, other) and below(other, own) <= _MUCH_WORSE:
        return Trial(other, "was trained on smaller pictures and in fewer steps", difference)
    return None


def _is_smaller(own: Version, other: Version) -> bool:
    """Say whether a version had both smaller pictures and fewer steps; False if that is not known."""
    if own.image_size is None or other.image_size is None or own.steps is None or other.steps is None:
        return False
    return own.image_size < other.image_size and own.steps < other.steps
