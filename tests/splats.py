"""A splatfacto of nerfstudio, built on the CPU: training one needs a CUDA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["splatfacto", "write_checkpoint"]


def splatfacto(number: int, sh_degree: int = 3) -> Any:
    """An untrained model of `number` Gaussians, coloured differently from each side and of all opacities."""
    import torch
    from nerfstudio.data.scene_box import SceneBox
    from nerfstudio.models.splatfacto import SplatfactoModelConfig

    from jobs.model import lpips_from_cache

    torch.manual_seed(0)
    config = SplatfactoModelConfig(num_random=number, random_scale=4.0, sh_degree=sh_degree)
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    with lpips_from_cache():
        model = config.setup(scene_box=box, num_train_data=2, device="cpu")
    with torch.no_grad():
        model.gauss_params["scales"] += 0.5 * torch.randn(number, 3)
        model.gauss_params["features_rest"] += 0.2 * torch.randn_like(model.features_rest)
        model.gauss_params["opacities"] += torch.randn(number, 1)
    return model


def write_checkpoint(model: Any, file: Path) -> Path:
    """What `jobs.train` writes of a model."""
    import torch

    state = {f"_model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"step": 0, "pipeline": state}, file)
    return file
