"""Detect a camera that only turned on the spot: its pictures contain no depth.

Structure from motion does not notice: it distorts the lens until the points lie on a sphere, with small residuals.
Two pictures from one place differ by a rotation alone, x' ~ K R K⁻¹ x (Hartley and Zisserman, "Multiple View Geometry",
2nd edition, section 8.4.1). So matches are compared with the best rotation of each pair, with one lens for all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]

_MATCHES = 48  # of a pair that are compared
_PAIRS = 64
_FOCALS = np.geomspace(0.35, 3.5, 12)  # in diagonals of the picture: 15 to 150 mm on film of 36 x 24 mm
_DISTORTION = 0.5  # of a lens, at most, on a plane at distance 1
_FEW_PAIRS = 3
_CLIP = 0.02  # of the diagonal: a match that is farther off is wrong
_ONLY_TURNED = 0.003  # of the diagonal. Measured: 0.0004 on one spot, 0.0018 with 5 cm of shake 9 m away, where poses
# are wrong by 170°; at least 0.004 in surveys straight down, and 0.010 in other captures whose poses are right
# A long lens that turns sees what a camera sees that moves along a plane: a shift. Measured: up to 2.8 for turns with a
# focal length of 3; the longest of all for surveys of flat land.
_SHIFTED = 0.9 * _FOCALS[-1]


def only_turned(pairs: Sequence[tuple[Floats, Floats]], size: tuple[int, int]) -> bool:
    """Return whether a rotation alone explains the matches of three quarters of the pairs, and there are some.

    Pictures that are shifted without any perspective do not count: those of a survey of flat land are, too.

    Args:
        pairs: for each pair of pictures, where matching features are in both, each (n, 2), px; n at least 8.
        size: of the pictures, px.
    """
    if len(pairs) < _FEW_PAIRS:
        return False
    residuals, focal = rotation_residuals(pairs, size)
    return bool(np.percentile(residuals, 75) < _ONLY_TURNED and focal < _SHIFTED)


def rotation_residuals(pairs: Sequence[tuple[Floats, Floats]], size: tuple[int, int]) -> tuple[Floats, float]:
    """Return how far matches are from where a rotation alone takes them, with the lens that explains most.

    Args:
        pairs, size: see `only_turned`; at least one pair.

    Returns:
        The median distance of each of up to 64 pairs, and the focal length, both as fractions of the diagonal.
    """
    chosen = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(len(pairs), _PAIRS)).round().astype(int)]
    diagonal = float(np.hypot(*size))
    a, b = (np.stack([_some(pair[side]) for pair in chosen]) for side in (0, 1))
    a, b = ((each - np.array(size) / 2) / diagonal for each in (a, b))

    def cost(lens: Floats) -> float:
        focal, k = float(np.exp(lens[0])), float(lens[1])
        if not _FOCALS[0] <= focal <= _FOCALS[-1] or abs(k) > _DISTORTION:
            return 1.0
        return float(np.minimum(_residuals(a, b, focal, k), _CLIP).mean())

    first = min(_FOCALS, key=lambda focal: cost(np.array([np.log(focal), 0.0])))
    start = np.array([np.log(first), 0.0])
    simplex = start + np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.05]])
    best = minimize(cost, start, method="Nelder-Mead", options={"maxfev": 60, "initial_simplex": simplex}).x
    focal = float(np.exp(best[0]))
    median: Floats = np.median(_residuals(a, b, focal, float(best[1])), axis=1)
    return median, focal


def _some(points: Floats) -> Floats:
    some: Floats = points[np.linspace(0, len(points) - 1, _MATCHES).round().astype(int)]
    return some


def _residuals(a: Floats, b: Floats, focal: float, k: float) -> Floats:
    """Return the distances of all matches (pairs, matches) from the best rotation of their pair, in diagonals."""
    rays = [_rays(each / focal, k) for each in (a, b)]
    weights = np.ones(a.shape[:2])
    distances = weights
    for _ in range(3):  # wrong matches count less each time
        u, _, vt = np.linalg.svd(np.swapaxes(rays[1] * weights[..., None], 1, 2) @ rays[0])
        u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
        turned = rays[0] @ np.swapaxes(u @ vt, 1, 2)
        distances = np.linalg.norm(turned - rays[1], axis=2) * focal
        weights = 1 / (1 + (distances / 0.002) ** 2)
    return distances


def _rays(points: Floats, k: float) -> Floats:
    """Return unit vectors to points on the plane at distance 1, with distortion corrected to first order."""
    points = points * (1 + k * (points**2).sum(axis=-1, keepdims=True))
    rays = np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)
    unit: Floats = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return unit
