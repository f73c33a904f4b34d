"""Run a whole training step of nerfacto as a CUDA graph: pixels, rays, losses, gradients and optimizers.

There are two graphs, with and without training of the proposal networks. nerfstudio's schedules decide which graph is
next, and set the learning rates. Parameters and optimizers are nerfstudio's, so checkpoints have its usual format.
"""

from __future__ import annotations

import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor
from torch.optim import Optimizer

from jobs.radiance.nerfacto import Nerfacto
from jobs.radiance.photos import Photos
from jobs.radiance.support import NotCovered

__all__ = ["Steps", "build", "dtype_for"]

_SCALE = 8192.0  # of the loss in float16, to keep gradients in range; GradScaler would wait for the GPU


def build(pipeline: Pipeline, optimizers: Optimizers) -> Steps:
    """Load the photos, compile the kernels, and return the training steps of a pipeline.

    Raises:
        NotCovered: the photos are not covered, or the kernels cannot be compiled.
    """
    model, data = pipeline.model, pipeline.datamanager
    photos = Photos(data.train_dataset, model.device)
    dtype = dtype_for(torch.cuda.get_device_capability(model.device) if model.device.type == "cuda" else None)
    try:
        return Steps(model, optimizers, photos, data.get_train_rays_per_batch(), dtype)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # any failure of the compiler or its environment
        raise NotCovered(f"the kernels could not be built here ({repr(error)[:200]})") from error


def dtype_for(capability: tuple[int, int] | None) -> torch.dtype:
    """Return the type in which a GPU trains; None stands for the CPU.

    From Ampere on, tensor cores multiply float32 as TF32. Turing's need float16.
    """
    return torch.float16 if capability and capability < (8, 0) else torch.float32


class Steps:
    """The training steps of a model. A step returns before the GPU has finished it.

    The constructor compiles the kernels, and changes neither the model nor the random numbers. The first step captures
    the graphs. Until then, a checkpoint may be loaded.

    Args:
        model: a model that `support` covers.
        optimizers: nerfstudio's optimizers.
        photos: the photos to train on.
        rays: the number of rays per step.
        dtype: see `Nerfacto`.
    """

    def __init__(
        self, model: NerfactoModel, optimizers: Optimizers, photos: Photos, rays: int, dtype: torch.dtype
    ) -> None:
        self._model, self._optimizers, self._photos, self._rays = model, optimizers, photos, rays
        device = model.device
        # float32 means that there are tensor cores which Triton supports; see `dtype_for`. `precompile` has no device.
        self._nerfacto = Nerfacto(model, dtype, fused=device.type != "cpu" and dtype == torch.float32)
        self._anneal = torch.ones((), device=device)
        self._result = torch.zeros(2, device=device)  # loss and PSNR of the newest step
        self._scale = _SCALE if dtype == torch.float16 else 1.0
        self._inverse = torch.tensor(1 / self._scale, device=device)
        self._overflow = torch.zeros((), device=device)  # 1 if the optimizers skip this step
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        if device.type == "cuda":
            if dtype == torch.float32:
                torch.backends.cuda.matmul.allow_tf32 = True
            self._compile()

    def take(self, step: int) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Run step number `step`, like `Trainer.train_iteration`. Return the loss and metrics of the newest step."""
        sampler = self._model.proposal_sampler
        update = bool(sampler._steps_since_update > sampler.update_sched(sampler._step) or sampler._step < 10)
        if update:
            sampler._steps_since_update = 0
        self._anneal.fill_(float(sampler._anneal))
        if self._model.device.type == "cuda":
            if not self._graphs:
                self._capture()
            self._graphs[update].replay()
        else:
            self._optimizers.zero_grad_all()
            self._step(update)
        self._optimizers.scheduler_step_all(step)
        loss, psnr = self._result.unbind()
        return loss, {}, {"psnr": psnr}

    def _step(self, update: bool) -> None:
        """Run a step; a graph captures this function."""
        losses = self._backward(update)
        each = self._trained(update)
        if self._scale != 1:
            gradients = [p.grad for one in each for p in _parameters(one) if p.grad is not None]
            self._overflow.zero_()
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._overflow, self._inverse)
        for optimizer in each:
            optimizer.step()
        loss, error = torch.stack(list(losses.values())).sum(), losses["rgb_loss"]
        self._result.copy_(torch.stack([loss, -10 * torch.log10(error)]).detach())

    def _backward(self, update: bool) -> dict[str, Tensor]:
        losses = self._nerfacto.losses(*self._photos.draw(self._rays), self._anneal, update)
        (torch.stack(list(losses.values())).sum() * self._scale).backward()
        return losses

    def _trained(self, update: bool) -> list[Optimizer]:
        """Return the optimizers that run in a step."""
        every = self._optimizers.optimizers
        return [each for name, each in every.items() if update or name != "proposal_networks"]

    def _compile(self) -> None:
        """Let Triton compile the kernels, because it cannot while a graph is captured."""
        before = torch.cuda.get_rng_state(self._model.device)
        for update in (True, False):
            self._backward(update)
            self._forget()
        torch.cuda.set_rng_state(before, self._model.device)

    def _forget(self) -> None:
        for optimizer in self._optimizers.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def _capture(self) -> None:
        for optimizer in self._optimizers.optimizers.values():
            _make_capturable(optimizer, self._model.device)
            if self._scale != 1:
                optimizer.grad_scale, optimizer.found_inf = None, self._overflow
        pool = torch.cuda.graph_pool_handle()
        for update in (True, False):
            self._forget()  # gradients must be in the graph's own memory
            graph = torch.cuda.CUDAGraph()
            # The viewer's thread may use the GPU during the capture.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                self._step(update)
            self._graphs[update] = graph


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Move the learning rate and the state of a new or loaded optimizer to the GPU."""
    for group in optimizer.param_groups:
        group.update(lr=torch.tensor(float(group["lr"]), device=device), capturable=True)
        if isinstance(optimizer, torch.optim.Adam):
            group.update(fused=True, foreach=False)
    if optimizer.state:
        for state in optimizer.state.values():
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(device)
        return
    for parameter in _parameters(optimizer):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # creates the state, and changes nothing, as the gradients are zero
    for state in optimizer.state.values():
        state["step"].zero_()
