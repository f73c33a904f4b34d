"""The dataset and the model of one visit."""

from __future__ import annotations

from dataclasses import dataclass

from blocks import Asset

__all__ = ["Visit"]


@dataclass(frozen=True)
class Visit:
    """A dataset and the model that was trained on it, or on another dataset in the same scene frame."""

    dataset: Asset
    model: Asset
