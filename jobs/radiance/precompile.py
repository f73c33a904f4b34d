"""Compile nerfacto's kernels for GPUs of other machines: `python -m jobs.radiance.precompile 8.0 9.0 …`.

Fills Triton's cache, the folder TRITON_CACHE_DIR. The job image has such a cache, because each job begins in a new
container, where it would compile for ten seconds. What the cache does not have, a job compiles itself.

Kernels are found by launching them: steps and pictures of each size of nerfacto are computed with tensors without
content, and launches only compile.

Triton also builds launchers in C. That needs a compiler, and a folder with a libcuda.so.1 in LD_LIBRARY_PATH: the
driver's, or the stub of a CUDA toolkit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import jobs.radiance  # noqa: F401 – before nerfstudio, which then starts without torch's compiler

# isort: split
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.models.nerfacto import NerfactoModel
from pydantic_settings import BaseSettings, CliApp, CliPositionalArg
from triton.backends.nvidia.driver import CudaDriver
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from jobs import model, report
from jobs.radiance.methods import all_methods
from jobs.radiance.nerfacto import Nerfacto
from jobs.radiance.photos import Photos
from jobs.radiance.steps import Steps, dtype_for

__all__ = ["compile_sizes", "compiling_only", "launch_all", "make_models", "make_photos"]

_META = torch.device("meta")
_SIZES = ("nerfacto", "nerfacto-big", "nerfacto-huge")
# Triton compiles once for numbers that are multiples of 16, and once for others. Of those, only the number of photos is
# arbitrary: numbers of samples are multiples, as those of rays are.
_RAYS, _PHOTOS = 16, (16, 17)


class _Elsewhere(CudaDriver):  # type: ignore[misc]
    """Triton's driver for a GPU of another machine."""

    def __init__(self, capability: tuple[int, int]) -> None:
        super().__init__()
        self.get_device_capability = lambda _: capability
        self.get_current_device = lambda: capability  # Triton keeps kernels by device
        self.get_current_stream = lambda _: 0


@contextmanager
def compiling_only(capability: tuple[int, int]) -> Iterator[set[str]]:
    """Let launches compile for GPUs of a compute capability, and do nothing else. Yield the kernels' hashes.

    Afterwards, this process cannot launch kernels on a GPU.
    """
    run, compiled = JITFunction.run, set[str]()

    def compile_only(function: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        kernel = run(function, *arguments, grid=grid, warmup=True, **named)
        if kernel.hash not in compiled:
            driver.active.launcher_cls(kernel.src, kernel.metadata)
            compiled.add(kernel.hash)

    driver.set_active(_Elsewhere(capability))
    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = run


class _Black:
    """A dataset of black photos, as far as `Photos` reads it."""

    def __init__(self, number: int, masked: bool) -> None:
        poses, size = torch.eye(4)[:3].repeat(number, 1, 1), 16
        self.cameras = Cameras(poses, 20.0, 20.0, size / 2, size / 2, size, size)
        self._dataparser_outputs = SimpleNamespace(mask_filenames=[] if masked else None)
        self._photo = {"image": torch.zeros(size, size, 3, dtype=torch.uint8), "mask": torch.ones(size, size, 1)}

    def __getitem__(self, _: int) -> dict[str, torch.Tensor]:
        return self._photo


def make_photos(number: int, masked: bool) -> Photos:
    """Return photos without content."""
    photos = Photos(_Black(number, masked), torch.device("cpu"))
    for name, value in vars(photos).items():
        if isinstance(value, torch.Tensor):
            setattr(photos, name, value.to(_META))
    photos._device = _META
    return photos


def make_models(method: str) -> list[NerfactoModel]:
    """Return two models without content: one with the dataset's poses and weaker gradients near cameras, one without.

    Together they launch all kernels.
    """
    config = copy.deepcopy(all_methods[method].pipeline.model)
    config.implementation = "torch"
    box, models = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), []
    for mode, scaled in (("off", True), ("SO3xR3", False)):
        each = copy.deepcopy(config)  # the model keeps it
        each.camera_optimizer.mode, each.use_gradient_scaling = mode, scaled
        with model.lpips_from_cache():
            models.append(each.setup(scene_box=box, num_train_data=_PHOTOS[0], metadata={}, device="cpu").to(_META))
    return models


def launch_all(network: NerfactoModel, capability: tuple[int, int], photos: list[Photos], rays: int = _RAYS) -> None:
    """Launch all kernels of training steps and pictures as on a GPU of this compute capability."""
    for each in photos:
        steps = Steps(network, None, each, rays, dtype_for(capability))
        for update in (True, False):
            steps._backward(update)
    with torch.no_grad():
        origins, directions = torch.empty(2, rays, 3, device=_META)
        near, far, background = (torch.empty(n, m, device=_META) for n, m in ((rays, 1), (rays, 1), (1, 3)))
        nerfacto = Nerfacto(network, torch.float16, fused=capability >= (8, 0))
        nerfacto.render(origins, directions, near, far, background)


def compile_sizes(capability: tuple[int, int], methods: Sequence[str] = _SIZES) -> int:
    """Compile for GPUs of a compute capability what these methods launch. Return the number of kernels."""
    photos = [make_photos(number, masked) for number in _PHOTOS for masked in (False, True)]
    with compiling_only(capability) as compiled:
        for method in methods:
            for network in make_models(method):
                launch_all(network, capability, photos)
    return len(compiled)


class _Arguments(BaseSettings, cli_prog_name="python -m jobs.radiance.precompile"):
    """Compile nerfacto's kernels into Triton's cache."""

    capabilities: CliPositionalArg[list[str]]
    """Compute capabilities, such as 8.0 9.0."""

    def cli_cmd(self) -> None:
        for text in self.capabilities:
            major, minor = map(int, text.split("."))
            print(f"Compute capability {text}: {compile_sizes((major, minor))} kernels.", flush=True)


if __name__ == "__main__":
    report.end_imports()
    CliApp.run(_Arguments)
