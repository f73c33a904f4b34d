"""The camera optimizer and the spherical harmonics of directions, as Triton kernels.

A pose adjustment has a translation and a rotation vector, as nerfstudio's `SO3xR3`. One program computes a block of
rays or of adjustments.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["correct", "harmonics", "penalty"]

_BLOCK = 128


def correct(origins: Tensor, directions: Tensor, pose: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Apply pose adjustments to rays.

    Args:
        origins, directions: (R, 3).
        pose: (photos, 6), differentiable.
        cameras: (R,) the photos of the rays.
    """
    corrected: tuple[Tensor, Tensor] = _Correct.apply(origins, directions, pose, cameras)
    return corrected


def penalty(pose: Tensor, of_translation: float, of_rotation: float) -> Tensor:
    """Return the mean length of adjustments (photos, 6), with a factor for translations and one for rotations."""
    result: Tensor = _Penalty.apply(pose, float(of_translation), float(of_rotation))
    return result


def harmonics(directions: Tensor) -> Tensor:
    """Return nerfstudio's spherical harmonics (R, 16) of directions (R, 3), which have no gradient."""
    result = directions.new_empty(len(directions), 16)
    _harmonics[(triton.cdiv(len(directions), _BLOCK),)](directions, result, len(directions), BLOCK=_BLOCK)
    return result


class _Correct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, origins: Tensor, directions: Tensor, pose: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
        moved, turned, rays = torch.empty_like(origins), torch.empty_like(directions), len(origins)
        _correct[(triton.cdiv(rays, _BLOCK),)](origins, directions, pose, cameras, moved, turned, rays, BLOCK=_BLOCK)
        ctx.save_for_backward(directions, pose, cameras)
        return moved, turned

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, None]:
        directions, pose, cameras = ctx.saved_tensors
        to_pose, rays = torch.zeros_like(pose), len(directions)
        _correct_backward[(triton.cdiv(rays, _BLOCK),)](
            directions, pose, cameras, gradients[0].contiguous(), gradients[1].contiguous(), to_pose, rays,
            BLOCK=_BLOCK,
        )  # fmt: skip
        return None, None, to_pose, None


class _Penalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pose: Tensor, *factors: float) -> Tensor:
        result = pose.new_empty(())
        of_translation, of_rotation = (factor / len(pose) for factor in factors)
        _penalty[(1,)](pose, of_translation, of_rotation, result, len(pose), BLOCK=_BLOCK)
        ctx.save_for_backward(pose)
        ctx.factors = of_translation, of_rotation
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        [pose] = ctx.saved_tensors
        to_pose = torch.empty_like(pose)
        _penalty_backward[(triton.cdiv(len(pose), _BLOCK),)](
            pose, *ctx.factors, gradients[0], to_pose, len(pose), BLOCK=_BLOCK
        )
        return to_pose, None, None


@triton.jit
def _three(ptr, at, mask):
    """Load three neighbouring numbers."""
    x = tl.load(ptr + at, mask=mask, other=0.0)
    y = tl.load(ptr + at + 1, mask=mask, other=0.0)
    z = tl.load(ptr + at + 2, mask=mask, other=0.0)
    return x, y, z


@triton.jit
def _store_three(ptr, at, x, y, z, mask):
    tl.store(ptr + at, x, mask=mask)
    tl.store(ptr + at + 1, y, mask=mask)
    tl.store(ptr + at + 2, z, mask=mask)


@triton.jit
def _angle(x, y, z):
    """Compute the angle of a rotation vector, at least 0.01, and Rodrigues' two factors."""
    angle = tl.sqrt(tl.maximum(x * x + y * y + z * z, 1e-4))
    return angle, tl.sin(angle) / angle, (1.0 - tl.cos(angle)) / (angle * angle)


