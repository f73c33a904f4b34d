"""Seed, save and restore the random number generators of this process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "seed_all", "set_random_state"]


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the states of all generators, as a checkpoint stores them."""
    state = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": {**state, "state": {"key": state["state"]["key"].tolist(), "pos": state["state"]["pos"]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states that `random_state` returned. CUDA's are skipped if the number of GPUs differs."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
