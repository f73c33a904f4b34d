"""The processors of this machine that structure from motion may use, and the seed of its random numbers."""

from __future__ import annotations

import os
from functools import cache

import pycolmap

__all__ = ["SEED", "device", "fast_float64", "gpu", "threads"]

SEED = 0
"""Of COLMAP's random numbers."""

_FAST_FLOAT64 = {(7, 0), (8, 0), (9, 0), (10, 0)}  # compute capabilities; other GPUs have a 32nd or a 64th of the speed


def gpu() -> bool:
    """Return whether pycolmap can use a GPU: it is built for CUDA, and there is one."""
    return bool(pycolmap.has_cuda) and pycolmap.get_num_cuda_devices() > 0  # type: ignore[attr-defined]


def device() -> pycolmap.Device:
    """Return where features are found and matched. A pycolmap built for CUDA does not check whether there is a GPU."""
    return pycolmap.Device.cuda if gpu() else pycolmap.Device.cpu


@cache
def fast_float64() -> bool:
    """Return whether PyTorch has a GPU whose float64 is half as fast as float32, such as an A100 or H100."""
    if not gpu():
        return False
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability() in _FAST_FLOAT64


def threads() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
