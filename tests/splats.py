"""A splatfacto of nerfstudio, built on the CPU: training one needs a CUDA GPU. And what is in an SPZ file."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs import manifest
from jobs.splats.gaussians import Array, Gaussians

__all__ = ["splatfacto", "unpack", "write_checkpoint", "write_model"]


def splatfacto(number: int, sh_degree: int = 3) -> Any:
    """Return an untrained model of `number` Gaussians, coloured differently from each side and of all opacities."""
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
    """Write a checkpoint as `jobs.train` does, and return it."""
    import torch

    state = {f"_model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"step": 0, "pipeline": state}, file)
    return file


def write_model(model: Any, folder: Path, dataset: Path) -> Path:
    """Write what an export reads of a model folder of `jobs.train`, in another frame than the dataset's."""
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


def unpack(content: bytes) -> Gaussians:
    """Unpack a file of `jobs.splats.spz.pack` by the format's description, within the precision of the format."""
    plain = gzip.decompress(content)
    magic, version, number, degree, bits = struct.unpack_from("<4sIIBB", plain)
    assert (magic, version) == (b"NGSP", 3)
    rest = (degree + 1) ** 2 - 1
    sizes = np.array([9, 1, 3, 3, 4, 3 * rest]) * number
    ends = 16 + np.cumsum(sizes)
    assert len(plain) == ends[-1]
    values = np.frombuffer(plain, dtype=np.uint8)
    fixed, alphas, colours, scales, rotations, harmonics = (
        values[end - size : end].reshape(number, -1) for size, end in zip(sizes, ends, strict=True)
    )
    whole = np.pad(fixed.reshape(number, 3, 3), ((0, 0), (0, 0), (1, 0)))  # its sign is in the highest byte
    means = (whole.view("<i4")[..., 0] >> 8) / 2**bits
    share = np.clip(alphas[:, 0] / 255, 1e-4, 1 - 1e-4)
    dc = (colours / 255 - 0.5) / 0.15
    sh = np.concatenate([dc[:, None], (harmonics.reshape(number, rest, 3) - 128.0) / 128], axis=1)
    return Gaussians(
        means.astype(np.float32),
        (scales / 16 - 10).astype(np.float32),
        _from_smallest_three(rotations.copy().view("<u4")[:, 0]),
        np.log(share / (1 - share)).astype(np.float32),
        sh.astype(np.float32),
    )


def _from_smallest_three(packed: NDArray[np.uint32]) -> Array:
    """Return unit quaternions w, x, y, z (N, 4)."""
    largest, xyzw = packed >> 30, np.zeros((len(packed), 4))
    for i in reversed(range(4)):
        here = largest != i
        size = (packed & 511) / (511 * np.sqrt(2))
        xyzw[:, i] = np.where(here, np.where(packed >> 9 & 1, -size, size), 0)
        packed = np.where(here, packed >> 10, packed)
    left = np.sqrt(np.clip(1 - (xyzw**2).sum(axis=1), 0, 1))
    np.put_along_axis(xyzw, largest[:, None].astype(np.int64), left[:, None], axis=1)
    wxyz: Array = xyzw[:, [3, 0, 1, 2]].astype(np.float32)
    return wxyz
