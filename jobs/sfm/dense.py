"""Adjust a reconstruction on a GPU, where Ceres would solve most of the same problem in one thread.

Levenberg and Marquardt's method, with the points eliminated (Schur complement): Triggs et al., "Bundle Adjustment: A
Modern Synthesis", 1999. All numbers are float64.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pycolmap
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacfwd, vmap

from jobs.geometry import Floats
from jobs.sfm.shared import observations, registered_images

__all__ = ["adjust", "suits", "warm_up"]

_OPENCV = pycolmap.CameraModelId.OPENCV  # fx, fy, cx, cy, k1, k2, p1, p2
_PRINCIPAL_POINT = [2, 3]
_INTRINSICS, _POSE = 8, 6
_POINTS = 4096  # eliminated at a time, which bounds the memory
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-4, 1e-12, 1e10
_STEPS = 100


@dataclass(frozen=True)
class _Estimate:
    """What is adjusted: c cameras, n photos, and m points."""

    intrinsics: Tensor  # (c, 8)
    rotations: Tensor  # (n, 3, 3), from the world's axes to the camera's
    translations: Tensor  # (n, 3)
    points: Tensor  # (m, 3), in the world's axes


@dataclass(frozen=True)
class _Problem:
    """What was seen, in o observations sorted by point, and which unknowns it depends on."""

    seen: Tensor  # (o, 2), px
    photo: Tensor  # (o,), row of the photo
    point: Tensor  # (o,), row of the point
    camera: Tensor  # (n,), row of each photo's camera
    unknowns: Tensor  # (n, 14), rows of a photo's pose and intrinsics among the d unknowns; d for those that are held
    size: int  # d
    loss_scale: float  # px

    def lenses(self, estimate: _Estimate) -> Tensor:
        """Return the intrinsics with which each observation was made (o, 8)."""
        return estimate.intrinsics[self.camera[self.photo]]

    def turned(self, estimate: _Estimate) -> Tensor:
        """Return the points in the axes of the cameras that saw them (o, 3), before the translation."""
        return _times(estimate.rotations[self.photo], estimate.points[self.point])

    def cost(self, estimate: _Estimate) -> float:
        """Return half of the sum of Cauchy's losses."""
        local = self.turned(estimate) + estimate.translations[self.photo]
        squares = (_project(local, self.lenses(estimate)) - self.seen).square().sum(1)
        return float(torch.log1p(squares / self.loss_scale**2).sum()) * self.loss_scale**2 / 2


