from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from jobs.pictures import panorama
from jobs.sfm.views import Mount, View, write_views


def mounted(moment: int, index: int) -> View:
    mount = Mount(f"moment {moment}", index, panorama.ROTATIONS[index])
    return View(f"{moment}_{index}.pgm", 300, 300, f"rig {index}", focal=0.5 / np.sqrt(2), mount=mount)


def test_views_of_a_rig_share_a_frame_and_exact_cameras(tmp_path: Path) -> None:
    plain = [View(f"photo_{i}.pgm", 640, 480, "a camera", focal=0.6) for i in range(8)]
    views = [*plain, *(mounted(moment, index) for moment in range(3) for index in range(5))]
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        write_views(database, views)
        assert (database.num_images(), database.num_cameras(), database.num_rigs()) == (23, 6, 2)
        assert database.num_frames() == 8 + 3
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
        images = {image.name: image for image in database.read_all_images()}
        for frame in database.read_all_frames():
            names = {images_by_id.name for images_by_id in images.values() if images_by_id.frame_id == frame.frame_id}
            assert len(names) in (1, 5) and len({name.split("_")[0] for name in names}) == 1
        first, right = (cameras[images[f"0_{index}.pgm"].camera_id] for index in (0, 1))
        assert first.model == pycolmap.CameraModelId.PINHOLE and first.focal_length_x == pytest.approx(150)
        rig = database.read_rig(images["0_0.pgm"].camera_id)
        pose = rig.sensor_from_rig(right.sensor_id)
        assert pose
        rotation = pose.rotation.matrix()
        np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 0, 1], atol=1e-12)  # what is on the right is ahead of it
        assert cameras[images["photo_0.pgm"].camera_id].model == pycolmap.CameraModelId.OPENCV


def test_a_camera_of_few_pictures_has_a_simple_model(tmp_path: Path) -> None:
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        write_views(database, [View(f"{i}.pgm", 640, 480, "a camera") for i in range(7)])
        (camera,) = database.read_all_cameras()
        assert camera.model == pycolmap.CameraModelId.SIMPLE_RADIAL and not camera.has_prior_focal_length
