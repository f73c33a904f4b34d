"""Train a later visit of a scene from the model of an earlier one in the same scene frame, in 15 % of the steps.

Most of the place is as it was; the network learns the other light and what has changed. What belongs to single photos
(appearance embeddings, refined poses) is not taken over. Neither is the state of the optimiser: the learning rate
starts at half of a new model's and falls as far, because changes need high rates. The proposals' weights are not
annealed, and the proposal networks are trained in every sixth step, because they know the surfaces.

If these steps are not enough, the same model goes on with the other steps of a full training. If it is far from enough,
most of the place has changed, and a new model is better.
"""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor

from jobs import model
from jobs.errors import InvalidInput
from jobs.options import TrainOptions
from jobs.radiance.trainer import pipeline_state

__all__ = ["MOST_LOST", "Start", "load_start", "read_start", "shorten"]

MOST_LOST = 0.3
"""How far, in dB, the held-out PSNR may be below that of the earlier visit."""

_MOST_CHANGED = 1.5  # dB: as `MOST_LOST`, for a model that goes on (benchmarks/revisit.md)
_SHARE = 0.15  # of the steps of a full training
_RATE = 0.5  # of a new model's learning rate: with as much or a quarter, revisits are 0.15 dB worse
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
        share: of the steps of a full training that follow.
    """

    checksum: str
    weights: dict[str, Tensor]
    steps: int
    psnr: float
    appearances: bool
    transform: dict[str, Any]
    share: float = _SHARE

    def after(self, pipeline: Pipeline, steps: int) -> Start:
        """Return the start of the other steps of a full training, with what was learned of single photos, too."""
        weights = {name: value.detach().cpu() for name, value in pipeline_state(pipeline).items()}
        return replace(self, weights=weights, steps=self.steps + steps, share=1 - self.share)

    def is_matched(self, psnr: float | None) -> bool:
        """Return whether a held-out PSNR in dB is at most `MOST_LOST` lower."""
        return psnr is not None and psnr >= self.psnr - MOST_LOST

    def is_near(self, psnr: float | None) -> bool:
        """Return whether a model of such a held-out PSNR in dB is a better start than random numbers."""
        return psnr is not None and psnr >= self.psnr - _MOST_CHANGED


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


def shorten(config: TrainerConfig, share: float) -> None:
    """Change nerfstudio's config of a training to a share of its steps, from a model that knows the place."""
    config.max_num_iterations = max(1, round(config.max_num_iterations * share))
    for each in config.optimizers.values():
        each["optimizer"].lr *= _RATE
        if hasattr(each["scheduler"], "max_steps"):
            each["scheduler"].max_steps = max(1, round(each["scheduler"].max_steps * share))
    config.pipeline.model.use_proposal_weight_anneal = False
    config.pipeline.model.proposal_warmup = 1  # from the first steps on, as seldom as at the end of a full training


def load_start(pipeline: Pipeline, start: Start) -> None:
    """Give a new pipeline the weights of an earlier visit's model, or of one that is not yet as good.

    Raises:
        InvalidInput: the model is in another frame, or of another size or implementation.
    """
    own, theirs = _of_the_place(pipeline.state_dict()), _of_the_place(start.weights)
    if own.keys() != theirs.keys() or any(own[name].shape != theirs[name].shape for name in own):
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