@dataclass(frozen=True)
class _Equations:
    """Normal equations of a step from an estimate."""

    problem: _Problem
    estimate: _Estimate
    unknowns: Tensor  # (d + 1, d + 1), of poses and intrinsics
    right: Tensor  # (d + 1,)
    points: Tensor  # (m, 3, 3)
    points_right: Tensor  # (m, 3)
    mixed: Tensor  # (o, 14, 3), of each observation

    @classmethod
    def at(cls, problem: _Problem, estimate: _Estimate) -> _Equations:
        """Linearize a problem at an estimate."""
        turned, intrinsics = problem.turned(estimate), problem.lenses(estimate)
        local = turned + estimate.translations[problem.photo]
        by_local, by_intrinsics = vmap(jacfwd(_project, argnums=(0, 1)))(local, intrinsics)
        residuals = _project(local, intrinsics) - problem.seen
        weights = 1 / (1 + residuals.square().sum(1) / problem.loss_scale**2).sqrt()
        residuals = residuals * weights[:, None]
        by_local, by_intrinsics = by_local * weights[:, None, None], by_intrinsics * weights[:, None, None]
        own = torch.cat([-by_local @ _cross(turned), by_local, by_intrinsics], 2)  # (o, 2, 14)
        by_point = by_local @ estimate.rotations[problem.photo]
        photos, points, width = len(estimate.rotations), len(estimate.points), _POSE + _INTRINSICS
        blocks = _sums(own.mT @ own, problem.photo, photos)
        rights = _sums(_times(own.mT, residuals), problem.photo, photos)
        rows = problem.unknowns
        matrix = own.new_zeros(problem.size + 1, problem.size + 1)
        matrix.index_put_((rows[:, :, None].expand(-1, -1, width), rows[:, None].expand(-1, width, -1)), blocks, True)
        right = own.new_zeros(problem.size + 1).index_put_((rows,), rights, True)
        return cls(
            problem,
            estimate,
            matrix,
            right,
            _sums(by_point.mT @ by_point, problem.point, points),
            _sums(_times(by_point.mT, residuals), problem.point, points),
            own.mT @ by_point,
        )

    def step(self, damping: float) -> _Estimate | None:
        """Return the estimate after a step, or None if the equations cannot be solved with this damping."""
        problem, before = self.problem, self.estimate
        if (reduced := self._without_points(damping)) is None:
            return None
        matrix, right, root = reduced
        matrix_root, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            return None
        step = right.new_zeros(problem.size + 1)
        step[:-1] = -torch.cholesky_solve(right.unsqueeze(1), matrix_root).squeeze(1)
        own = step[problem.unknowns]  # (n, 14)
        back = _sums(_times(self.mixed.mT, own[problem.photo]), problem.point, len(self.points))
        moved = -torch.cholesky_solve((self.points_right + back).unsqueeze(2), root).squeeze(2)
        intrinsics = before.intrinsics.clone()
        intrinsics[problem.camera] += own[:, _POSE:]  # the same for each photo of a camera
        turn = torch.linalg.matrix_exp(_cross(own[:, :3]))
        return _Estimate(
            intrinsics, turn @ before.rotations, before.translations + own[:, 3:_POSE], before.points + moved
        )

    def inverse(self) -> Tensor | None:
        """Return the covariance of poses and intrinsics (d, d) if a residual's variance is 1.

        The damping only decides where the reconstruction as a whole is, which intrinsics do not depend on.
        """
        reduced = self._without_points(_LEAST_DAMPING)
        root, failed = torch.linalg.cholesky_ex(reduced[0]) if reduced else (None, True)
        return None if root is None or failed else torch.cholesky_inverse(root)

    def _without_points(self, damping: float) -> tuple[Tensor, Tensor, Tensor] | None:
        """Eliminate the points.

        Returns:
            The matrix (d, d) and the right side (d,) of the equations of poses and intrinsics, and the roots of the
            points' matrices (m, 3, 3); None if a root does not exist.
        """
        problem, size = self.problem, self.problem.size
        points = self.points + torch.diag_embed(self.points.diagonal(dim1=1, dim2=2) * damping + _LEAST_DAMPING)
        root, failed = torch.linalg.cholesky_ex(points)
        if failed.any():
            return None
        halves = torch.linalg.solve_triangular(root, self.points_right.unsqueeze(2), upper=False)  # (m, 3, 1)
        scaled = torch.linalg.solve_triangular(root[problem.point], self.mixed.mT, upper=False).mT  # (o, 14, 3)
        matrix, right = self.unknowns.clone(), self.right.clone()
        matrix.diagonal().mul_(1 + damping)
        ends = torch.searchsorted(problem.point, torch.arange(0, len(points) + _POINTS, _POINTS, device=points.device))
        for number, (begin, end) in enumerate(pairwise(ends.tolist())):
            first = number * _POINTS
            half = halves[first : first + _POINTS].flatten()
            part = matrix.new_zeros(size + 1, len(half))
            rows = problem.unknowns[problem.photo[begin:end]].unsqueeze(2)  # (o, 14, 1)
            columns = 3 * (problem.point[begin:end, None, None] - first) + torch.arange(3, device=rows.device)
            part.view(-1).index_add_(0, (rows * len(half) + columns).flatten(), scaled[begin:end].flatten())
            matrix -= part @ part.T
            right -= part @ half
        return matrix[:size, :size], right[:size], root


