"""nerfacto's density and colour networks as one Triton kernel, and their gradients as two.

Operands of matrix products have the features' type: float16 for rendering, and float32 (as TF32) for training. Sums are
float32. Only the features and the results go through memory: the backward pass computes the hidden layers again. The
kernels need tensor cores that Triton's `tl.dot` supports, which means compute capability 8.0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["Networks", "evaluate", "fits"]

_BLOCK, _WARPS = 128, 8
_BACKWARD_BLOCK, _BACKWARD_WARPS = 64, 4
_PROGRAMS = 264  # of the backward pass, which adds its sums once per program: twice the multiprocessors of an H100
_RAYS = tl.constexpr(16)  # at most in a block of the backward pass


class Networks(NamedTuple):
    """The layers of the field, with weights (out, in) as in `torch.nn.Linear`.

    Args:
        w1, b1, w2, b2: from the features to the hidden layer, and to the density's exponent and the geometry features.
        into: the part of the colour network's first layer that reads the geometry features.
        wb, bb, wc, bc: the colour network's second and last layer.
    """

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    into: Tensor
    wb: Tensor
    bb: Tensor
    wc: Tensor
    bc: Tensor


def fits(networks: Networks, samples: int) -> bool:
    """Return whether the kernels support networks of this size, with this number of samples per ray."""
    hidden, features = networks.w1.shape
    same = len(networks.into) == len(networks.wb) == networks.wb.shape[1] == hidden
    size = features in (16, 32, 64) and hidden in (32, 64) and networks.into.shape[1] <= 15
    return same and size and _BACKWARD_BLOCK // samples + 2 <= _RAYS.value


def evaluate(features: Tensor, per_ray: Tensor, networks: Networks, samples: int) -> tuple[Tensor, Tensor]:
    """Evaluate the networks at samples.

    Args:
        features: (channels, N), float16 or float32. Gradients need float32.
        per_ray: (R, hidden) the contribution of each ray to the colour network's first layer, including the bias.
        samples: N / R.

    Returns:
        The exponents of the density (N,), and the logits of the colours (N, 3).
    """
    keep = torch.is_grad_enabled()
    exponent, logits = _Field.apply(features, per_ray.contiguous(), samples, keep, *networks)
    return exponent, logits


class _Field(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, per_ray: Tensor, samples: int, keep: bool, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        networks = Networks(*parameters)
        channels, n = features.shape
        kept = 16 if keep else 1  # of the density network's results, which the backward pass needs
        found, logits = torch.empty(n, kept, device=features.device), torch.empty(n, 3, device=features.device)
        _field[(triton.cdiv(n, _BLOCK),)](
            features, per_ray, *networks, found, logits, n, networks.into.stride(0), S=samples, K=channels,
            H=len(networks.w1), G=networks.into.shape[1], KEPT=kept, ROUND=features.device.type != "cpu",
            BLOCK=_BLOCK, num_warps=_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(features, per_ray, found, *networks)
        ctx.samples = samples
        return found[:, 0], logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, per_ray, found, *parameters = ctx.saved_tensors
        networks = Networks(*parameters)
        channels, n = features.shape
        shapes = [each.shape for each in (per_ray, *networks)]
        sizes = [math.prod(shape) for shape in shapes]
        sums = torch.zeros(sum(sizes), device=features.device)  # one fill for all
        to_rays, *to = [each.view(shape) for each, shape in zip(sums.split(sizes), shapes, strict=True)]
        to_networks = Networks(*to)
        to_found, to_features = torch.empty_like(found), torch.empty_like(features)
        grid = (min(_PROGRAMS, triton.cdiv(n, _BACKWARD_BLOCK)),)
        size = {
            "H": len(networks.w1), "G": networks.into.shape[1], "ROUND": features.device.type != "cpu",
            "BLOCK": _BACKWARD_BLOCK, "num_warps": _BACKWARD_WARPS, "num_stages": 1,
        }  # fmt: skip
        _colour_backward[grid](
            found, per_ray, *networks[4:8], gradients[1].contiguous(), to_found, to_rays, *to_networks[4:],
            n, networks.into.stride(0), S=ctx.samples, **size,
        )  # fmt: skip
        _density_backward[grid](
            features, *networks[:3], gradients[0].contiguous(), to_found, to_features, *to_networks[:4],
            n, K=channels, **size,
        )  # fmt: skip
        return to_features, to_rays, None, None, *to_networks


@triton.jit
def _dot(a, b, ROUND: tl.constexpr):
    """Multiply matrices. Float32 is rounded to TF32, because tensor cores cut the other bits off, which biases sums."""
    if ROUND and a.dtype == tl.float32:
        a = ((a.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        b = ((b.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return tl.dot(a, b)


@triton.jit
def _matrix(w_ptr, row, column, stride, rows, columns, dtype: tl.constexpr):
    """Load a matrix, which is zero outside of its rows and columns."""
    mask = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < columns))[None, :]
    return tl.load(w_ptr + row[:, None] * stride + column[None, :], mask=mask, other=0.0).to(dtype)


@triton.jit
def _density(x, w1, b1, w2, b2, ROUND: tl.constexpr):
    """Compute the density network's hidden layer, and its results."""
    h1 = tl.maximum(_dot(x, tl.trans(w1), ROUND) + b1[None, :], 0.0).to(x.dtype)
    return h1, _dot(h1, tl.trans(w2), ROUND) + b2[None, :]


