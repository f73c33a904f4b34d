"""A splatfacto of nerfstudio, built on the CPU: training one needs a CUDA GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs import manifest

__all__ = ["splatfacto", "write_checkpoint", "write_model"]


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


def write_model(model: Any, folder: Path, dataset: Path) -> Path:
    """A model folder as `jobs.train` writes it, as far as an export reads it, in a frame unlike the dataset's."""
    file = folder / "nerfstudio_models" / "step-000000000.ckpt"
    file.parent.mkdir(parents=True)
    write_checkpoint(model, file)
    frame = {"transform": [[0, -1, 0, 0.5], [1, 0, 0, 1.5], [0, 0, 1, -3]], "scale": 0.125}
    (folder / "dataparser_transforms.json").write_text(json.dumps(frame))
    names = ("dataparser_transforms.json", str(file.relative_to(folder)))
    content = {
        "options": {"method": "splatfacto"},
        "checkpoint": {"file": names[1], "step": 0},
        "checksums": {name: manifest.checksum(folder / name) for name in names},
        "dataset": {"transforms_sha256": manifest.checksum(dataset / "transforms.json")},
    }
    (folder / "model.json").write_text(json.dumps(content))
    return folder
