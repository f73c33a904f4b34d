"""nerfacto's density and colour networks as one Triton kernel for rendering, without gradients.

Operands of matrix products are float16, and sums are float32. Only the features and the results go through memory. The
kernel needs tensor cores that Triton's `tl.dot` supports, which means compute capability 8.0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["Networks", "evaluate", "fits"]

_BLOCK = 128
_WARPS = 8


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


def fits(networks: Networks) -> bool:
    """Return whether the kernel supports networks of this size."""
    hidden, features = networks.w1.shape
    same = len(networks.into) == len(networks.wb) == networks.wb.shape[1] == hidden
    return same and features in (16, 32, 64) and hidden in (32, 64) and networks.into.shape[1] <= 15


def evaluate(features: Tensor, per_ray: Tensor, networks: Networks, samples: int) -> tuple[Tensor, Tensor]:
    """Evaluate the networks at samples.

    Args:
        features: (channels, N) float16.
        per_ray: (R, hidden) the contribution of each ray to the colour network's first layer, including the bias.
        samples: N / R.

    Returns:
        The exponents of the density (N,), and the logits of the colours (N, 3).
    """
    channels, n = features.shape
    exponent, logits = torch.empty(n, device=features.device), torch.empty(n, 3, device=features.device)
    _field[(triton.cdiv(n, _BLOCK),)](
        features, per_ray.contiguous(), *networks, exponent, logits, n, networks.into.stride(0),
        S=samples, K=channels, H=len(networks.w1), G=networks.into.shape[1], BLOCK=_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    return exponent, logits


@triton.jit
def _field(
    x_ptr, p_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, wg_ptr, wb_ptr, bb_ptr, wc_ptr, bc_ptr, exponent_ptr, logit_ptr,
    N, g_stride, S: tl.constexpr, K: tl.constexpr, H: tl.constexpr, G: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < N
    k = tl.arange(0, K)
    j = tl.arange(0, H)
    g = tl.arange(0, 16)
    x = tl.load(x_ptr + k[None, :] * N + i[:, None], mask=mask[:, None], other=0.0)
    w1 = tl.load(w1_ptr + j[None, :] * K + k[:, None]).to(tl.float16)  # (K, H)
    h = tl.maximum(tl.dot(x, w1) + tl.load(b1_ptr + j)[None, :], 0.0).to(tl.float16)
    w2 = tl.load(w2_ptr + g[None, :] * H + j[:, None], mask=g[None, :] <= G, other=0.0).to(tl.float16)  # (H, 16)
    y = tl.dot(h, w2) + tl.load(b2_ptr + g, mask=g <= G, other=0.0)[None, :]
    tl.store(exponent_ptr + i, tl.sum(tl.where(g[None, :] == 0, y, 0.0), 1), mask=mask)
    # The density is column 0 of y: its row of the weights is zero.
    shown = (g[:, None] >= 1) & (g[:, None] <= G)
    wg = tl.load(wg_ptr + j[None, :] * g_stride + (g[:, None] - 1), mask=shown, other=0.0).to(tl.float16)  # (16, H)
    p = tl.load(p_ptr + (i // S)[:, None] * H + j[None, :], mask=mask[:, None], other=0.0)
    h = tl.maximum(tl.dot(y.to(tl.float16), wg) + p, 0.0).to(tl.float16)
    wb = tl.load(wb_ptr + j[None, :] * H + j[:, None]).to(tl.float16)  # (H, H)
    h = tl.maximum(tl.dot(h, wb) + tl.load(bb_ptr + j)[None, :], 0.0).to(tl.float16)
    wc = tl.load(wc_ptr + g[None, :] * H + j[:, None], mask=g[None, :] < 3, other=0.0).to(tl.float16)  # (H, 16)
    z = tl.dot(h, wc) + tl.load(bc_ptr + g, mask=g < 3, other=0.0)[None, :]
    tl.store(logit_ptr + i[:, None] * 3 + g[None, :], z, mask=mask[:, None] & (g[None, :] < 3))
