"""Decide which of nerfstudio's configs, which photos and which machines the CUDA kernels cover."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from nerfstudio.engine.schedulers import CosineDecaySchedulerConfig, ExponentialDecaySchedulerConfig
from nerfstudio.models.nerfacto import NerfactoModel

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.models.base_model import Model
    from nerfstudio.models.nerfacto import NerfactoModelConfig

__all__ = ["NotCovered", "machine_lacks", "model_lacks", "training_lacks"]

_TRITON = (3, 0)  # the first version with `tl.join`
_CAPABILITY = (7, 5)

# The fields of a NerfactoModelConfig for which only these values are covered.
_MODEL = {
    "predict_normals": False,
    "disable_scene_contraction": False,
    "features_per_level": 2,
    "background_color": "last_sample",
    "proposal_initial_sampler": "piecewise",
    "use_same_proposal_network": False,
}
_TRAINING = {"use_single_jitter": True}


class NotCovered(Exception):
    """The kernels do not cover a case, and nerfstudio's own code does. The text says why."""


def machine_lacks() -> str | None:
    """Return what this machine lacks, or None."""
    if not torch.cuda.is_available():
        return "there is no CUDA GPU"
    if (capability := torch.cuda.get_device_capability()) < _CAPABILITY:
        return f"the GPU has compute capability {capability[0]}.{capability[1]}, and 7.5 is needed"
    try:
        from triton import __version__ as found
    except ImportError:
        return "Triton is not installed"
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < _TRITON:
        return f"Triton is {found}, and 3.0 is needed"
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        return "there is no C compiler, which Triton needs"
    return None


def _differs(config: NerfactoModelConfig, needs: Mapping[str, object]) -> str | None:
    return next((f"{name} is {getattr(config, name)}" for name in needs if getattr(config, name) != needs[name]), None)


def model_lacks(model: Model) -> str | None:
    """Return why a model cannot be rendered, or None."""
    if type(model) is not NerfactoModel:
        return f"the kernels do not support {type(model).__name__}"
    if not hasattr(model.field.mlp_base.model[0], "hash_table"):
        return "its parameters are in tiny-cuda-nn's format"
    return _config_lacks(model.config)


def _config_lacks(config: NerfactoModelConfig) -> str | None:
    if any(args.get("use_linear") for args in config.proposal_net_args_list):
        return "a proposal network is linear"
    return _differs(config, _MODEL)


def training_lacks(config: TrainerConfig) -> str | None:
    """Return why a training with nerfstudio's config is not covered, or None."""
    model = config.pipeline.model
    if model._target is not NerfactoModel:
        return f"the kernels do not support the method {config.method_name}"
    if why := _config_lacks(model) or _differs(model, _TRAINING):
        return why
    if model.camera_optimizer.mode not in ("off", "SO3xR3"):
        return f"the camera optimizer is {model.camera_optimizer.mode}"
    if any(number != 1 for number in config.gradient_accumulation_steps.values()):
        return "gradients are accumulated over steps"
    for name, each in config.optimizers.items():
        optimizer, scheduler = each["optimizer"], each["scheduler"]
        if optimizer._target not in (torch.optim.Adam, torch.optim.RAdam) or optimizer.max_norm is not None:
            return f"the optimizer of {name} is {optimizer}"
        if not isinstance(scheduler, (type(None), ExponentialDecaySchedulerConfig, CosineDecaySchedulerConfig)):
            return f"the schedule of {name} is {scheduler}"
    return None
