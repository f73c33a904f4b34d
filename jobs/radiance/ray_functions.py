"""Differentiable PyTorch functions for the kernels along rays. All tensors are on one device.

Names: R rays with S samples each; bins (R, S + 1) are the samples' limits as positions from 0 to 1, and edges
(R, S + 1) the same as distances from the camera.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from jobs.radiance import ray_kernels

__all__ = ["first_edges", "interlevel_loss", "median_depth", "picture", "ray_losses", "resample", "weigh"]

_BLOCK = 256
_ROWS = 16  # of a comparison of samples by samples, to stay in registers


def first_edges(jitter: Tensor | None, near: Tensor, far: Tensor, rays: int, samples: int) -> tuple[Tensor, Tensor]:
    """Return the bins and edges of a ray's first samples.

    Args:
        jitter: (R, 1) how far the limits between samples move, 0 to 1; None for equal bins.
        near, far: (R, 1) or (1, 1) the distances at which rays begin and end.
        rays, samples: R and S.
    """
    bins = near.new_empty(rays, samples + 1)
    edges, n = torch.empty_like(bins), bins.numel()
    ray_kernels.first_edges[(triton.cdiv(n, _BLOCK),)](
        near if jitter is None else jitter, near, far, bins, edges, _step(near), _step(far), n,
        S=samples, JITTER=jitter is not None, BLOCK=_BLOCK,
    )  # fmt: skip
    return bins, edges


def weigh(density: Tensor, edges: Tensor, anneal: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the weights (R, S) of samples, and the distribution (R, S) for `resample`.

    Args:
        density: (R, S), differentiable.
        edges: of the samples.
        anneal: () the exponent of the weights in the distribution; None for 1.
    """
    weights, distribution = _Weights.apply(density, edges, anneal)
    return weights, distribution


def resample(
    distribution: Tensor, bins: Tensor, jitter: Tensor, near: Tensor, far: Tensor, samples: int
) -> tuple[Tensor, Tensor]:
    """Return the bins and edges of a ray's next samples, which are denser where the weights are larger.

    Args:
        distribution: see `weigh`.
        bins: of the samples of the distribution.
        jitter: (R, 1) or (1, 1) the position of quantiles in their intervals, 0 to 1.
        near, far: see `first_edges`.
        samples: the number of the next samples.
    """
    rays, earlier = distribution.shape
    found = distribution.new_empty(rays, samples + 1)
    edges, n = torch.empty_like(found), found.numel()
    ray_kernels.resample[(triton.cdiv(n, _BLOCK),)](
        distribution, bins, jitter, near, far, found, edges, _step(jitter), _step(near), _step(far), n,
        S=earlier, T=samples, STEPS=earlier.bit_length(), BLOCK=_BLOCK,
    )  # fmt: skip
    return found, edges


