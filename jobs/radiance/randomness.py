"""Seed, save and restore the random number generators of this process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from nerfstudio.data import pixel_samplers
from nerfstudio.data.utils import dataloaders

__all__ = ["random_state", "seed_all", "set_random_state"]

_draws = random.Random()
"""Draws photos and pixels for nerfstudio.

nerfstudio uses Python's global generator. So do other threads at unpredictable times, such as the viewer's server for
each ping of a browser. The same seed would then train another model.
"""


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, and give nerfstudio one that no other thread uses."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    _draws.seed(seed)
    for module in (dataloaders, pixel_samplers):
        vars(module)["random"] = _draws


def random_state() -> dict[str, Any]:
    """Return the states of all generators, as a checkpoint stores them."""
    state = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "draws": _draws.getstate(),
        "numpy": {**state, "state": {"key": state["state"]["key"].tolist(), "pos": state["state"]["pos"]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states that `random_state` returned. CUDA's are skipped if the number of GPUs differs."""
    random.setstate(state["python"])
    _draws.setstate(state.get("draws", state["python"]))  # older checkpoints have one state for both
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
