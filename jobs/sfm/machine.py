"""The processors of this machine that structure from motion may use, and the seed of its random numbers."""

from __future__ import annotations

import os

import pycolmap

__all__ = ["SEED", "device", "gpu", "threads"]

SEED = 0
"""Of COLMAP's random numbers."""


def gpu() -> bool:
    """Return whether pycolmap can use a GPU: it is built for CUDA, and there is one."""
    return bool(pycolmap.has_cuda) and pycolmap.get_num_cuda_devices() > 0  # type: ignore[attr-defined]


def device() -> pycolmap.Device:
    """Return where features are found and matched. A pycolmap built for CUDA does not check whether there is a GPU."""
    return pycolmap.Device.cuda if gpu() else pycolmap.Device.cpu


def threads() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