def suits(model: pycolmap.Reconstruction, held: Collection[int]) -> bool:
    """Return whether a model can be adjusted here: cameras of COLMAP's model OPENCV (or PINHOLE, if held), no rigs."""
    kinds = {camera.model for number, camera in model.cameras.items() if number not in held}
    held_kinds = {model.cameras[number].model for number in held}
    alone = all(rig.num_sensors() == 1 for rig in model.rigs.values())
    return alone and kinds <= {_OPENCV} and held_kinds <= {_OPENCV, pycolmap.CameraModelId.PINHOLE}


def adjust(
    model: pycolmap.Reconstruction,
    held: Collection[int],
    *,
    principal_points: bool,
    loss_scale: float,
    tolerance: float,
    device: str = "cuda",
) -> dict[int, Floats]:
    """Adjust poses, points and cameras of a reconstruction in place, with Cauchy's loss.

    Args:
        held: numbers of the cameras whose intrinsics stay as they are.
        principal_points: whether those of the other cameras change, too.
        loss_scale: px, above which residuals count less and less.
        tolerance: relative decrease of the cost at which the adjustment ends.
        device: of PyTorch.

    Returns:
        The covariances (8, 8) of the parameters of the cameras that are not held, by their numbers; 0 for parameters
        that do not change.
    """
    parts = _Parts(model, held)
    problem = parts.problem(loss_scale, device, principal_points=principal_points)
    estimate = parts.estimate(device)
    cost, damping = problem.cost(estimate), _DAMPING
    for _ in range(_STEPS):
        equations, after, gained = _Equations.at(problem, estimate), None, -1.0
        while not gained >= 0 and damping < _MOST_DAMPING:
            after = equations.step(damping)
            gained = cost - problem.cost(after) if after else -1.0
            damping = max(damping / 5, _LEAST_DAMPING) if gained >= 0 else damping * 4
        if after is None or not gained >= 0:
            break
        estimate, cost = after, cost - gained
        if gained < tolerance * cost:
            break
    parts.write(estimate)
    variance = 2 * cost / max(1, problem.seen.numel() - problem.size - estimate.points.numel())
    return parts.covariances(problem, _Equations.at(problem, estimate), variance)


def warm_up(device: str = "cuda") -> None:
    """Load what PyTorch loads when it is first used: CUDA's libraries for linear algebra take seconds."""
    number = torch.zeros(2, dtype=torch.long, device=device)
    values = torch.ones(2, 8, dtype=torch.float64, device=device)
    unknowns = torch.arange(_POSE + _INTRINSICS, device=device).unsqueeze(0)
    problem = _Problem(values[:, :2], number, number.cumsum(0), number[:1], unknowns, unknowns.numel(), 1.0)
    turned = torch.eye(3, dtype=torch.float64, device=device).unsqueeze(0)
    _Equations.at(problem, _Estimate(values[:1], turned, values[:1, :3], values[:, :3])).step(_DAMPING)