@triton.jit
def _colour(y, p, wg, wb, bb, ROUND: tl.constexpr):
    """Compute the colour network's hidden layers. The density is among its inputs, with weights of zero."""
    h2 = tl.maximum(_dot(y, tl.trans(wg), ROUND) + p, 0.0).to(y.dtype)
    return h2, tl.maximum(_dot(h2, tl.trans(wb), ROUND) + bb[None, :], 0.0).to(y.dtype)


@triton.jit
def _field(
    x_ptr, p_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, wg_ptr, wb_ptr, bb_ptr, wc_ptr, bc_ptr, y_ptr, z_ptr, N, g_stride,
    S: tl.constexpr, K: tl.constexpr, H: tl.constexpr, G: tl.constexpr, KEPT: tl.constexpr, ROUND: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the first KEPT of the density network's results, and the logits of colours."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = (i < N)[:, None]
    k = tl.arange(0, K)
    j = tl.arange(0, H)
    g = tl.arange(0, 16)
    dtype = x_ptr.dtype.element_ty
    x = tl.load(x_ptr + k[None, :] * N + i[:, None], mask=mask, other=0.0)
    w1 = _matrix(w1_ptr, j, k, K, H, K, dtype)
    w2 = _matrix(w2_ptr, g, j, H, G + 1, H, dtype)
    _, y = _density(x, w1, tl.load(b1_ptr + j), w2, tl.load(b2_ptr + g, mask=g <= G, other=0.0), ROUND)
    tl.store(y_ptr + i[:, None] * KEPT + g[None, :], y, mask=mask & (g[None, :] < KEPT))
    p = tl.load(p_ptr + (i // S)[:, None] * H + j[None, :], mask=mask, other=0.0)
    wg = _matrix(wg_ptr, j, g - 1, g_stride, H, G, dtype)
    wb = _matrix(wb_ptr, j, j, H, H, H, dtype)
    _, h3 = _colour(y.to(dtype), p, wg, wb, tl.load(bb_ptr + j), ROUND)
    z = _dot(h3, tl.trans(_matrix(wc_ptr, g, j, H, 3, H, dtype)), ROUND)
    z += tl.load(bc_ptr + g, mask=g < 3, other=0.0)[None, :]
    tl.store(z_ptr + i[:, None] * 3 + g[None, :], z, mask=mask & (g[None, :] < 3))


@triton.jit
def _colour_backward(
    y_ptr, p_ptr, wg_ptr, wb_ptr, bb_ptr, wc_ptr, gz_ptr, gy_ptr, gp_ptr, gwg_ptr, gwb_ptr, gbb_ptr, gwc_ptr, gbc_ptr,
    N, g_stride, S: tl.constexpr, H: tl.constexpr, G: tl.constexpr, ROUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Propagate the gradients of logits (gz) to the density network's results (gy), and add all others."""
    j = tl.arange(0, H)
    g = tl.arange(0, 16)
    q = tl.arange(0, _RAYS)
    wg = _matrix(wg_ptr, j, g - 1, g_stride, H, G, tl.float32)
    wb = _matrix(wb_ptr, j, j, H, H, H, tl.float32)
    wc = _matrix(wc_ptr, g, j, H, 3, H, tl.float32)
    bb = tl.load(bb_ptr + j)
    gwg = tl.zeros((H, 16), tl.float32)
    gwb = tl.zeros((H, H), tl.float32)
    gwc = tl.zeros((16, H), tl.float32)
    gbb = tl.zeros((H,), tl.float32)
    gbc = tl.zeros((16,), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(N, BLOCK), tl.num_programs(0)):
        i = block * BLOCK + tl.arange(0, BLOCK)
        mask = (i < N)[:, None]
        y = tl.load(y_ptr + i[:, None] * 16 + g[None, :], mask=mask, other=0.0)
        p = tl.load(p_ptr + (i // S)[:, None] * H + j[None, :], mask=mask, other=0.0)
        h2, h3 = _colour(y, p, wg, wb, bb, ROUND)
        gz = tl.load(gz_ptr + i[:, None] * 3 + g[None, :], mask=mask & (g[None, :] < 3), other=0.0)
        gwc += _dot(tl.trans(gz), h3, ROUND)
        gbc += tl.sum(gz, 0)
        gh = tl.where(h3 > 0.0, _dot(gz, wc, ROUND), 0.0)
        gwb += _dot(tl.trans(gh), h2, ROUND)
        gbb += tl.sum(gh, 0)
        gh = tl.where(h2 > 0.0, _dot(gh, wb, ROUND), 0.0)
        gwg += _dot(tl.trans(gh), y, ROUND)
        first = block * BLOCK // S
        last = (tl.minimum(block * BLOCK + BLOCK, N) - 1) // S
        same = ((i // S)[None, :] == first + q[:, None]).to(tl.float32)  # of ray and sample
        at = gp_ptr + (first + q)[:, None] * H + j[None, :]
        tl.atomic_add(at, _dot(same, gh, ROUND), mask=(first + q <= last)[:, None], sem="relaxed")
        tl.store(gy_ptr + i[:, None] * 16 + g[None, :], _dot(gh, wg, ROUND), mask=mask)
    geometry = ((g >= 1) & (g <= G))[None, :]
    tl.atomic_add(gwg_ptr + j[:, None] * G + (g[None, :] - 1), gwg, mask=geometry, sem="relaxed")
    tl.atomic_add(gwb_ptr + j[:, None] * H + j[None, :], gwb, sem="relaxed")
    tl.atomic_add(gbb_ptr + j, gbb, sem="relaxed")
    tl.atomic_add(gwc_ptr + g[:, None] * H + j[None, :], gwc, mask=g[:, None] < 3, sem="relaxed")
    tl.atomic_add(gbc_ptr + g, gbc, mask=g < 3, sem="relaxed")


@triton.jit
def _density_backward(
    x_ptr, w1_ptr, b1_ptr, w2_ptr, ge_ptr, gy_ptr, gx_ptr, gw1_ptr, gb1_ptr, gw2_ptr, gb2_ptr,
    N, K: tl.constexpr, H: tl.constexpr, G: tl.constexpr, ROUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Propagate the gradients of exponents (ge) and results (gy) to the features (gx), and add all others."""
    k = tl.arange(0, K)
    j = tl.arange(0, H)
    g = tl.arange(0, 16)
    w1 = _matrix(w1_ptr, j, k, K, H, K, tl.float32)
    w2 = _matrix(w2_ptr, g, j, H, G + 1, H, tl.float32)
    b1 = tl.load(b1_ptr + j)
    gw1 = tl.zeros((H, K), tl.float32)
    gw2 = tl.zeros((16, H), tl.float32)
    gb1 = tl.zeros((H,), tl.float32)
    gb2 = tl.zeros((16,), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(N, BLOCK), tl.num_programs(0)):
        i = block * BLOCK + tl.arange(0, BLOCK)
        mask = (i < N)[:, None]
        x = tl.load(x_ptr + k[None, :] * N + i[:, None], mask=mask, other=0.0)
        h1 = tl.maximum(_dot(x, tl.trans(w1), ROUND) + b1[None, :], 0.0)
        gy = tl.load(gy_ptr + i[:, None] * 16 + g[None, :], mask=mask, other=0.0)
        ge = tl.load(ge_ptr + i, mask=i < N, other=0.0)
        gy += tl.where(g[None, :] == 0, ge[:, None], 0.0)
        gw2 += _dot(tl.trans(gy), h1, ROUND)
        gb2 += tl.sum(gy, 0)
        gh = tl.where(h1 > 0.0, _dot(gy, w2, ROUND), 0.0)
        gw1 += _dot(tl.trans(gh), x, ROUND)
        gb1 += tl.sum(gh, 0)
        tl.store(gx_ptr + k[None, :] * N + i[:, None], _dot(gh, w1, ROUND), mask=mask)
    tl.atomic_add(gw1_ptr + j[:, None] * K + k[None, :], gw1, sem="relaxed")
    tl.atomic_add(gb1_ptr + j, gb1, sem="relaxed")
    tl.atomic_add(gw2_ptr + g[:, None] * H + j[None, :], gw2, mask=g[:, None] <= G, sem="relaxed")
    tl.atomic_add(gb2_ptr + g, gb2, mask=g <= G, sem="relaxed")
