"""How busy the GPU of this process is, as NVIDIA's driver says: its library is there wherever CUDA is."""

from __future__ import annotations

import ctypes
from functools import cache

import torch

__all__ = ["use"]


class _Utilization(ctypes.Structure):
    """`nvmlUtilization_t`: percent of the last sample period (a sixth of a second to a second)."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def use() -> dict[str, float]:
    """`gpu percent`, how much of the time the GPU computes, and `gpu memory GB`, taken by all processes.

    Nothing without a GPU; without the percentage where the driver does not tell it.

    Source: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    figures = {"gpu memory GB": (total - free) / 1e9}
    if (percent := _percent(torch.cuda.current_device())) is not None:
        figures["gpu percent"] = percent
    return figures


def _percent(index: int) -> float | None:
    library, handle = _handle(index)
    found = _Utilization()
    if library is None or library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(found)):
        return None
    return float(found.gpu)


@cache
def _handle(index: int) -> tuple[ctypes.CDLL | None, ctypes.c_void_p]:
    """NVML and its handle of a GPU; by UUID, for torch counts only the GPUs that this process may see."""
    handle = ctypes.c_void_p()
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}".encode()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
            return None, handle
    except (OSError, AttributeError):  # no such library, or a torch that does not tell the UUID
        return None, handle
    return library, handle