class _Parts:
    """The cameras, photos and points of a reconstruction, in the order of an estimate's rows."""

    def __init__(self, model: pycolmap.Reconstruction, held: Collection[int]) -> None:
        self._model = model
        self._images = registered_images(model)
        self._points = sorted(model.points3D)
        self._cameras = sorted({image.camera_id for image in self._images})
        self._free = np.array([number not in held for number in self._cameras])

    def problem(self, loss_scale: float, device: str, *, principal_points: bool) -> _Problem:
        """Return the problem of moving everything but the cameras that are held, and perhaps principal points."""
        seen = observations(self._model)
        shown = [seen[image.image_id] for image in self._images]
        at = np.concatenate([each.pixels for each in shown])
        photo = np.repeat(np.arange(len(shown)), [len(each.points) for each in shown])
        point = np.searchsorted(self._points, np.concatenate([each.points for each in shown]))
        order = np.argsort(point, kind="stable")
        camera = np.searchsorted(self._cameras, [image.camera_id for image in self._images])
        free = np.repeat(self._free[:, None], _INTRINSICS, 1)
        free[:, _PRINCIPAL_POINT] &= principal_points
        poses = _POSE * len(self._images)
        size = poses + int(free.sum())
        intrinsics = np.full(free.shape, size)
        intrinsics[free] = np.arange(poses, size)
        unknowns = np.concatenate([np.arange(poses).reshape(-1, _POSE), intrinsics[camera]], 1)

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.as_tensor(array, device=device)

        return _Problem(
            tensor(at[order]),
            tensor(photo[order]),
            tensor(point[order]),
            tensor(camera),
            tensor(unknowns),
            size,
            loss_scale,
        )

    def estimate(self, device: str) -> _Estimate:
        """Return what the reconstruction says."""
        params = [self._model.cameras[number].params for number in self._cameras]
        intrinsics = np.array([np.pad(each, (0, _INTRINSICS - len(each))) for each in params])
        poses = np.array([image.cam_from_world().matrix() for image in self._images])
        points = np.array([self._model.points3D[number].xyz for number in self._points])
        arrays = intrinsics, poses[:, :, :3], poses[:, :, 3], points
        return _Estimate(*(torch.as_tensor(array.copy(), device=device) for array in arrays))

    def covariances(self, problem: _Problem, equations: _Equations, variance: float) -> dict[int, Floats]:
        """Return the covariances of the cameras' parameters; see `adjust`."""
        if (inverse := equations.inverse()) is None:
            return {}
        padded = torch.nn.functional.pad(inverse * variance, (0, 1, 0, 1)).cpu().numpy()
        own = {int(camera): row for camera, row in zip(problem.camera, problem.unknowns[:, _POSE:].cpu(), strict=True)}
        return {
            number: padded[np.ix_(own[row], own[row])] for row, number in enumerate(self._cameras) if self._free[row]
        }

    def write(self, estimate: _Estimate) -> None:
        """Change the reconstruction to an estimate."""
        for number, params, free in zip(self._cameras, estimate.intrinsics.cpu().numpy(), self._free, strict=True):
            if free:
                self._model.cameras[number].params = params
        poses = torch.cat([estimate.rotations, estimate.translations.unsqueeze(2)], 2).cpu().numpy()
        for image, pose in zip(self._images, poses, strict=True):
            self._model.frames[image.frame_id].rig_from_world = pycolmap.Rigid3d(pose)
        for number, point in zip(self._points, estimate.points.cpu().numpy(), strict=True):
            self._model.points3D[number].xyz = point


def _project(local: Tensor, intrinsics: Tensor) -> Tensor:
    """Return where points (..., 3) in the axes of cameras of the model OPENCV are in their pictures (..., 2), px."""
    x, y = local[..., 0] / local[..., 2], local[..., 1] / local[..., 2]
    fx, fy, cx, cy, k1, k2, p1, p2 = intrinsics.unbind(-1)
    square = x * x + y * y
    radial = 1 + square * (k1 + square * k2)
    return torch.stack(
        [
            fx * (x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)) + cx,
            fy * (y * radial + 2 * p2 * x * y + p1 * (square + 2 * y * y)) + cy,
        ],
        -1,
    )


def _cross(vectors: Tensor) -> Tensor:
    """Return the matrices (..., 3, 3) whose products with others are the cross products of these vectors (..., 3)."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape, 3)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return the products of matrices (..., k, l) and vectors (..., l)."""
    return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)


def _sums(values: Tensor, rows: Tensor, number: int) -> Tensor:
    """Return the sums of values with the same row."""
    sums: Tensor = values.new_zeros(number, *values.shape[1:]).index_add_(0, rows, values)
    return sums
