"""The mathematics of nerfstudio 1.1.5's nerfacto, on its own parameters, in a form that a CUDA graph can capture.

No Python number changes from step to step, shapes are fixed, and nothing waits for the GPU. Three computations differ
from nerfstudio's, with the same values within rounding. Positions, hash encodings and proposal networks are Triton
kernels. Spherical harmonics and appearance are the same for all samples of a ray, so they enter the colour network's
first layer once per ray. Samples are sorted, so the distortion loss is summed in linear time.
"""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from nerfstudio.fields.base_field import get_normalized_directions
from nerfstudio.model_components.losses import lossfun_outer
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor
from torch.nn import functional

from jobs.radiance import field
from jobs.radiance.functions import Proposal, contract, encode, exponential, proposed_density

__all__ = ["Nerfacto"]


class Nerfacto:
    """Computes nerfacto's losses and pictures with the parameters of a model that `support` covers.

    Args:
        model: nerfstudio's model.
        dtype: the type of the features and of the networks' matrix products in training. With float32, PyTorch's
            settings may select TF32.
        fused: whether to render with the field's networks in one kernel, if it supports their size.
    """

    def __init__(self, model: NerfactoModel, dtype: torch.dtype = torch.float32, fused: bool = False) -> None:
        self._model, self._config, self._dtype = model, model.config, dtype
        self._encoding, self._base = model.field.mlp_base.model
        self._head = model.field.mlp_head
        appearance = model.field.embedding_appearance
        self._appearance: Tensor | None = None if appearance is None else appearance.embedding.weight
        self._pose: Tensor | None = getattr(model.camera_optimizer, "pose_adjustment", None)
        device = self._encoding.hash_table.device
        self._scalings = self._encoding.scalings.to(device)
        self._proposals = [_proposal(network, device) for network in model.proposal_networks]
        samples = self._config.num_proposal_samples_per_ray[: len(self._proposals)]
        self._samples: tuple[int, ...] = (*samples, self._config.num_nerf_samples_per_ray)
        self._bins = torch.linspace(0.0, 1.0, self._samples[0] + 1, device=device)[None]
        middle = (self._bins[..., 1:] + self._bins[..., :-1]) / 2
        self._lower = torch.cat([self._bins[..., :1], middle], -1)
        self._upper = torch.cat([middle, self._bins[..., -1:]], -1)
        self._quantiles = {
            n: torch.linspace(0.0, 1.0 - 1.0 / (n + 1), steps=n + 1, device=device)[None] for n in self._samples[1:]
        }
        self._fused = fused and field.fits(self._networks())

    def losses(
        self, origins: Tensor, directions: Tensor, cameras: Tensor, truth: Tensor, anneal: Tensor, update: bool
    ) -> dict[str, Tensor]:
        """Compute nerfacto's losses. Their names are nerfstudio's.

        Args:
            origins, directions: (R, 3) rays, before the camera optimizer.
            cameras: (R,) the photos of the rays.
            truth: (R, 3) the colours of the rays, 0 to 1.
            anneal: () the exponent of the proposals' weights.
            update: whether the proposal networks are trained in this step.
        """
        config = self._config
        origins, directions = self._corrected(origins, directions, cameras)
        near, far = config.near_plane, config.far_plane
        bins = self._lower + (self._upper - self._lower) * torch.rand((len(origins), 1), device=origins.device)
        edges = _distances(bins, near, far)
        proposed = []
        for network, samples in zip(self._proposals, self._samples[1:], strict=True):
            with torch.set_grad_enabled(update):
                weights = _weights(proposed_density(origins, directions, edges, network), edges)
            proposed.append((bins, weights))
            with torch.no_grad():
                jitter = torch.rand((len(bins), 1), device=bins.device) / (samples + 1)
                bins = _resample(torch.pow(weights, anneal), bins, self._quantiles[samples] + jitter)
                edges = _distances(bins, near, far)
        density, rgb = self._field(origins, directions, edges, self._per_ray(directions, cameras))
        weights = _weights(density, edges)
        losses = {
            "rgb_loss": functional.mse_loss(_composite(weights, rgb, rgb[:, -1]), truth),
            "distortion_loss": config.distortion_loss_mult * _distortion(bins, weights).mean(),
        }
        if update:
            errors = [torch.mean(lossfun_outer(bins, weights.detach(), *each)) for each in proposed]
            losses["interlevel_loss"] = config.interlevel_loss_mult * sum(errors)
        if self._pose is not None:
            camera = config.camera_optimizer
            losses["camera_opt_regularizer"] = (
                self._pose[:, :3].norm(dim=-1).mean() * camera.trans_l2_penalty
                + self._pose[:, 3:].norm(dim=-1).mean() * camera.rot_l2_penalty
            )
        return losses

    @torch.no_grad()
    def render(
        self, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, background: Tensor
    ) -> dict[str, Tensor]:
        """Compute nerfacto's outputs in evaluation mode. Their names are nerfstudio's.

        Args:
            origins, directions: (R, 3) rays.
            near, far: (R, 1) the distances at which rays begin and end.
            background: (1, 3) the colour behind everything; NaN for the colour of the last sample.

        Returns:
            rgb (R, 3); accumulation, depth (the median), expected_depth, and the depth of each proposal network, all
            (R, 1).
        """
        bins = self._bins
        edges = _distances(bins, near, far)
        outputs = {}
        for index, (network, samples) in enumerate(zip(self._proposals, self._samples[1:], strict=True)):
            weights = _weights(proposed_density(origins, directions, edges, network), edges)
            outputs[f"prop_depth_{index}"] = _median_depth(weights, edges)
            quantiles = self._quantiles[samples] + 1.0 / (2 * (samples + 1))
            bins = _resample(weights, bins.expand(len(weights), -1), quantiles.expand(len(weights), -1).contiguous())
            edges = _distances(bins, near, far)
        density, rgb = self._field(origins, directions, edges, self._per_ray(directions, None))
        rgb, weights = torch.nan_to_num(rgb), _weights(density, edges)
        seen = weights.sum(-1, keepdim=True)
        middles = (edges[:, 1:] + edges[:, :-1]) / 2
        expected = (weights * middles).sum(-1, keepdim=True) / (seen + 1e-10)
        behind = torch.where(torch.isnan(background), rgb[:, -1], background)
        return {
            "rgb": _composite(weights, rgb, behind).clamp(0.0, 1.0),
            "accumulation": seen,
            "depth": _median_depth(weights, edges),
            "expected_depth": torch.clamp(expected, middles[:, :1], middles[:, -1:]),
            **outputs,
        }

    def _corrected(self, origins: Tensor, directions: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the camera optimizer to rays."""
        if self._pose is None:
            return origins, directions
        # Compute all matrices and select, because the backward pass of indexing the poses would sort.
        poses = exp_map_SO3xR3(self._pose).reshape(-1, 12).index_select(0, cameras).view(-1, 3, 4)
        return origins + poses[:, :, 3], (poses[:, :, :3] * directions[:, None, :]).sum(-1)

    def _networks(self) -> field.Networks:
        first, last = self._base.layers
        a, b, c = self._head.layers
        into = a.weight[:, self._harmonics : self._harmonics + self._geometry]
        return field.Networks(
            first.weight, first.bias, last.weight, last.bias, into, b.weight, b.bias, c.weight, c.bias
        )

    @property
    def _geometry(self) -> int:
        """Return the number of features that the density network passes to the colour network."""
        return int(self._model.field.geo_feat_dim)

    @property
    def _harmonics(self) -> int:
        """Return the number of spherical harmonics, which are the colour network's first inputs."""
        of_appearance = 0 if self._appearance is None else self._appearance.shape[1]
        return int(self._head.layers[0].weight.shape[1]) - self._geometry - of_appearance

    def _per_ray(self, directions: Tensor, cameras: Tensor | None) -> Tensor:
        """Return the contribution (R, hidden) of directions and appearance to the colour network's first layer.

        It includes the bias. Without cameras, the appearance is that of evaluation mode.
        """
        first = self._head.layers[0]
        with torch.no_grad():  # as in nerfstudio, directions get no gradient here
            harmonics = components_from_spherical_harmonics(4, get_normalized_directions(directions))
        added = functional.linear(harmonics, first.weight[:, : self._harmonics], first.bias)
        if self._appearance is None:
            return added
        if cameras is not None:
            appearance = self._appearance.index_select(0, cameras)
        elif self._config.use_average_appearance_embedding:
            appearance = self._appearance.mean(0, keepdim=True)
        else:
            return added
        return added + functional.linear(appearance, first.weight[:, self._harmonics + self._geometry :])

    def _field(self, origins: Tensor, directions: Tensor, edges: Tensor, per_ray: Tensor) -> tuple[Tensor, Tensor]:
        """Compute densities (R, S) and colours (R, S, 3) at the centres of samples."""
        rays, samples = edges.shape[0], edges.shape[1] - 1
        points, inside = contract(origins, directions, edges)
        fused = self._fused and not torch.is_grad_enabled()
        dtype = torch.float16 if fused else self._dtype
        table, log2_size = self._encoding.hash_table, self._encoding.log2_hashmap_size
        features = encode(points, table, self._scalings, log2_size, dtype)
        networks = self._networks()
        if fused:
            exponent, rgb = field.evaluate(features, per_ray, networks, samples)
        else:
            # Cast explicitly, because autocast caches casts, which a graph must not.
            w1, b1, w2, b2, into, wb, bb, wc, bc = (each.to(dtype) for each in networks)
            hidden = functional.relu(functional.linear(features.t(), w1, b1))
            found = functional.linear(hidden, w2, b2)
            exponent = found[:, 0].float()
            hidden = functional.linear(found[:, 1:], into).view(rays, samples, -1)
            hidden = functional.relu(hidden + per_ray.to(dtype)[:, None]).view(rays * samples, -1)
            hidden = functional.relu(functional.linear(hidden, wb, bb))
            rgb = torch.sigmoid(functional.linear(hidden, wc, bc).float())
        density = self._model.field.average_init_density * exponential(exponent) * inside
        return density.view(rays, samples), rgb.view(rays, samples, 3)


def _proposal(network: Any, device: torch.device) -> Proposal:
    first, last = network.mlp_base[1].layers
    encoding = network.encoding
    return Proposal(
        table=encoding.hash_table,
        w1=first.weight,
        b1=first.bias,
        w2=last.weight,
        b2=last.bias,
        scalings=encoding.scalings.to(device),
        log2_size=encoding.log2_hashmap_size,
        factor=network.average_init_density,
    )


def _distances(bins: Tensor, near: float | Tensor, far: float | Tensor) -> Tensor:
    """Convert positions (R, S) from 0 to 1 to distances along rays: linear up to a distance of 1, then in disparity."""
    x = bins * _evened(far) + (1 - bins) * _evened(near)
    return torch.where(x < 0.5, 2 * x, 1 / (2 - 2 * x))


def _evened(distance: float | Tensor) -> float | Tensor:
    if isinstance(distance, Tensor):
        return torch.where(distance < 1, distance / 2, 1 - 1 / (2 * distance))
    return distance / 2 if distance < 1 else 1 - 1 / (2 * distance)


def _resample(weights: Tensor, bins: Tensor, quantiles: Tensor) -> Tensor:
    """Return the edges (R, T) of the next samples: quantiles of the weights (R, S) over their bins (R, S + 1)."""
    weights = weights + 0.01
    total = weights.sum(-1, keepdim=True)
    padding = torch.relu(1e-5 - total)
    pdf = (weights + padding / weights.shape[-1]) / (total + padding)
    cdf = functional.pad(torch.cumsum(pdf, -1).clamp(max=1.0), (1, 0))
    index = torch.searchsorted(cdf, quantiles, right=True)
    below, above = (index - 1).clamp(0, cdf.shape[-1] - 1), index.clamp(0, cdf.shape[-1] - 1)
    c0, c1 = cdf.gather(-1, below), cdf.gather(-1, above)
    b0, b1 = bins.gather(-1, below), bins.gather(-1, above)
    t = torch.nan_to_num((quantiles - c0) / (c1 - c0), 0).clamp(0, 1)
    return b0 + t * (b1 - b0)


def _weights(density: Tensor, edges: Tensor) -> Tensor:
    """Return the weight (R, S) of each sample in its ray."""
    thickness = (edges[:, 1:] - edges[:, :-1]) * density
    through = torch.exp(-functional.pad(torch.cumsum(thickness[:, :-1], -1), (1, 0)))
    return torch.nan_to_num((1 - torch.exp(-thickness)) * through)


def _composite(weights: Tensor, rgb: Tensor, background: Tensor) -> Tensor:
    """Composite the colours of samples (R, S, 3) over a background (R, 3). Return the colours of the rays (R, 3)."""
    return (weights[..., None] * rgb).sum(-2) + background * (1.0 - weights.sum(-1, keepdim=True))


def _median_depth(weights: Tensor, edges: Tensor) -> Tensor:
    """Return the distances (R, 1) at which half of a ray's weight is reached."""
    half = weights.new_full((len(weights), 1), 0.5)
    index = torch.searchsorted(torch.cumsum(weights, -1), half, side="left").clamp(0, weights.shape[-1] - 1)
    return ((edges[:, 1:] + edges[:, :-1]) / 2).gather(-1, index)


def _distortion(bins: Tensor, weights: Tensor) -> Tensor:
    """Return Mip-NeRF 360's distortion (R,) of rays, like nerfstudio's `lossfun_distortion` for sorted edges."""
    middle = (bins[:, 1:] + bins[:, :-1]) / 2
    mass, moment = torch.cumsum(weights, -1) - weights, torch.cumsum(weights * middle, -1) - weights * middle
    between = 2 * (weights * (middle * mass - moment)).sum(-1)
    return between + (weights**2 * (bins[:, 1:] - bins[:, :-1])).sum(-1) / 3
