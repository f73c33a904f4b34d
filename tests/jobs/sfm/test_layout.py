from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from jobs.pictures.reading import Picture
from jobs.sfm import layout

SIZE = (640, 480)


def picture(
    number: int, size: tuple[int, int] = SIZE, model: str = "phone", orientation: int = 1, turns: int = 0
) -> Picture:
    return Picture(f"{number}.jpg", f"{number}.jpg", size, size, model, 0.6, orientation=orientation, turns=turns)


def unified(folder: Path, pictures: list[Picture]) -> list[Picture]:
    """Return the unified pictures; of each grey one, the top left corner as it is shown is white."""
    for each in pictures:
        image = Image.new("L", each.feature_size)
        image.paste(255, (0, 0, each.size[0] // 4, each.size[1] // 4))
        image.save(folder / each.features)
    found = layout.unify(pictures, folder)
    for each in found:
        with Image.open(folder / each.features) as image:
            assert image.size == each.feature_size
            turned = np.rot90(np.asarray(image), -each.turns)
            assert turned[5, 5] > 200 and turned[-5, -5] < 50, "turned clockwise, a grey picture is upright"
    assert [each.file for each in found] == [each.file for each in pictures]
    return found


def test_pictures_of_one_camera_get_one_size(tmp_path: Path) -> None:
    upright = (480, 640)
    found = unified(
        tmp_path,
        [
            picture(0, (321, 240)),
            picture(1),
            picture(2, upright, orientation=6),
            picture(3, upright, orientation=8),
            picture(4, orientation=3),
            picture(5, upright),
            picture(6, (640, 360)),
            picture(7, (160, 120)),
            picture(8, upright, "another phone"),
        ],
    )
    assert [each.feature_size for each in found[:6]] == [SIZE] * 6
    assert [each.turns for each in found] == [0, 0, 1, 3, 2, 1, 0, 0, 0]
    assert [each.feature_size for each in found[6:]] == [(640, 360), (160, 120), upright], "other shapes stay"


def test_pictures_that_are_all_alike_stay_as_they_are(tmp_path: Path) -> None:
    same = [picture(number, (480, 640), orientation=6) for number in range(3)]
    assert unified(tmp_path, same) == same


@pytest.mark.parametrize("lens", ["OPENCV", "SIMPLE_RADIAL"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_model_comes_back_to_the_pictures_as_written(turns: int, lens: str) -> None:
    """Errors stay 0 although pictures are turned and halved: intrinsics, poses and positions fit together."""
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=4, num_points3D=100)
    options.camera_width, options.camera_height = SIZE
    options.camera_model_id = getattr(pycolmap.CameraModelId, lens)
    options.camera_params = (
        [500, 490, 330, 225, 0.03, -0.01, 0.004, -0.002] if lens == "OPENCV" else [500, 330, 225, 0.03]
    )
    model = pycolmap.synthesize_dataset(options)
    model.update_point_3d_errors()
    exact = model.compute_mean_reprojection_error()
    upright = SIZE if turns % 2 == 0 else SIZE[::-1]
    half = upright[0] // 2, upright[1] // 2
    pictures = {}
    for number, image in sorted(model.images.items()):
        size = half if number % 2 else upright
        pictures[image.name] = Picture(f"{number}.jpg", "", size, SIZE, "phone", 0.6, turns=turns)
    up = {image.name: image.cam_from_world().rotation.matrix()[1] for image in model.images.values()}
    found = layout.as_written(model, pictures)
    found.update_point_3d_errors()
    assert exact < 1e-6 and found.compute_mean_reprojection_error() < 1e-6
    assert len(found.cameras) == 2 and found.num_points3D() == 100
    for image in found.images.values():
        camera = found.cameras[image.camera_id]
        assert (camera.width, camera.height) == pictures[image.name].size
        axes = image.cam_from_world().rotation.matrix()
        assert [axes[1], -axes[0], -axes[1], axes[0]][turns] == pytest.approx(up[image.name])
