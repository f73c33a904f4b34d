"""Adjust all measurements together, to find the metres per scene unit, up, and place.

The unknowns are a similarity from the scene frame to metres, x -> s R x + t: log s, two small rotations about the
scene's horizontal axes (its +Z is up already, within a few degrees), the bearing, and t. Without positions, only log s
is unknown. Each measurement is a residual in units of its standard deviation, under a robust loss. One that contradicts
the others is left out and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from jobs.geometry import Floats
from jobs.metric.scene import Kind

__all__ = ["Distance", "Measured", "Position", "Solution", "adjust", "solve"]

_LOSS = 2.0  # standard deviations, above which a residual counts less
_CONTRADICTS = 4.0  # standard deviations by which a measurement may differ from what the others predict
_CHANCE = 0.95  # quantile of residuals by chance: larger ones mean that the stated accuracies are too good
_UNKNOWN = np.array(
    [10.0, 1.0, 1.0, 10.0, 1e6, 1e6, 1e6]
)  # standard deviations of unknowns that no measurement determines


@dataclass(frozen=True)
class Distance:
    """A known distance.

    Args:
        metres, accuracy: the measured distance and its standard deviation.
        units, error: the distance in the photos, in scene units, and its standard error.
    """

    metres: float
    accuracy: float
    units: float
    error: float

    @property
    def log_scale(self) -> float:
        """Return the logarithm of the metres per scene unit that it gives."""
        return float(np.log(self.metres / self.units))

    @property
    def log_error(self) -> float:
        """Return the standard error of `log_scale`."""
        return float(np.hypot(self.accuracy / self.metres, self.error / self.units))


@dataclass(frozen=True)
class Position:
    """A point with known coordinates.

    Args:
        units, covariance: (3,) and (3, 3), in the scene frame.
        metres, accuracy: (3,) each: east, north and up, and their standard deviations.
    """

    units: Floats
    covariance: Floats
    metres: Floats
    accuracy: Floats


@dataclass(frozen=True)
class Measured:
    """A measurement, which is used or left out as a whole."""

    kind: Kind
    name: str
    distances: tuple[Distance, ...] = ()
    positions: tuple[Position, ...] = ()


@dataclass(frozen=True)
class Solution:
    """The outcome of an adjustment.

    Args:
        unknowns: (7,) log s; rotations about the scene's x and y, and the bearing's angle from east to the scene's +X,
            counter-clockwise, radians; t, metres.
        covariance: (7, 7) of the unknowns.
        used: the measurements that decided them.
        contradicting: the measurements that were left out.
        cost: half the sum of squared residuals, under the robust loss.
        tilt: the standard deviation of the scene's own +Z, radians.
    """

    unknowns: Floats
    covariance: Floats
    used: tuple[Measured, ...]
    contradicting: tuple[Measured, ...] = ()
    cost: float = 0.0
    tilt: float = field(default=0.0, repr=False)

    @property
    def scale(self) -> float:
        """Return the metres per scene unit."""
        return float(np.exp(self.unknowns[0]))

    @property
    def scale_error(self) -> float:
        """Return the relative standard error of the scale."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def rotation(self) -> Floats:
        """Return the rotation (3, 3) from the scene's axes to east, north and up."""
        return _rotation(self.unknowns)

    def points(self, units: Floats) -> Floats:
        """Return points (n, 3) of the scene frame in metres."""
        moved: Floats = self.scale * units @ self.rotation.T + self.unknowns[4:]
        return moved


def adjust(measured: Sequence[Measured], tilt: float) -> Solution:
    """Return the solution for all measurements that agree.

    While a measurement contradicts the others, the one without which the others agree best is left out. If only two
    contradict each other, it is unknown which is wrong: both are used, and the error grows accordingly.

    Args:
        measured: at least one.
        tilt: the standard deviation of the scene's +Z from up, radians.
    """
    used, contradicting = list(measured), list[Measured]()
    solution = solve(used, tilt)
    while len(used) > 2 and _worst(solution) > _CONTRADICTS:
        others = [solve([each for each in used if each is not left], tilt) for left in used]
        best = int(np.argmin([other.cost for other in others]))
        contradicting.append(used.pop(best))
        solution = others[best]
    return Solution(
        solution.unknowns, solution.covariance, tuple(used), tuple(contradicting), solution.cost, solution.tilt
    )


