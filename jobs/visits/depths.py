"""The depths of a model in pinhole views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jobs import model, report
from jobs.path import reading
from jobs.splats.surface import render_cameras
from jobs.visits.views import Array, Pinhole

__all__ = ["render_depths"]

_SHARE = 0.5  # of a view's size: a quarter of the rays finds nearly the same changes


def render_depths(dataset: Path, folder: Path, cameras: Sequence[Pinhole], farthest: float, step: str) -> list[Array]:
    """Render the distances (H, W) from each camera to the surfaces of a model, in scene units; 0 without a surface.

    Args:
        dataset, folder: the model's dataset, and the folder that `jobs.train` wrote.
        cameras: in the scene frame, not necessarily of one size.
        farthest: the greatest distance of a surface, in scene units.
        step: what progress is reported as.

    Raises:
        InvalidInput: the model cannot be used, or it has no depths.
    """
    import torch
    from nerfstudio.cameras.cameras import Cameras as Nerfstudio

    to_model = reading.model_to_dataset(dataset, folder).inverse()
    pipeline = model.load(folder, dataset)
    meter = report.Meter(step, len(cameras))
    found: list[Array] = []
    for number, camera in enumerate(cameras, 1):
        pose = np.vstack([camera.pose * [1, -1, -1, 1], [0, 0, 0, 1]])  # OpenCV's axes to OpenGL's
        poses = torch.from_numpy(to_model.poses(pose)[None, :3].astype(np.float32))
        width, height = (round(side * _SHARE) for side in (camera.width, camera.height))
        focal = camera.focal * width / camera.width
        taken = Nerfstudio(poses, focal, focal, width / 2, height / 2, width, height)
        shown = render_cameras(pipeline, taken.to(pipeline.device), farthest * to_model.scale)
        depths = shown.depths[0].cpu().numpy() / np.float32(to_model.scale)
        found.append(cv2.resize(depths, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST))
        meter.update(number)
    return found
