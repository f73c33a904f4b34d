"""Compare photos of one visit with photos of another, whatever the light.

Light multiplies the colour of a surface. Where nothing has changed, the difference of two logarithms is therefore the
light alone. It is even, except at the edges of shadows, and it varies in few directions (sun or shadow, warm or cold).
`Light` learns these directions from the whole scene, most of which has not changed. A difference in any other direction
is a change.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from jobs.visits.views import BEHIND, Array, View, sampled

__all__ = ["Evidence", "Light", "compare_view"]

_THROUGH = 0.025  # a view sees through a point that is nearer than its surface by more than this share
_ROUNDS, _KEPT, _CONSISTENT = 10, 0.85, 1.3  # of the trimmed covariance. The last factor compensates for the trimming
_MOST = 200_000  # pixels from which the light is learnt
_SHADOW = np.array([0.60, 0.54, 0.46])  # what a shadow does to the logarithms: it is darker, and lit by the blue sky
_TINT = np.array([0.05, 0.0, -0.05])  # from a warm to a cold light
_GRAIN = 0.025  # standard deviation of a logarithm that no light explains


class Evidence(NamedTuple):
    """The difference between a view and the nearest views of a visit. NaN where they do not see the same surface.

    Args:
        ratio: (H, W, 3) the logarithm of the view's light divided by theirs.
        air: (H, W) the share of these views that see through the surface, so that it does not exist for them.
    """

    ratio: Array
    air: Array


@dataclass(frozen=True)
class Light:
    """The difference in light between two visits, as a normal distribution of the logarithms of ratios.

    Args:
        mean: (3,) red, green, blue.
        precision: (3, 3) the inverse of the covariance.
    """

    mean: Array
    precision: Array

    @classmethod
    def learn(cls, ratios: Sequence[Array]) -> Light:
        """Learn the distribution from ratios (…, 3), of which at most a sixth show changes. NaN is left out."""
        every = np.concatenate([ratio.reshape(-1, 3) for ratio in ratios]).astype(np.float64)
        every = every[np.isfinite(every).all(axis=1)]
        every = every[:: 1 + len(every) // _MOST]
        # If a scene has few shadows, their pixels are trimmed. So the variation of daylight is a lower bound.
        least = np.outer(_SHADOW, _SHADOW) + np.outer(_TINT, _TINT) + np.eye(3) * _GRAIN**2
        kept = every
        mean, precision = np.zeros(3), np.linalg.inv(least)
        for _ in range(_ROUNDS if len(every) > 3 else 0):
            mean = kept.mean(axis=0)
            precision = np.linalg.inv(np.cov(kept.T) * _CONSISTENT + least)
            off = np.einsum("ni,ij,nj->n", every - mean, precision, every - mean)
            kept = every[off <= np.quantile(off, _KEPT)]
        return cls(mean.astype(np.float32), precision.astype(np.float32))

    def unlikely(self, ratio: Array, same_light: bool = False) -> Array:
        """Return how many standard deviations of light ratios (…, 3) are away from its mean.

        Args:
            ratio: as in `Evidence`.
            same_light: whether the views are of one visit, so that no light differs.
        """
        off = ratio if same_light else ratio - self.mean
        found: Array = np.sqrt(np.einsum("...i,ij,...j->...", off, self.precision, off))
        return found


def compare_view(view: View, others: Sequence[View], window: int, most: int) -> Evidence:
    """Compare a view with the most similar views of another visit, or of its own.

    Args:
        view: the view.
        others: the views to choose from. The view itself is left out.
        window: the size in px of a window in which light is even.
        most: the number of views to compare with. The result is the median over them.
    """
    points = np.where(view.depths[..., None] > 0, view.points, np.float32("nan"))
    seen = [_seen_by(other, points) for other in _nearest(view, others, most)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice|Mean of empty slice", RuntimeWarning)
        ratio = np.nanmedian([_ratio(view.light, light, window) for light, _ in seen], axis=0)
        return Evidence(ratio, np.nanmean([through for _, through in seen], axis=0))


def _ratio(light: Array, other: Array, window: int) -> Array:
    """Return the logarithm of the light (H, W, 3) of one picture against another, smoothed in windows.

    Each window has two lights, so that the edge of a shadow across it is not smoothed.
    """
    difference = light - other
    known = np.isfinite(difference).all(axis=-1)
    difference = np.where(known[..., None], difference, 0)
    weight = known.astype(np.float32)
    grey = difference.mean(axis=-1)
    whole = _box(weight, window)
    brighter = (grey * whole > _box(grey * weight, window)) & known
    ratio = np.full_like(difference, np.nan)
    for group in (brighter, known & ~brighter):
        inside = group.astype(np.float32)
        share = np.maximum(_box(inside, window), 1e-6)
        ratio[group] = (_box(difference * inside[..., None], window) / share[..., None])[group]
    ratio[whole < 0.5] = np.nan
    return ratio


def _seen_by(view: View, points: Array) -> tuple[Array, Array]:
    """Return the light (H, W, 3) that a view shows of points (H, W, 3), and whether it sees through them: 1 or 0.

    NaN where the view does not show the point.
    """
    column, row, distance = view.camera.project(points)
    depth = sampled(view.depths, column, row, nearest=True)
    with np.errstate(invalid="ignore"):
        shown = (distance > 0) & (depth > 0) & (distance < depth * (1 + BEHIND))
        through = np.where(shown, distance < depth * (1 - _THROUGH), np.float32("nan"))
    light = sampled(view.light, column, row)
    light[~shown] = np.nan
    return light, through.astype(np.float32)


def _nearest(view: View, others: Sequence[View], most: int) -> list[View]:
    """Return the most similar views: the nearest ones with a similar view direction."""
    seen = view.depths[view.depths > 0]
    middle = float(np.median(seen)) if len(seen) else 1.0

    def unlike(other: View) -> float:
        apart = float(np.linalg.norm(other.camera.pose[:, 3] - view.camera.pose[:, 3])) / middle
        return apart + float(np.arccos(np.clip(other.camera.pose[:, 2] @ view.camera.pose[:, 2], -1, 1)))

    return sorted((other for other in others if other is not view), key=unlike)[:most]


def _box(values: Array, window: int) -> Array:
    found: Array = cv2.blur(values, (window, window), borderType=cv2.BORDER_REFLECT)
    return found
