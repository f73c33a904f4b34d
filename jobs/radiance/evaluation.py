"""Measure the quality of a model on the held-out photos."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor

from jobs import report

__all__ = ["evaluate", "ignore_masked", "of_kept"]


def evaluate(pipeline: Pipeline) -> dict[str, Any]:
    """Measure the mean PSNR, SSIM and LPIPS over the held-out photos, at the resolution of the training.

    Masked pixels do not count.

    Returns:
        psnr (dB), ssim and lpips, each None if it is not finite; images: the number of photos; image_size: their
        longest side in px; rays_per_second: the rendering speed.
    """
    pipeline.eval()
    datamanager = pipeline.datamanager
    photos = getattr(datamanager, "fixed_indices_eval_dataloader", None)
    if photos is None:  # the pipeline was loaded for inference
        photos = FixedIndicesEvalDataloader(datamanager.eval_dataset, device=pipeline.device)
    meter = report.Meter("train:evaluate", len(photos))
    rows: list[dict[str, float]] = []
    rays, side, start = 0, 0, time.monotonic()
    for camera, batch in photos:
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(camera)
            kept = ignore_masked(outputs, batch)
            figures, _ = pipeline.model.get_image_metrics_and_images(outputs, batch)
        rows.append(of_kept({name: float(figures[name]) for name in ("psnr", "ssim", "lpips")}, kept))
        rays += int(camera.width) * int(camera.height)
        side = max(side, int(camera.width), int(camera.height))
        meter.update(len(rows), {"psnr": rows[-1]["psnr"]})
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {
        **{name: value if math.isfinite(value) else None for name, value in mean.items()},
        "images": len(rows),
        "image_size": side,
        "rays_per_second": round(rays / (time.monotonic() - start)),
    }


def of_kept(figures: dict[str, float], kept: float) -> dict[str, float]:
    """Return the figures of the pixels that are not masked, from those of all, where masked pixels are equal.

    All three are means over the picture: of the squared difference, of a likeness that is 1 where the pictures are
    equal, and of a difference that is 0 there. Windows across a mask's edge make the last two slightly better.

    Args:
        figures: psnr (dB), ssim and lpips.
        kept: the share of pixels that are not masked.
    """
    return {
        "psnr": figures["psnr"] + 10 * math.log10(kept),
        "ssim": 1 - (1 - figures["ssim"]) / kept,
        "lpips": figures["lpips"] / kept,
    }


def ignore_masked(outputs: dict[str, Tensor], batch: dict[str, Any]) -> float:
    """Give masked pixels of a rendered photo the photo's own colours; return the share of the other pixels."""
    if "mask" not in batch:
        return 1.0
    rgb, mask, truth = outputs["rgb"], batch["mask"], batch["image"]
    truth = (truth / 255 if truth.dtype == torch.uint8 else truth)[..., :3]
    outputs["rgb"] = torch.where(mask.to(rgb.device), rgb, truth.to(rgb))
    return max(int(mask.sum()), 1) / int(mask.numel())
