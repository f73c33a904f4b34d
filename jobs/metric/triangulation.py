"""Triangulate points from where photos show them, in the scene frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from jobs.geometry import Floats
from jobs.metric import accuracy as limits
from jobs.metric.cameras import Camera, Untriangulated

__all__ = ["Point", "triangulate"]


@dataclass(frozen=True)
class Point:
    """A triangulated point.

    Args:
        position: (3,) scene units.
        covariance: (3, 3) of the position, from the accuracy of its picks.
        left_out: photos whose picks contradict the others.
        distance: from the nearest of its cameras, scene units.
    """

    position: Floats
    covariance: Floats
    left_out: tuple[str, ...]
    distance: float

    @property
    def error(self) -> float:
        """Return the standard error of the position, in scene units."""
        return float(np.sqrt(np.trace(self.covariance)))


def triangulate(cameras: Sequence[Camera], pixels: Floats, accuracy: Floats | float) -> Point:
    """Return the point that cameras see at pixels (n, 2), by least squares of the distances in pixels.

    If one of three picks or more is far off what the others show, it is left out.

    Args:
        cameras: n cameras.
        pixels: (n, 2).
        accuracy: standard deviation of each pick, px: (n,), or one number for all.

    Raises:
        Untriangulated: the picks do not determine a point.
    """
    accuracy = np.broadcast_to(np.asarray(accuracy, float), (len(pixels),))
    left_out: list[str] = []
    cameras = list(cameras)
    while True:
        position, residuals, jacobian = _solve(cameras, pixels, accuracy)
        worst = int(np.linalg.norm(residuals, axis=1).argmax())
        if np.linalg.norm(residuals[worst]) <= limits.WRONG:
            break
        if len(cameras) < 3:
            off = np.linalg.norm(residuals[worst]) * accuracy[worst]
            raise Untriangulated(f"is not the same point in its photos: the rays miss each other by {off:.0f} px")
        worst = _most_harmful(cameras, pixels, accuracy)
        left_out.append(cameras[worst].name)
        kept = [number for number in range(len(cameras)) if number != worst]
        cameras, pixels, accuracy = [cameras[k] for k in kept], pixels[kept], accuracy[kept]
    distance = min(float(np.linalg.norm(position - camera.position)) for camera in cameras)
    return Point(position, np.linalg.inv(jacobian.T @ jacobian), tuple(left_out), distance)


def _most_harmful(cameras: list[Camera], pixels: Floats, accuracy: Floats) -> int:
    """Return the pick without which the others agree best."""
    costs = []
    for left in range(len(cameras)):
        kept = [number for number in range(len(cameras)) if number != left]
        try:
            residuals = _solve([cameras[k] for k in kept], pixels[kept], accuracy[kept])[1]
        except Untriangulated:
            costs.append(np.inf)
        else:
            costs.append(float((residuals**2).sum()))
    return int(np.argmin(costs))


def _solve(cameras: list[Camera], pixels: Floats, accuracy: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the position, and the residuals (n, 2) and the Jacobian (2 n, 3) in standard deviations."""
    rays = np.array([camera.ray(pixel) for camera, pixel in zip(cameras, pixels, strict=True)])
    centres = np.array([camera.position for camera in cameras])
    angle = float(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1))))
    if angle < limits.LEAST_ANGLE:
        raise Untriangulated(f"is seen from one direction only ({angle:.1f}°): pick it in photos farther apart")
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    start = np.linalg.solve(across.sum(axis=0), np.einsum("nij,nj->i", across, centres))

    def errors(position: Floats) -> Floats:
        seen = np.concatenate([camera.project(position[None]) for camera in cameras])
        return ((seen - pixels) / accuracy[:, None]).ravel()

    if any(camera.depth(start) <= 0 for camera in cameras):
        raise Untriangulated("would be behind a camera: its picks do not belong together")
    # A Gauss-Newton step is scaled by the distance to the point, because scene units can be of any size.
    reach = float(np.linalg.norm(start - centres, axis=1).min())
    found = least_squares(errors, start, jac="3-point", method="lm", x_scale=np.full(3, reach), max_nfev=200)
    if any(camera.depth(found.x) <= 0 for camera in cameras) or not np.isfinite(found.x).all():
        raise Untriangulated("would be behind a camera: its picks do not belong together")
    return found.x, found.fun.reshape(-1, 2), found.jac
