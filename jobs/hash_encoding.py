"""nerfstudio's multiresolution hash encoding (Müller et al. 2022, "Instant Neural Graphics Primitives"), made faster
for a CPU: the same parameters, values and gradients as its own PyTorch code.

Where the time goes there is 64-bit integers with a remainder, and eight tensors of looked-up features. Here the hash
is in 32 bits with a mask, levels are the outermost dimension so that a level's table stays in the cache, and one
`embedding_bag` looks up, weights and sums.
"""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor
from torch.nn import functional

_PRIMES = (2654435761 - 2**32, 805459861)  # of the hash, wrapped to signed 32 bits as the multiplication wraps
_BLOCK = 16_384  # points at a time: the temporary tensors of more fall out of the cache

_stock_forward = HashEncoding.pytorch_fwd


def install() -> None:
    """Have every `HashEncoding` of this process use `encode`."""
    HashEncoding.pytorch_fwd = encode


def encode(encoding: HashEncoding, points: Tensor) -> Tensor:
    """Encode points; gradients flow to the table of features only, not to the points.

    Args:
        encoding: the encoding, with its table of levels × 2^log2_hashmap_size rows.
        points: [N, 3], each from 0 to 1.

    Returns:
        [N, levels × features per level]
    """
    if points.device.type != "cpu" or points.ndim != 2:
        return _stock_forward(encoding, points)  # type: ignore[no-any-return]
    result: Tensor = _Encode.apply(encoding.hash_table, points, encoding.scalings, encoding.log2_hashmap_size)
    return result


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, points: Tensor, scalings: Tensor, log2_size: int) -> Tensor:
        levels, features = len(scalings), table.shape[1]
        result = points.new_empty(len(points), levels, features)
        corners = []
        for block, out in zip(torch.split(points, _BLOCK), torch.split(result, _BLOCK), strict=True):
            rows, weights = _corners(block, scalings, log2_size)
            bags = functional.embedding_bag(rows.view(-1, 8), table, mode="sum", per_sample_weights=weights.view(-1, 8))
            out.copy_(bags.view(levels, -1, features).transpose(0, 1))
            if ctx.needs_input_grad[0]:
                corners += [rows, weights]
        ctx.save_for_backward(*corners)
        ctx.table_shape = table.shape
        return result.view(len(points), -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        rows, features = ctx.table_shape
        levels = gradients[0].shape[1] // features
        # one row a feature, so that the sums run over a one-dimensional table that fits in the cache
        result = gradients[0].new_zeros(features, rows)
        corners = ctx.saved_tensors
        for block, index, weights in zip(torch.split(gradients[0], _BLOCK), corners[::2], corners[1::2], strict=True):
            per_feature = block.view(-1, levels, features).permute(2, 1, 0).unsqueeze(-1)
            parts = torch.mul(weights, per_feature.contiguous()).view(features, -1)
            result.scatter_add_(1, index.view(1, -1).long().expand(features, -1), parts)
        return result.t(), None, None, None


def _corners(points: Tensor, scalings: Tensor, log2_size: int) -> tuple[Tensor, Tensor]:
    """The rows of the table and the trilinear weights of the eight corners around each point: [levels, N, 8] each."""
    scaled = points.t()[:, None, :] * scalings[:, None]  # [3, levels, N]
    floor = scaled.floor()
    offset = scaled.sub_(floor)
    low = floor.to(torch.int32)
    high = low + (offset > 0)
    near = 1 - offset
    x = (low[0], near[0]), (high[0], offset[0])
    y = (low[1] * _PRIMES[0], near[1]), (high[1] * _PRIMES[0], offset[1])
    z = (low[2] * _PRIMES[1], near[2]), (high[2] * _PRIMES[1], offset[2])
    rows = low.new_empty(*low.shape[1:], 8)
    weights = offset.new_empty(*low.shape[1:], 8)
    corner = 0
    for x_hash, x_weight in x:
        for y_hash, y_weight in y:
            xy_hash, xy_weight = x_hash ^ y_hash, x_weight * y_weight
            for z_hash, z_weight in z:
                torch.bitwise_xor(xy_hash, z_hash, out=rows[..., corner])
                torch.mul(xy_weight, z_weight, out=weights[..., corner])
                corner += 1
    first = torch.arange(len(scalings), dtype=torch.int32)[:, None, None] << log2_size
    return rows.bitwise_and_((1 << log2_size) - 1).add_(first), weights
