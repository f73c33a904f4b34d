"""Render a nerfacto with Triton kernels and a CUDA graph, through the interface of nerfstudio's models."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components import renderers
from nerfstudio.models.nerfacto import NerfactoModel
from torch import Tensor

from jobs.radiance.nerfacto import Nerfacto

__all__ = ["Frames"]

_CHUNK = 1 << 14  # rays at a time; more are not faster
_OF_RAY = [3, 3, 1, 1]  # origin, direction, near, far


class Frames:
    """Replaces a model's `get_outputs_for_camera_ray_bundle`. The proposals' weights are not annealed.

    Args:
        model: a model that `support` covers, in evaluation mode during each call.
        graph: whether to capture a CUDA graph. nerfstudio's viewer interrupts rendering at any line, which could leave
            a capture open.
    """

    def __init__(self, model: NerfactoModel, graph: bool) -> None:
        self._model, self._device = model, model.device
        on_gpu = self._device.type == "cuda"
        self._with_graph = graph and on_gpu
        tensor_cores = not on_gpu or torch.cuda.get_device_capability(self._device) >= (8, 0)
        with torch.inference_mode(False):  # for use in any mode later
            self._nerfacto = Nerfacto(model, torch.float16 if on_gpu else torch.float32, fused=tensor_cores)
            self._background = torch.full((1, 3), torch.nan, device=self._device)
            self._given = self._shown = torch.empty(0, device=self._device)  # the graph's input and output
        self._widths: dict[str, int] = {}  # channels of the outputs
        self._graph: torch.cuda.CUDAGraph | None = None
        if on_gpu:  # compile the kernels now, or raise
            with torch.inference_mode(False), torch.no_grad():
                self._render(torch.ones(16, 8, device=self._device))

    def __call__(self, rays: RayBundle) -> dict[str, Tensor]:
        """Render rays (H, W). Return the outputs (H, W, channels) by name."""
        shape, device = rays.origins.shape[:2], rays.origins.device
        with torch.inference_mode(False), torch.no_grad():
            rays = rays.flatten()
            if self._model.collider is not None:  # the near plane, and crop boxes
                rays = self._model.collider(rays)
            given = torch.cat([rays.origins, rays.directions, rays.nears, rays.fars], -1).float().to(self._device)
            self._background.fill_(torch.nan)
            if renderers.BACKGROUND_COLOR_OVERRIDE is not None:
                self._background.copy_(renderers.BACKGROUND_COLOR_OVERRIDE.view(1, 3))
            at_once = min(_CHUNK, int(self._model.config.eval_num_rays_per_chunk))
            parts = torch.split(given, at_once)
            if self._with_graph and (self._graph is None or len(self._given) != at_once):
                self._capture(parts[0], at_once)
            shown = torch.cat([self._part(part) for part in parts]).to(device)
            outputs = torch.split(shown.view(*shape, -1), list(self._widths.values()), -1)
            return {name: each.contiguous() for name, each in zip(self._widths, outputs, strict=True)}

    def _part(self, given: Tensor) -> Tensor:
        if self._graph is None:
            return self._render(given)
        self._given[: len(given)].copy_(given)
        self._graph.replay()
        return self._shown[: len(given)].clone()

    def _render(self, given: Tensor) -> Tensor:
        """Render rays (R, 8). Return all outputs side by side, (R, channels)."""
        origins, directions, near, far = (each.contiguous() for each in torch.split(given, _OF_RAY, -1))
        outputs = self._nerfacto.render(origins, directions, near, far, self._background)
        self._widths = {name: each.shape[1] for name, each in outputs.items()}
        return torch.cat(list(outputs.values()), -1)

    def _capture(self, example: Tensor, rays: int) -> None:
        self._graph = None
        self._given = example[:1].repeat(rays, 1)
        self._render(self._given)  # Triton compiles now, because it cannot during a capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._shown = self._render(self._given)
        self._graph = graph