def ray_losses(
    exponent: Tensor,
    inside: Tensor,
    logits: Tensor,
    edges: Tensor,
    bins: Tensor,
    truth: Tensor,
    factor: float,
    scaled: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean squared error of colours, the mean distortion, and the weights (R, S) of the last samples.

    The weights have no gradient.

    Args:
        exponent: (R x S,) of the density, differentiable; it need not be contiguous.
        inside: (R x S,) 1, or 0 where the density is 0.
        logits: (R x S, 3) of the colours, differentiable.
        edges, bins: of the samples.
        truth: (R, 3) the colours of the rays.
        factor: multiplies the density.
        scaled: whether to shrink gradients near the camera, like nerfstudio's `scale_gradients_by_distance_squared`.
    """
    error, distortion, weights = _Losses.apply(exponent, inside, logits, edges, bins, truth, float(factor), scaled)
    return error, distortion, weights


def interlevel_loss(bins: Tensor, weights: Tensor, outer_bins: Tensor, outer_weights: Tensor) -> Tensor:
    """Return the mean interlevel loss of a proposal network, like nerfstudio's `lossfun_outer` for sorted bins.

    Args:
        bins, weights: of the last samples.
        outer_bins, outer_weights: of the proposal network's samples. These weights are differentiable.
    """
    loss: Tensor = _Interlevel.apply(bins, weights, outer_bins, outer_weights)
    return loss


def median_depth(weights: Tensor, edges: Tensor) -> Tensor:
    """Return the distances (R, 1) at which half of a ray's weight is reached."""
    rays, samples = weights.shape
    depth = weights.new_empty(rays, 1)
    ray_kernels.median[(rays,)](weights, edges, depth, S=samples, **_width(samples))
    return depth


def picture(
    exponent: Tensor, inside: Tensor, logits: Tensor, edges: Tensor, background: Tensor, factor: float
) -> dict[str, Tensor]:
    """Return what a picture shows, under nerfstudio's names: rgb (R, 3), accumulation, depth and expected_depth (R, 1).

    Args:
        exponent, inside, logits, edges, factor: see `ray_losses`.
        background: (1, 3) the colour behind everything; NaN for the colour of the last sample.
    """
    rays, samples = edges.shape[0], edges.shape[1] - 1
    rgb = edges.new_empty(rays, 3)
    seen, depth, expected = (edges.new_empty(rays, 1) for _ in range(3))
    ray_kernels.picture[(rays,)](
        exponent, inside, logits, edges, background, rgb, seen, depth, expected, exponent.stride(0), float(factor),
        S=samples, **_width(samples),
    )  # fmt: skip
    return {"rgb": rgb, "accumulation": seen, "depth": depth, "expected_depth": expected}


def _step(each: Tensor) -> int:
    """Return the distance between the rows of a tensor (R, 1), or 0 for (1, 1)."""
    return each.stride(0) if len(each) > 1 else 0


def _width(samples: int, per_warp: int = 128) -> dict[str, int]:
    """Return the size of a program for one ray."""
    width = triton.next_power_of_2(samples)
    return {"WIDTH": width, "num_warps": min(4, max(1, width // per_warp))}


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, edges: Tensor, anneal: Tensor | None) -> tuple[Tensor, Tensor]:
        rays, samples = density.shape
        weights, distribution = torch.empty_like(density), torch.empty_like(density)
        ray_kernels.weights_forward[(rays,)](
            density, edges, density if anneal is None else anneal, weights, distribution,
            S=samples, ANNEAL=anneal is not None, **_width(samples),
        )  # fmt: skip
        ctx.save_for_backward(density, edges)
        ctx.mark_non_differentiable(distribution)
        return weights, distribution

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        density, edges = ctx.saved_tensors
        rays, samples = density.shape
        to_density = torch.empty_like(density)
        ray_kernels.weights_backward[(rays,)](
            density, edges, gradients[0].contiguous(), to_density, S=samples, **_width(samples)
        )
        return to_density, None, None


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exponent: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        inside, logits, edges, bins, truth, factor, scaled = others
        rays, samples = edges.shape[0], edges.shape[1] - 1
        each = edges.new_empty(2, rays)
        weights = edges.new_empty(rays, samples)
        ray_kernels.losses_forward[(rays,)](
            exponent, inside, logits, edges, bins, truth, each[0], each[1], weights, exponent.stride(0), factor,
            S=samples, **_width(samples),
        )  # fmt: skip
        ctx.save_for_backward(exponent, inside, logits, edges, bins, truth)
        ctx.factor, ctx.scaled = factor, scaled
        ctx.mark_non_differentiable(weights)
        error, distortion = each.mean(1).unbind()
        return error, distortion, weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exponent, inside, logits, edges, bins, truth = ctx.saved_tensors
        rays, samples = edges.shape[0], edges.shape[1] - 1
        to_exponent = torch.empty(exponent.shape, dtype=exponent.dtype, device=exponent.device)
        to_logits = torch.empty_like(logits)
        ray_kernels.losses_backward[(rays,)](
            exponent, inside, logits, edges, bins, truth, gradients[0], gradients[1], to_exponent, to_logits,
            exponent.stride(0), ctx.factor, 1.0 / rays, S=samples, SCALED=ctx.scaled, **_width(samples),
        )  # fmt: skip
        return to_exponent, None, to_logits, None, None, None, None, None


class _Interlevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bins: Tensor, weights: Tensor, outer_bins: Tensor, outer_weights: Tensor) -> Tensor:
        rays, samples = weights.shape
        each, slope = weights.new_empty(rays), torch.empty_like(outer_weights)
        ray_kernels.interlevel[(rays,)](
            bins, weights, outer_bins, outer_weights, each, slope,
            T=samples, S=outer_weights.shape[1], ROWS=_ROWS, **_width(outer_weights.shape[1], 64),
        )  # fmt: skip
        ctx.save_for_backward(slope)
        ctx.count = weights.numel()
        loss: Tensor = each.sum() / ctx.count
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor]:
        [slope] = ctx.saved_tensors
        return None, None, None, slope * (gradients[0] / ctx.count)
