"""Azure's GPU machines: their GPUs, and whether jobs can run on them.

Sources: the series' pages under https://learn.microsoft.com/azure/virtual-machines/sizes/overview#gpu-accelerated for
GPUs and memory, https://developer.nvidia.com/cuda-gpus for compute capabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["GPU_SIZES", "LEAST_CAPABILITY", "LEAST_MEMORY", "GpuSize", "find", "fitting", "has_cuda", "refusal"]

LEAST_CAPABILITY = 7.5
"""Lowest CUDA compute capability for which the job image has kernels: gsplat's (see the Dockerfile) and nerfacto's."""

LEAST_MEMORY = 8
"""Least GB of a GPU's memory: a video of 1280 by 720 pixels was rendered with 7.9 GB. The profile `full` trains on a
card of 16 GB. On smaller cards, use a smaller model or fewer rays."""


@dataclass(frozen=True)
class GpuSize:
    """A VM size with GPUs.

    Args:
        name: Azure's name of it.
        gpu: the model of its GPUs.
        count: how many GPUs it has; less than 1 if machines share a GPU.
        memory: GB of each GPU, or of its share.
        capability: CUDA compute capability; None if they are not NVIDIA's.
    """

    name: str
    gpu: str
    count: float
    memory: int
    capability: float | None

    @property
    def fits(self) -> bool:
        """Return whether jobs can train and render on it, and quickly."""
        able = self.capability is not None and self.capability >= LEAST_CAPABILITY
        return able and self.memory >= LEAST_MEMORY and "Grace" not in self.gpu

    def __str__(self) -> str:
        count = f"{self.count:g} × " if self.count != 1 else ""
        return f"{self.name} ({count}{self.gpu}, {self.memory} GB)"


def _series(gpu: str, memory: int, capability: float | None, **counts: float) -> list[GpuSize]:
    return [GpuSize(f"Standard_{name}", gpu, count, memory, capability) for name, count in counts.items()]


_A10 = _series("NVIDIA A10", 24, 8.6, NV36ads_A10_v5=1, NV36adms_A10_v5=1, NV72ads_A10_v5=2)
for _name, _share, _gigabytes in (("NV6ads", 1 / 6, 4), ("NV12ads", 1 / 3, 8), ("NV18ads", 1 / 2, 12)):
    _A10 += _series("NVIDIA A10", _gigabytes, 8.6, **{f"{_name}_A10_v5": _share})

# In the order in which to recommend them: what trains one scene at little cost first.
GPU_SIZES: tuple[GpuSize, ...] = (
    *_series("NVIDIA T4", 16, 7.5, NC4as_T4_v3=1, NC8as_T4_v3=1, NC16as_T4_v3=1, NC64as_T4_v3=4),
    *_A10,
    *_series("NVIDIA A100", 80, 8.0, NC24ads_A100_v4=1, NC48ads_A100_v4=2, NC96ads_A100_v4=4),
    *_series("NVIDIA H100 NVL", 94, 9.0, NC40ads_H100_v5=1, NC80adis_H100_v5=2, NCC40ads_H100_v5=1),
    *_series("NVIDIA A100", 40, 8.0, ND96asr_v4=8),
    *_series("NVIDIA A100", 80, 8.0, ND96amsr_A100_v4=8),
    *_series("NVIDIA H100", 80, 9.0, ND96isr_H100_v5=8),
    *_series("NVIDIA H200", 141, 9.0, ND96isr_H200_v5=8),
    # An ARM processor. The job image does not support it.
    *_series("NVIDIA Grace Blackwell GB200", 192, 10.0, ND128isr_NDR_GB200_v6=4),
    *_series("NVIDIA K80", 12, 3.7, NC6=1, NC12=2, NC24=4, NC24r=4),
    *_series("NVIDIA P100", 16, 6.0, NC6s_v2=1, NC12s_v2=2, NC24s_v2=4, NC24rs_v2=4),
    *_series("NVIDIA V100", 16, 7.0, NC6s_v3=1, NC12s_v3=2, NC24s_v3=4, NC24rs_v3=4),
    *_series("NVIDIA P40", 24, 6.1, ND6s=1, ND12s=2, ND24s=4, ND24rs=4),
    *_series("NVIDIA V100", 32, 7.0, ND40rs_v2=8),
    *_series("NVIDIA M60", 8, 5.2, NV6=1, NV12=2, NV24=4, NV12s_v3=1, NV24s_v3=2, NV48s_v3=4),
    *_series("AMD Instinct MI25", 16, None, NV32as_v4=1),
    *_series("AMD Instinct MI25", 8, None, NV16as_v4=1 / 2),
    *_series("AMD Instinct MI25", 4, None, NV8as_v4=1 / 4),
    *_series("AMD Instinct MI25", 2, None, NV4as_v4=1 / 8),
    *_series("AMD Instinct MI300X", 192, None, ND96isr_MI300X_v5=8, ND96is_MI300X_v5=8),
    *_series("AMD Radeon PRO V710", 24, None, NV24ads_V710_v5=1, NV28adms_V710_v5=1),
    *_series("AMD Radeon PRO V710", 12, None, NV12ads_V710_v5=1 / 2),
    *_series("AMD Radeon PRO V710", 8, None, NV8ads_V710_v5=1 / 3),
    *_series("AMD Radeon PRO V710", 4, None, NV4ads_V710_v5=1 / 6),
    *_series("AMD Radeon PRO V620", 32, None, NG32ads_V620_v1=1, NG32adms_V620_v1=1),
    *_series("AMD Radeon PRO V620", 16, None, NG16ads_V620_v1=1 / 2),
    *_series("AMD Radeon PRO V620", 8, None, NG8ads_V620_v1=1 / 4),
)

_BY_NAME = {size.name.lower(): size for size in GPU_SIZES}


def find(name: str) -> GpuSize | None:
    """Return the GPU size of a name, upper or lower case; None if it has no known GPU."""
    return _BY_NAME.get(name.lower())


def has_cuda(name: str) -> bool:
    """Return whether machines of a size have a CUDA GPU. Series that are not in the table are judged by their names."""
    size = find(name)
    return size.capability is not None if size else name.lower().startswith(("standard_nc", "standard_nd"))


def refusal(name: str, in_region: Iterable[str] | None) -> str | None:
    """Return why GPU jobs should not run on a size, and which sizes of the region fit; None if it fits.

    Args:
        name: the size's.
        in_region: names of all sizes of the region; None if they are not known.
    """
    size = find(name)
    if size and size.fits:
        return None
    if size is None:
        what = f"{name} is not among the GPU sizes known to fit"
    elif size.capability is None:
        what = f"{size} has no NVIDIA GPU, and training needs CUDA"
    elif size.capability < LEAST_CAPABILITY:
        what = f"{size} has compute capability {size.capability}; training needs {LEAST_CAPABILITY} or more"
    elif size.memory < LEAST_MEMORY:
        what = f"{size} has too little memory; rendering needs {LEAST_MEMORY} GB of each GPU"
    else:
        what = f"{size} has an ARM processor, for which there is no job environment"
    return f"{what}. {fitting(in_region)}"


def fitting(in_region: Iterable[str] | None) -> str:
    """Return a sentence that names the sizes that fit. See `refusal` for `in_region`."""
    if in_region is None:
        return f"These fit, where the region has them: {', '.join(str(size) for size in GPU_SIZES if size.fits)}."
    offered = {offer.lower() for offer in in_region}
    names = [str(size) for size in GPU_SIZES if size.fits and size.name.lower() in offered]
    return f"In this region these fit: {', '.join(names) or 'none; take a workspace in another region'}."
