"""Train a later visit of a scene from the model of an earlier one in the same scene frame, in a fifth of the steps.

Most of the place is as it was; the network learns the other light and what has changed. What belongs to single photos
(appearance embeddings, refined poses) is not taken over. Neither is the state of the optimiser: the learning rate
starts as high as for a new model and falls five times as fast, because changes need high rates. The proposals' weights
are not annealed, because the proposal networks know the surfaces.
"""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor

from jobs import model
from jobs.errors import InvalidInput
from jobs.options import TrainOptions

__all__ = ["MOST_LOST", "Start", "load_start", "read_start", "shorten"]

MOST_LOST = 0.3
"""How far, in dB, the held-out PSNR may be below that of the earlier visit."""

_SHARE = 5  # of the steps: one of so many
_LEFT_OUT = ("embedding_appearance", "camera_optimizer", ".lpips.")


@dataclass(frozen=True)
class Start:
    """The model that a training starts from.

    Args:
        checksum: SHA-256 of its checkpoint, in hex.
        weights: parameters and buffers by their names.
        steps: for how many steps it was trained.
        psnr: the held-out PSNR in dB of the last model of this chain that was trained from the beginning. A chain of
            visits, each a little worse than the one before, thus ends.
        appearances: whether it learned an appearance for each photo.
        transform: the content of `dataparser_transforms.json`, by which both model frames are compared.
    """

    checksum: str
    weights: dict[str, Tensor]
    steps: int
    psnr: float
    appearances: bool
    transform: dict[str, Any]

    def is_matched(self, psnr: float | None) -> bool:
        """Return whether a held-out PSNR in dB is at most `MOST_LOST` lower."""
        return psnr is not None and psnr >= self.psnr - MOST_LOST


def read_start(folder: Path, options: TrainOptions) -> Start:
    """Read an earlier visit's model.

    Args:
        folder: a folder that `jobs.train` wrote.
        options: of the training that starts from it.

    Raises:
        InvalidInput: it is damaged, or a model of another method or size.
    """
    content = model.read_manifest(folder)
    try:
        theirs, mine = (
            {name: each[name] for name in ("method", "model_size")}
            for each in (content["options"], options.model_dump())
        )
        if theirs != mine:
            raise ValueError(f"it is a {theirs}, and this training is of a {mine}")
        transform = json.loads((folder / model.TRANSFORMS).read_text())
        checkpoint = content["checkpoint"]
        state = torch.load(folder / checkpoint["file"], map_location="cpu", weights_only=True)
        weights = _of_the_place(state["pipeline"])
        appearances = any("embedding_appearance" in name for name in state["pipeline"])
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            raise ValueError("a parameter is not a number")
        started = content.get("start", {})
        fresh = not started or "given_up_at" in started
        psnr = float(content["metrics"]["psnr"] if fresh else started["psnr"])
        return Start(str(checkpoint["sha256"]), weights, int(content["steps"]), psnr, appearances, transform)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        raise _refusal(folder, str(error)) from error


def shorten(config: TrainerConfig) -> None:
    """Change nerfstudio's config of a training to a fifth of its steps, from a model that knows the place."""
    config.max_num_iterations = math.ceil(config.max_num_iterations / _SHARE)
    for each in config.optimizers.values():
        if hasattr(each["scheduler"], "max_steps"):
            each["scheduler"].max_steps = math.ceil(each["scheduler"].max_steps / _SHARE)
    config.pipeline.model.use_proposal_weight_anneal = False


def load_start(pipeline: Pipeline, start: Start) -> None:
    """Give a new pipeline the weights of an earlier visit's model.

    Raises:
        InvalidInput: the model is in another frame, or of another size or implementation.
    """
    own = _of_the_place(pipeline.state_dict())
    if own.keys() != start.weights.keys() or any(own[name].shape != start.weights[name].shape for name in own):
        raise _refusal(None, "its networks have other sizes, or another implementation")
    parsed = pipeline.datamanager.train_dataparser_outputs
    transform = torch.as_tensor(start.transform["transform"], dtype=torch.float32)
    if not torch.allclose(transform, parsed.dataparser_transform[:3], atol=1e-5) or not math.isclose(
        start.transform["scale"], parsed.dataparser_scale, rel_tol=1e-5
    ):
        raise _refusal(None, "it is in another coordinate frame")
    pipeline.load_state_dict(start.weights, strict=False)


def _of_the_place(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters and buffers that do not belong to single photos, or to the measurement of LPIPS."""
    return {name: value for name, value in state.items() if not any(part in name for part in _LEFT_OUT)}


def _refusal(folder: Path | None, why: str) -> InvalidInput:
    name = f"the earlier visit's model{f' {folder}' if folder else ''}"
    return InvalidInput(f"Training cannot start from {name}: {why}. Set train.start to fresh.")