@triton.jit
def _correct(o_ptr, d_ptr, pose_ptr, camera_ptr, moved_ptr, turned_ptr, R, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < R
    at = tl.load(camera_ptr + i, mask=mask, other=0) * 6
    x, y, z = _three(o_ptr, i * 3, mask)
    u, v, w = _three(pose_ptr, at, mask)
    _store_three(moved_ptr, i * 3, x + u, y + v, z + w, mask)
    x, y, z = _three(d_ptr, i * 3, mask)
    u, v, w = _three(pose_ptr, at + 3, mask)
    _, a, b = _angle(u, v, w)
    along = u * x + v * y + w * z
    size = u * u + v * v + w * w
    p = x + a * (v * z - w * y) + b * (u * along - x * size)
    q = y + a * (w * x - u * z) + b * (v * along - y * size)
    r = z + a * (u * y - v * x) + b * (w * along - z * size)
    _store_three(turned_ptr, i * 3, p, q, r, mask)


@triton.jit
def _correct_backward(d_ptr, pose_ptr, camera_ptr, go_ptr, gd_ptr, out_ptr, R, BLOCK: tl.constexpr):
    """Add the gradients of rays to those of the adjustments."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < R
    at = tl.load(camera_ptr + i, mask=mask, other=0) * 6
    gx, gy, gz = _three(go_ptr, i * 3, mask)
    tl.atomic_add(out_ptr + at, gx, mask=mask, sem="relaxed")
    tl.atomic_add(out_ptr + at + 1, gy, mask=mask, sem="relaxed")
    tl.atomic_add(out_ptr + at + 2, gz, mask=mask, sem="relaxed")
    x, y, z = _three(d_ptr, i * 3, mask)
    gx, gy, gz = _three(gd_ptr, i * 3, mask)
    u, v, w = _three(pose_ptr, at + 3, mask)
    angle, a, b = _angle(u, v, w)
    along = u * x + v * y + w * z
    size = u * u + v * v + w * w
    g_along = u * gx + v * gy + w * gz
    g_own = x * gx + y * gy + z * gz
    # The factors' derivatives with respect to the angle, which is constant below its minimum.
    slope_a = (angle * tl.cos(angle) - tl.sin(angle)) / (angle * angle)
    slope_b = tl.sin(angle) / (angle * angle) - 2.0 * b / angle
    # The two terms' derivatives with respect to the factors.
    first = gx * (v * z - w * y) + gy * (w * x - u * z) + gz * (u * y - v * x)
    second = g_along * along - g_own * size
    radial = tl.where(size > 1e-4, (slope_a * first + slope_b * second) / angle, 0.0)
    p = a * (y * gz - z * gy) + b * (gx * along + x * g_along - 2.0 * u * g_own) + radial * u
    q = a * (z * gx - x * gz) + b * (gy * along + y * g_along - 2.0 * v * g_own) + radial * v
    r = a * (x * gy - y * gx) + b * (gz * along + z * g_along - 2.0 * w * g_own) + radial * w
    tl.atomic_add(out_ptr + at + 3, p, mask=mask, sem="relaxed")
    tl.atomic_add(out_ptr + at + 4, q, mask=mask, sem="relaxed")
    tl.atomic_add(out_ptr + at + 5, r, mask=mask, sem="relaxed")


@triton.jit
def _length(pose_ptr, at, mask):
    x, y, z = _three(pose_ptr, at, mask)
    return tl.sqrt(x * x + y * y + z * z), x, y, z


@triton.jit
def _penalty(pose_ptr, of_translation, of_rotation, out_ptr, P, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, P, BLOCK):
        i = start + tl.arange(0, BLOCK)
        moved, _, _, _ = _length(pose_ptr, i * 6, i < P)
        turned, _, _, _ = _length(pose_ptr, i * 6 + 3, i < P)
        total += of_translation * moved + of_rotation * turned
    tl.store(out_ptr, tl.sum(total, 0))


@triton.jit
def _penalty_backward(pose_ptr, of_translation, of_rotation, g_ptr, out_ptr, P, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < P
    g = tl.load(g_ptr)
    size, x, y, z = _length(pose_ptr, i * 6, mask)
    k = tl.where(size > 0.0, g * of_translation / tl.where(size > 0.0, size, 1.0), 0.0)
    _store_three(out_ptr, i * 6, k * x, k * y, k * z, mask)
    size, x, y, z = _length(pose_ptr, i * 6 + 3, mask)
    k = tl.where(size > 0.0, g * of_rotation / tl.where(size > 0.0, size, 1.0), 0.0)
    _store_three(out_ptr, i * 6 + 3, k * x, k * y, k * z, mask)


@triton.jit
def _harmonics(d_ptr, out_ptr, R, BLOCK: tl.constexpr):
    """Compute the first four degrees. Like nerfstudio, move directions into the cube from 0 to 1 first."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < R
    x, y, z = _three(d_ptr, i * 3, mask)
    x = (x + 1.0) / 2.0
    y = (y + 1.0) / 2.0
    z = (z + 1.0) / 2.0
    xx = x * x
    yy = y * y
    zz = z * z
    out = out_ptr + i * 16
    tl.store(out, x * 0.0 + 0.28209479177387814, mask=mask)
    tl.store(out + 1, 0.4886025119029199 * y, mask=mask)
    tl.store(out + 2, 0.4886025119029199 * z, mask=mask)
    tl.store(out + 3, 0.4886025119029199 * x, mask=mask)
    tl.store(out + 4, 1.0925484305920792 * x * y, mask=mask)
    tl.store(out + 5, 1.0925484305920792 * y * z, mask=mask)
    tl.store(out + 6, 0.9461746957575601 * zz - 0.31539156525251999, mask=mask)
    tl.store(out + 7, 1.0925484305920792 * x * z, mask=mask)
    tl.store(out + 8, 0.5462742152960396 * (xx - yy), mask=mask)
    tl.store(out + 9, 0.5900435899266435 * y * (3.0 * xx - yy), mask=mask)
    tl.store(out + 10, 2.890611442640554 * x * y * z, mask=mask)
    tl.store(out + 11, 0.4570457994644658 * y * (5.0 * zz - 1.0), mask=mask)
    tl.store(out + 12, 0.3731763325901154 * z * (5.0 * zz - 3.0), mask=mask)
    tl.store(out + 13, 0.4570457994644658 * x * (5.0 * zz - 1.0), mask=mask)
    tl.store(out + 14, 1.445305721320277 * z * (xx - yy), mask=mask)
    tl.store(out + 15, 0.5900435899266435 * x * (xx - 3.0 * yy), mask=mask)