def solve(measured: Sequence[Measured], tilt: float) -> Solution:
    """Return the solution for all measurements, whether they agree or not."""
    start = _start(measured)
    free = 7 if any(each.positions for each in measured) else 1
    prior = _UNKNOWN.copy()
    prior[1:3] = tilt
    unknowns = start
    for _ in range(2):  # the standard deviations of positions depend on the scale
        residuals = _Residuals(measured, unknowns)

        def errors(change: Floats, known: _Residuals = residuals) -> Floats:
            full = start.copy()
            full[:free] += change
            return np.concatenate([known(full), change / prior[:free]])

        # Of the change, because SciPy's first step is as long as the unknowns, and coordinates can be millions.
        found = least_squares(
            errors, (unknowns - start)[:free], loss="soft_l1", f_scale=_LOSS, x_scale=np.minimum(prior, 1.0)[:free]
        )
        unknowns = start.copy()
        unknowns[:free] += found.x
    covariance = np.diag(prior**2)
    # The Jacobian without the loss: the loss flattens the cost even where residuals are as large as they should be.
    plain = least_squares(errors, found.x, max_nfev=1)
    covariance[:free, :free] = np.linalg.inv(plain.jac.T @ plain.jac)
    redundancy = len(residuals(unknowns)) + (2 if free == 7 else 0) - free
    if redundancy > 0 and 2 * plain.cost > chi2.ppf(_CHANCE, redundancy):
        covariance[:free, :free] *= 2 * plain.cost / redundancy  # because the stated accuracies are too good
    return Solution(unknowns, covariance, tuple(measured), cost=float(found.cost), tilt=tilt)


class _Residuals:
    """The residuals of measurements in standard deviations, which are those at an estimate of the unknowns."""

    def __init__(self, measured: Sequence[Measured], estimate: Floats) -> None:
        distances = [each for entry in measured for each in entry.distances]
        positions = [each for entry in measured for each in entry.positions]
        self._logs = np.array([each.log_scale for each in distances])
        self._errors = np.array([each.log_error for each in distances])
        self._units = np.array([each.units for each in positions]).reshape(-1, 3)
        self._metres = np.array([each.metres for each in positions]).reshape(-1, 3)
        turn = np.exp(estimate[0]) * _rotation(estimate)
        self._white = np.array(
            [
                np.linalg.inv(np.linalg.cholesky(turn @ each.covariance @ turn.T + np.diag(each.accuracy**2)))
                for each in positions
            ]
        ).reshape(-1, 3, 3)

    def __call__(self, unknowns: Floats) -> Floats:
        of_distances = (unknowns[0] - self._logs) / self._errors
        moved = np.exp(unknowns[0]) * self._units @ _rotation(unknowns).T + unknowns[4:]
        of_positions = np.einsum("nij,nj->ni", self._white, moved - self._metres)
        return np.concatenate([of_distances, of_positions.ravel()])


def _worst(solution: Solution) -> float:
    """Return the largest residual of what a solution uses, in standard deviations."""
    return float(np.abs(_Residuals(solution.used, solution.unknowns)(solution.unknowns)).max())


def _start(measured: Sequence[Measured]) -> Floats:
    """Return a first estimate: the scale by distances if there are any, the bearing by positions on the map."""
    start = np.zeros(7)
    positions = [each for entry in measured for each in entry.positions]
    logs = sorted(each.log_scale for entry in measured for each in entry.distances)
    if positions:
        units, metres = (np.array([getattr(each, name) for each in positions]) for name in ("units", "metres"))
        middle, target = np.median(units, axis=0), np.median(metres, axis=0)
        flat, there = ((side - centre)[:, 0] + 1j * (side - centre)[:, 1] for side, centre in
                       ((units, middle), (metres, target)))  # fmt: skip
        spread = float((np.abs(flat) ** 2).sum())
        turn = (np.conj(flat) * there).sum() / spread if spread else 0j
        start[0] = np.log(abs(turn)) if abs(turn) > 0 else 0.0
        start[3] = np.angle(turn)
    if logs:
        start[0] = logs[len(logs) // 2]
    if positions:
        start[4:] = target - np.exp(start[0]) * _rotation(start) @ middle
    return start


def _rotation(unknowns: Floats) -> Floats:
    """Return the rotation (3, 3): first the tilt in the scene frame, then the bearing about up."""
    tilt = Rotation.from_rotvec([unknowns[1], unknowns[2], 0.0])
    turned: Floats = (Rotation.from_rotvec([0.0, 0.0, unknowns[3]]) * tilt).as_matrix()
    return turned
