"""Measure the quality of a model on the held-out photos."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from nerfstudio.pipelines.base_pipeline import Pipeline
from PIL import Image
from torch import Tensor

from jobs import report

__all__ = ["HeldOut", "colours_fitted", "evaluate", "figures_without_masked", "ignore_masked"]

_MOST_PAIRS, _MOST_PIXELS = 4, 1280  # pairs of pictures that are kept, and their longest side


class HeldOut(NamedTuple):
    """A held-out photo beside its rendering, as files of the model folder."""

    photo: str
    rendering: str
    psnr: float


def evaluate(pipeline: Pipeline, model: Path | None = None) -> dict[str, Any]:
    """Measure the mean PSNR, SSIM and LPIPS over the held-out photos, at the resolution of the training.

    Masked pixels do not count.

    Args:
        pipeline: with the trained model.
        model: a folder that gets a few of the photos beside their renderings, spread evenly; none if not given.

    Returns:
        psnr (dB), ssim and lpips, each None if it is not finite; psnr_colours_fitted: that of `colours_fitted`, which
        is fair to photos in another light; images: the number of photos; image_size: their longest side in px;
        rays_per_second: the rendering speed; pictures: a `HeldOut` for each kept pair.
    """
    pipeline.eval()
    datamanager = pipeline.datamanager
    photos = getattr(datamanager, "fixed_indices_eval_dataloader", None)
    if photos is None:  # the pipeline was loaded for inference
        photos = FixedIndicesEvalDataloader(datamanager.eval_dataset, device=pipeline.device)
    meter = report.Meter("train:evaluate", len(photos))
    rows: list[dict[str, float]] = []
    kept_at = {round(index) for index in torch.linspace(0, len(photos) - 1, _MOST_PAIRS).tolist()} if model else set()
    pictures: list[HeldOut] = []
    rays, side, start = 0, 0, time.monotonic()
    for camera, batch in photos:
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(camera)
            kept = ignore_masked(outputs, batch)
            figures, _ = pipeline.model.get_image_metrics_and_images(outputs, batch)
        row = figures_without_masked({name: float(figures[name]) for name in ("psnr", "ssim", "lpips")}, kept)
        rows.append({**row, "psnr_colours_fitted": colours_fitted(outputs["rgb"], batch)})
        if model and len(rows) - 1 in kept_at:
            pictures.append(_keep(model, len(pictures) + 1, batch["image"], outputs["rgb"], rows[-1]["psnr"]))
        rays += int(camera.width) * int(camera.height)
        side = max(side, int(camera.width), int(camera.height))
        meter.update(len(rows), {"psnr": rows[-1]["psnr"]})
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {
        **{name: value if math.isfinite(value) else None for name, value in mean.items()},
        "images": len(rows),
        "image_size": side,
        "rays_per_second": round(rays / (time.monotonic() - start)),
        "pictures": pictures,
    }


def colours_fitted(rendering: Tensor, batch: dict[str, Any]) -> float:
    """Return the PSNR (dB) of a rendering's right half, after its colours were fitted by the left half.

    Exposure, white balance and weather of a held-out photo are not known. An affine map of colours makes up for them.
    It is found in the half that does not count (after NeRF in the Wild, Martin-Brualla et al., CVPR 2021).

    Args:
        rendering: (H, W, 3).
        batch: the photo, and its mask if there is one.
    """
    photo = batch["image"][..., :3].cpu()
    photo = (photo / 255 if photo.dtype == torch.uint8 else photo).double()
    kept = batch["mask"][..., 0].cpu().bool() if "mask" in batch else torch.ones(photo.shape[:2], dtype=torch.bool)
    colours = torch.cat([rendering.cpu().double(), torch.ones_like(photo[..., :1])], dim=-1)
    left, right = (torch.zeros_like(kept) for _ in range(2))
    middle = kept.shape[1] // 2
    left[:, :middle], right[:, middle:] = kept[:, :middle], kept[:, middle:]
    if not left.any() or not right.any() or not colours.isfinite().all():
        return math.nan
    fitted = torch.linalg.lstsq(colours[left], photo[left], driver="gelsd").solution
    errors = (colours[right] @ fitted).clamp(0, 1) - photo[right]
    return -10 * math.log10(max(float((errors**2).mean()), 1e-10))


def figures_without_masked(figures: dict[str, float], kept: float) -> dict[str, float]:
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


def _keep(model: Path, number: int, photo: Tensor, rendering: Tensor, psnr: float) -> HeldOut:
    """Write a photo and its rendering into the model folder."""
    kept = HeldOut(f"held_out/{number}-photo.jpg", f"held_out/{number}-rendering.jpg", round(psnr, 2))
    (model / "held_out").mkdir(parents=True, exist_ok=True)
    for name, picture in ((kept.photo, photo), (kept.rendering, rendering)):
        pixels = picture[..., :3].detach().cpu()
        if pixels.dtype != torch.uint8:
            pixels = (pixels.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
        image = Image.fromarray(pixels.numpy())
        image.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.LANCZOS)
        image.save(model / name, quality=88, optimize=True)
    return kept


def ignore_masked(outputs: dict[str, Tensor], batch: dict[str, Any]) -> float:
    """Give masked pixels of a rendered photo the photo's own colours; return the share of the other pixels."""
    if "mask" not in batch:
        return 1.0
    rgb, mask, truth = outputs["rgb"], batch["mask"], batch["image"]
    truth = (truth / 255 if truth.dtype == torch.uint8 else truth)[..., :3]
    outputs["rgb"] = torch.where(mask.to(rgb.device), rgb, truth.to(rgb))
    return max(int(mask.sum()), 1) / int(mask.numel())
