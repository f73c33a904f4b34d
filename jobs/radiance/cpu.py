"""Faster versions of nerfstudio's code on CPUs, with the same parameters, values and gradients.

- The multiresolution hash encoding (Müller et al. 2022, "Instant Neural Graphics Primitives"). nerfstudio spends its
  time on remainders of 64-bit integers and on eight tensors of looked-up features. This version hashes in 32 bits with
  a mask. Levels are the outermost dimension, so that a level's table stays in the cache. One `embedding_bag` looks up,
  weights and sums. A sparse matrix, with a column of eight weights for each point and level, adds the gradients up.
- The contraction of space (Barron et al. 2022, "Mip-NeRF 360") with the infinity norm. `torch.linalg.norm` takes thirty
  times as long for it as `amax`.
- Adam, by PyTorch's own function that passes once over the parameters. Its default passes a dozen times over tables
  that do not fit in the cache.

benchmarks/cpu_encoding.py measures the gain.
"""

from __future__ import annotations

import math
from functools import partialmethod
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.spatial_distortions import SceneContraction
from scipy.sparse import csc_array
from torch import Tensor
from torch.nn import functional

_PRIMES = (2654435761 - 2**32, 805459861)  # of the hash, wrapped to signed 32 bits as the multiplication wraps
_BLOCK = 16_384  # points at a time; the temporary tensors of more points do not fit in the cache

_stock_encode = HashEncoding.pytorch_fwd
_stock_contract = SceneContraction.forward


def install(point_gradients: bool = True) -> None:
    """Use the functions below in this process, for tensors on a CPU.

    Args:
        point_gradients: whether gradients of points are needed, to refine cameras or for normals. nerfstudio's own code
            computes them then. nerfacto requests them even if nothing uses them.
    """
    HashEncoding.pytorch_fwd = partialmethod(encode, point_gradients=point_gradients)
    SceneContraction.forward = contract


def fuse(optimizers: Optimizers) -> None:
    """Let nerfstudio's optimizers that are Adam pass once over the parameters in each step, if these are on a CPU."""
    for optimizer in optimizers.optimizers.values():
        if not isinstance(optimizer, torch.optim.Adam):
            continue
        for group in optimizer.param_groups:
            if all(each.device.type == "cpu" for each in group["params"]):
                group.update(fused=True, foreach=False)


def contract(contraction: SceneContraction, positions: Any) -> Any:
    """Contract positions [..., 3] into the cube from -2 to 2. Leave other types and norms to nerfstudio."""
    if not isinstance(positions, Tensor) or positions.device.type != "cpu" or contraction.order != math.inf:
        return _stock_contract(contraction, positions)
    size = positions.abs().amax(-1, keepdim=True)
    return torch.where(size < 1, positions, (2 - 1 / size) * (positions / size))


def encode(encoding: HashEncoding, points: Tensor, point_gradients: bool = True) -> Tensor:
    """Encode points.

    Args:
        encoding: the encoding, with its table of levels × 2^log2_hashmap_size rows.
        points: [N, 3], each from 0 to 1.
        point_gradients: see `install`. If False, only the table gets gradients.

    Returns:
        [N, levels × features per level]
    """
    points_too = point_gradients and points.requires_grad and torch.is_grad_enabled()
    if points_too or points.device.type != "cpu" or points.ndim != 2:
        return _stock_encode(encoding, points)  # type: ignore[no-any-return]
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
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        rows, features = ctx.table_shape
        levels = gradients[0].shape[1] // features
        result = None
        corners = ctx.saved_tensors
        for block, index, weights in zip(torch.split(gradients[0], _BLOCK), corners[::2], corners[1::2], strict=True):
            upstream = block.view(-1, levels, features).transpose(0, 1).reshape(-1, features)  # of a level and point
            starts = np.arange(0, index.numel() + 1, 8, dtype=np.int32)
            matrix = csc_array((weights.view(-1).numpy(), index.view(-1).numpy(), starts), (rows, len(upstream)))
            part = torch.from_numpy(matrix @ upstream.numpy())
            result = part if result is None else result.add_(part)
        return result, None, None, None


def _corners(points: Tensor, scalings: Tensor, log2_size: int) -> tuple[Tensor, Tensor]:
    """Return the table rows and the trilinear weights of the eight corners around each point, [levels, N, 8] each.

    nerfstudio uses the ceiling instead of the floor plus one. They differ only where the weight is zero.
    """
    mask = (1 << log2_size) - 1
    scaled = points.t()[:, None, :] * scalings[:, None]  # [3, levels, N]
    floor = scaled.floor()
    far = scaled.sub_(floor)
    near = 1 - far
    low = floor.to(torch.int32)
    first_row = torch.arange(len(scalings), dtype=torch.int32)[:, None] << log2_size
    x = (low[0] & mask) + first_row, ((low[0] + 1) & mask) + first_row
    y_hash, z_hash = low[1] * _PRIMES[0], low[2] * _PRIMES[1]
    y, z = (y_hash & mask, (y_hash + _PRIMES[0]) & mask), (z_hash & mask, (z_hash + _PRIMES[1]) & mask)
    rows = low.new_empty(*low.shape[1:], 8)
    weights = far.new_empty(*low.shape[1:], 8)
    corner = 0
    for x_row, x_weight in zip(x, (near[0], far[0]), strict=True):
        for y_row, y_weight in zip(y, (near[1], far[1]), strict=True):
            xy_row, xy_weight = x_row ^ y_row, x_weight * y_weight
            for z_row, z_weight in zip(z, (near[2], far[2]), strict=True):
                torch.bitwise_xor(xy_row, z_row, out=rows[..., corner])
                torch.mul(xy_weight, z_weight, out=weights[..., corner])
                corner += 1
    return rows, weights
