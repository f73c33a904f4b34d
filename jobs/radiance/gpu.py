"""Measure how busy the GPU of this process is, with the library of NVIDIA's driver, and the memory of the process."""

from __future__ import annotations

import ctypes
from functools import cache

import torch

from jobs import manifest

__all__ = ["peak_memory", "read_utilization"]


class _Utilization(ctypes.Structure):
    """`nvmlUtilization_t`, in percent of the last sample period (a sixth of a second to a second)."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def peak_memory() -> dict[str, int | None]:
    """Return the peak memory of this process in bytes, by device: cpu, and cuda, which is None without a GPU."""
    cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"cpu": manifest.peak_memory(), "cuda": cuda}


def read_utilization() -> dict[str, float]:
    """Return `gpu percent`, the share of the time in which the GPU computes, and `gpu memory GB`, of all processes.

    Without a GPU, the result is empty. The percentage is missing if the driver does not report it.

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
    """Return NVML and its handle of a GPU. It is found by UUID, because torch numbers only visible GPUs."""
    handle = ctypes.c_void_p()
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}".encode()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
            return None, handle
    except (OSError, AttributeError):  # there is no such library, or torch does not report the UUID
        return None, handle
    return library, handle
