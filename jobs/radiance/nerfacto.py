"""The mathematics of nerfstudio 1.1.5's nerfacto, on its own parameters, in a form that a CUDA graph can capture.

No Python number changes from step to step, shapes are fixed, and nothing waits for the GPU. Three computations differ
from nerfstudio's, with the same values within rounding. Positions, hash encodings, proposal networks, and sampling and
losses along rays are Triton kernels. Spherical harmonics and appearance are the same for all samples of a ray, so they
enter the colour network's first layer once per ray. Samples are sorted, so the distortion loss takes linear time.
"""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.models.nerfacto import NerfactoModel
from torch import Tensor
from torch.nn import functional

from jobs.radiance import field
from jobs.radiance.cameras import correct, harmonics, penalty
from jobs.radiance.functions import Proposal, contract, encode, proposed_density
from jobs.radiance.ray_functions import first_edges, interlevel_loss, median_depth, picture, ray_losses, resample, weigh

__all__ = ["Nerfacto"]


class Nerfacto:
    """Computes nerfacto's losses and pictures with the parameters of a model that `support` covers.

    Args:
        model: nerfstudio's model.
        dtype: the type of the features and of the networks' matrix products in training. With float32, PyTorch's
            settings may select TF32.
        fused: whether to use the kernels of the field's networks, if they support its size.
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
        self._near, self._far = (
            torch.full((1, 1), float(each), device=device) for each in (self._config.near_plane, self._config.far_plane)
        )
        self._half = torch.full((1, 1), 0.5, device=device)
        self._factor: float = model.field.average_init_density
        self._fused = fused and field.fits(self._networks(), self._samples[-1])

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
        config, rays = self._config, len(origins)
        if self._pose is not None:
            origins, directions = correct(origins, directions, self._pose, cameras)
        near, far = self._near, self._far
        bins, edges = first_edges(torch.rand((rays, 1), device=origins.device), near, far, rays, self._samples[0])
        proposed = []
        for network, samples in zip(self._proposals, self._samples[1:], strict=True):
            with torch.set_grad_enabled(update):
                weights, distribution = weigh(proposed_density(origins, directions, edges, network), edges, anneal)
            proposed.append((bins, weights))
            jitter = torch.rand((rays, 1), device=origins.device)
            bins, edges = resample(distribution, bins, jitter, near, far, samples)
        field_of = self._field(origins, directions, edges, self._per_ray(directions, cameras))
        error, distortion, weights = ray_losses(
            *field_of, edges, bins, truth, self._factor, config.use_gradient_scaling
        )
        losses = {"rgb_loss": error, "distortion_loss": config.distortion_loss_mult * distortion}
        if update:
            errors = [interlevel_loss(bins, weights, *each) for each in proposed]
            losses["interlevel_loss"] = config.interlevel_loss_mult * sum(errors)
        if self._pose is not None:
            camera = config.camera_optimizer
            losses["camera_opt_regularizer"] = penalty(self._pose, camera.trans_l2_penalty, camera.rot_l2_penalty)
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
        bins, edges = first_edges(None, near, far, len(origins), self._samples[0])
        outputs = {}
        for index, (network, samples) in enumerate(zip(self._proposals, self._samples[1:], strict=True)):
            weights, distribution = weigh(proposed_density(origins, directions, edges, network), edges)
            outputs[f"prop_depth_{index}"] = median_depth(weights, edges)
            bins, edges = resample(distribution, bins, self._half, near, far, samples)
        field_of = self._field(origins, directions, edges, self._per_ray(directions, None))
        return {**picture(*field_of, edges, background, self._factor), **outputs}

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
        added = functional.linear(harmonics(directions), first.weight[:, : self._harmonics], first.bias)
        if self._appearance is None:
            return added
        if cameras is not None:
            appearance = self._appearance.index_select(0, cameras)
        elif self._config.use_average_appearance_embedding:
            appearance = self._appearance.mean(0, keepdim=True)
        else:
            return added
        return added + functional.linear(appearance, first.weight[:, self._harmonics + self._geometry :])

    def _field(
        self, origins: Tensor, directions: Tensor, edges: Tensor, per_ray: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the field at the centres of samples.

        Returns:
            The exponents of densities, 0 where the density is 0 and else 1, both (R x S,), and the logits (R x S, 3) of
            colours.
        """
        rays, samples = edges.shape[0], edges.shape[1] - 1
        points, inside = contract(origins, directions, edges)
        table, log2_size = self._encoding.hash_table, self._encoding.log2_hashmap_size
        features = encode(points, table, self._scalings, log2_size, self._dtype)
        networks = self._networks()
        if self._fused:
            exponent, logits = field.evaluate(features, per_ray, networks, samples)
            return exponent, inside, logits
        # Cast explicitly, because autocast caches casts, which a graph must not.
        w1, b1, w2, b2, into, wb, bb, wc, bc = (each.to(self._dtype) for each in networks)
        hidden = functional.relu(functional.linear(features.t(), w1, b1))
        found = functional.linear(hidden, w2, b2)
        hidden = functional.linear(found[:, 1:], into).view(rays, samples, -1)
        hidden = functional.relu(hidden + per_ray.to(self._dtype)[:, None]).view(rays * samples, -1)
        hidden = functional.relu(functional.linear(hidden, wb, bb))
        return found[:, 0], inside, functional.linear(hidden, wc, bc)


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
