"""Differentiable PyTorch functions for the kernels. All tensors are contiguous and on one device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from jobs.radiance import kernels

__all__ = ["Proposal", "contract", "encode", "proposed_density"]

_BLOCK = 256
_DENSITY_PROGRAMS = 1056  # of the backward pass: eight for each multiprocessor of an H100
_DENSITY_BLOCK = 128  # smaller, because a network's hidden layer is in registers


class Proposal(NamedTuple):
    """The parameters of a proposal network, as nerfstudio's own tensors.

    Args:
        table: (levels x 2^log2_size, 2) hash table.
        w1, b1, w2, b2: weights (out, in) and biases of its two layers.
        scalings: (levels,) cells along an edge of the cube.
        log2_size: the binary logarithm of the number of rows in a level.
        factor: multiplies the density.
    """

    table: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    scalings: Tensor
    log2_size: int
    factor: float


def contract(origins: Tensor, directions: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Contract the centres of samples into the cube from 0 to 1.

    Args:
        origins, directions: (R, 3), differentiable.
        edges: (R, S + 1) distances along the rays.

    Returns:
        The points (3, R x S), and (R x S,) 1 for points inside the cube. Other points are 0, and have 0.
    """
    points, inside = _Points.apply(origins, directions, edges)
    return points, inside


def encode(points: Tensor, table: Tensor, scalings: Tensor, log2_size: int, dtype: torch.dtype) -> Tensor:
    """Encode points (3, N), 0 to 1, with a hash table. Return features (2 x levels, N), differentiable in both."""
    features: Tensor = _Encode.apply(points, table, scalings, log2_size, dtype)
    return features


def proposed_density(origins: Tensor, directions: Tensor, edges: Tensor, network: Proposal) -> Tensor:
    """Compute the densities (R, S) of a proposal network at the centres of samples; see `contract`."""
    density: Tensor = _Density.apply(origins, directions, edges, *network)
    return density


def _wide(table: Tensor) -> Tensor:
    """View the rows of a table, two 32-bit floats each, as 64-bit integers."""
    return table.detach().view(torch.int64)


def _to_rays(origins: Tensor, directions: Tensor, edges: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Convert the gradients of contracted points (3, R x S) to those of origins and directions."""
    rays, samples = edges.shape[0], edges.shape[1] - 1
    to_origins, to_directions = torch.empty_like(origins), torch.empty_like(directions)
    width = triton.next_power_of_2(samples)
    kernels.points_backward[(rays,)](
        origins, directions, edges, gradient.contiguous(), to_origins, to_directions, rays * samples,
        S=samples, WIDTH=width, num_warps=min(4, max(1, width // 64)),
    )  # fmt: skip
    return to_origins, to_directions


class _Points(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, origins: Tensor, directions: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        samples = edges.shape[1] - 1
        n = edges.shape[0] * samples
        points, inside = origins.new_empty(3, n), origins.new_empty(n)
        kernels.points_forward[(triton.cdiv(n, _BLOCK),)](
            origins, directions, edges, points, inside, n, S=samples, BLOCK=_BLOCK
        )
        ctx.save_for_backward(origins, directions, edges)
        ctx.mark_non_differentiable(inside)
        return points, inside

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        origins, directions, edges = ctx.saved_tensors
        return *_to_rays(origins, directions, edges, gradients[0]), None


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, table: Tensor, scalings: Tensor, log2_size: int, dtype: torch.dtype
    ) -> Tensor:
        n, levels = points.shape[1], len(scalings)
        features = torch.empty(2 * levels, n, dtype=dtype, device=points.device)
        kernels.encode_forward[(triton.cdiv(n, _BLOCK), levels)](
            points, _wide(table), scalings, features, n, LOG2=log2_size, BLOCK=_BLOCK
        )
        ctx.save_for_backward(points, table, scalings)
        ctx.log2_size = log2_size
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        points, table, scalings = ctx.saved_tensors
        n, levels = points.shape[1], len(scalings)
        to_table = torch.zeros_like(table)
        wanted = ctx.needs_input_grad[0]
        to_points = torch.zeros_like(points) if wanted else points
        # With one point per thread, pairs of features need no exchange between threads.
        kernels.encode_backward[(triton.cdiv(n, _BLOCK), levels)](
            gradients[0].contiguous(), points, _wide(table), to_table, scalings, to_points, n,
            LOG2=ctx.log2_size, POINTS=wanted, BLOCK=_BLOCK, num_warps=_BLOCK // 32,
        )  # fmt: skip
        return to_points if wanted else None, to_table, None, None, None


class _Density(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, origins: Tensor, directions: Tensor, edges: Tensor, *parameters: Any) -> Tensor:
        network = Proposal(*parameters)
        rays, samples = edges.shape[0], edges.shape[1] - 1
        density = origins.new_empty(rays, samples)
        kernels.density_forward[(triton.cdiv(rays * samples, _DENSITY_BLOCK),)](
            origins, directions, edges, _wide(network.table), network.scalings, *network[1:5], density, rays * samples,
            network.factor, S=samples, L=len(network.scalings), H=len(network.b1), LOG2=network.log2_size,
            BLOCK=_DENSITY_BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(origins, directions, edges, *network[:6])
        ctx.log2_size, ctx.factor = network.log2_size, network.factor
        return density

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        origins, directions, edges, *parameters = ctx.saved_tensors
        network = Proposal._make([*parameters, ctx.log2_size, ctx.factor])
        rays, samples = edges.shape[0], edges.shape[1] - 1
        n = rays * samples
        to_parameters = [torch.zeros_like(each) for each in network[:5]]
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        to_points = origins.new_empty(3, n) if wanted else origins
        kernels.density_backward[(min(_DENSITY_PROGRAMS, triton.cdiv(n, _DENSITY_BLOCK)),)](
            origins, directions, edges, _wide(network.table), network.scalings, *network[1:5],
            gradients[0].contiguous(), *to_parameters, to_points, n, network.factor,
            S=samples, L=len(network.scalings), C=triton.next_power_of_2(2 * len(network.scalings)), H=len(network.b1),
            LOG2=network.log2_size, POINTS=wanted, BLOCK=_DENSITY_BLOCK,
        )  # fmt: skip
        to_rays = _to_rays(origins, directions, edges, to_points) if wanted else (None, None)
        return *to_rays, None, *to_parameters, None, None, None
