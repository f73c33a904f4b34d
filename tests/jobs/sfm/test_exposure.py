from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from jobs.sfm.exposure import gains, measure

PHOTOS, POINTS = 24, 1200


def test_gains_are_those_of_the_photos_whatever_the_points_and_a_few_wrong_matches() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(-0.5, 0.5, (PHOTOS, 3))
    true -= true.mean(axis=0)
    colours = rng.uniform(-5, -1, (POINTS, 3))
    first = rng.integers(0, PHOTOS - 3, POINTS)  # a walk: each point is seen from four photos in a row
    photo, point = (first[:, None] + np.arange(4)).ravel(), np.repeat(np.arange(POINTS), 4)
    stops = colours[point] + true[photo] + rng.normal(0, 0.03, (len(photo), 3))
    wrong = rng.random(len(photo)) < 0.1
    stops[wrong] = rng.uniform(-5, -1, (wrong.sum(), 3))
    found = gains(photo, point, stops)
    assert found is not None and np.abs(found - true).max() < 0.08
    assert gains(photo[:40], point[:40], stops[:40]) is None
    assert gains(photo[:0], point[:0], stops[:0]) is None


@pytest.mark.parametrize(("stops", "red", "differs"), [(0.0, 0.0, False), (0.8, 0.0, True), (0.0, 0.4, True)])
def test_the_spread_is_that_of_the_pictures(stops: float, red: float, differs: bool, tmp_path: Path) -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 9
    options.num_points3D = 100
    model = pycolmap.synthesize_dataset(options)
    for index, (_, image) in enumerate(sorted(model.images.items(), key=lambda item: item[1].name)):
        at = index / 8 - 0.5
        linear = 0.2 * 2 ** (stops * at) * np.array([(1 + red) ** at, 1, 1])
        camera = model.cameras[image.camera_id]
        colour = np.round(255 * (1.055 * linear ** (1 / 2.4) - 0.055)).astype(int)
        image.name = f"{index}.png"
        Image.new("RGB", (camera.width, camera.height), tuple(colour.tolist())).save(tmp_path / image.name)
    light = measure(model, tmp_path)
    assert light is not None and light.photos == 9 and light.differs == differs
    assert light.exposure_stops == pytest.approx(0.9 * (stops + np.log2(1 + red) / 3), abs=0.02)
    assert light.white_balance == pytest.approx((1 + red) ** 0.9 - 1, abs=0.02)


def test_pictures_that_are_clipped_say_nothing(tmp_path: Path) -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 5, 50
    model = pycolmap.synthesize_dataset(options)
    for index, image in enumerate(model.images.values()):
        image.name = f"{index}.png"
        Image.new("RGB", (64, 48), (255, 255, 255)).save(tmp_path / image.name)
    assert measure(model, tmp_path) is None
