"""A fisheye, from photos to a model: poses and lens are compared with the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.facade import cameras, photograph
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from tests import made_once, panorama
from tests.true_poses import compare_poses

SIZE = (432, 324)
FOCAL = 220.0  # px: 141° across the diagonal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return fourteen photos of the street by a fisheye, without EXIF."""
    folder = tmp_path_factory.mktemp("fisheye")
    views = [replace(view, focal=FOCAL) for view in cameras(14, *SIZE)]
    scene = made_once.scene()
    photograph(scene, views, folder)
    for number, view in enumerate(views, 1):
        panorama.fisheye(scene, view).save(folder / "photos" / f"facade_{number:03}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def dataset(capture: Path) -> Path:
    prepare(capture / "photos", capture / "dataset", PrepareOptions(max_features=2000))
    return capture / "dataset"


def test_the_lens_and_the_poses_are_found(capture: Path, dataset: Path) -> None:
    about, transforms = (json.loads((dataset / f"{name}.json").read_text()) for name in ("dataset", "transforms"))
    assert about["registered"] == 14 and "The lenses are fisheyes" in about["selection"]
    assert transforms["camera_model"] == "OPENCV_FISHEYE"
    photos = {Path(image["file"]).name: image["source"] for image in about["images"]}
    found = compare_poses(capture / "truth.json", dataset / "transforms.json", photos)
    assert found.positions.max() < 0.004 and found.rotations.max() < 0.5


def test_a_model_is_trained_and_measured_with_the_true_rays(dataset: Path, tmp_path: Path) -> None:
    from jobs import model
    from jobs.options import TrainOptions
    from jobs.train import train

    options = TrainOptions(max_num_iterations=100, model_size="small", max_image_size=144, rays_per_batch=512)
    train(options, dataset, tmp_path / "model", tmp_path / "checkpoints")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["metrics"]["psnr"] > 12
    cameras = model.load(tmp_path / "model", dataset).datamanager.eval_dataset.cameras
    rays = cameras.generate_rays(camera_indices=0).directions.cpu().numpy()
    height, width, _ = rays.shape
    assert width == 144 and np.isfinite(rays).all()
    y, x = np.mgrid[:height, :width] + 0.5
    angles = np.hypot(x - width / 2, y - height / 2) / (FOCAL / 3)
    ahead = -cameras.camera_to_worlds[0, :, 2].cpu().numpy()
    assert np.degrees(np.abs(np.arccos(np.clip(rays @ ahead, -1, 1)) - angles)).max() < 1
