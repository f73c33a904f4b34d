"""Photos as small pinhole views."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from jobs.errors import InvalidInput
from jobs.visits.views import photograph, pinholes

_POINTS = np.array([[-0.7, 0.35, 2.0], [0.0, 0.0, 2.0], [0.8, -0.4, 2.1]])


@pytest.mark.parametrize(
    "distortion",
    [{"k1": 0.1, "k2": 0.03}, {"camera_model": "OPENCV_FISHEYE", "k1": 0.05, "k2": -0.03, "k3": 0.01, "k4": -0.01}],
    ids=["perspective", "fisheye"],
)
def test_a_pinhole_shows_points_where_it_projects_them_whatever_the_lens(
    distortion: dict[str, float | str], tmp_path: Path
) -> None:
    pose = np.diag([1.0, -1, -1, 1])  # OpenGL's axes, so that OpenCV's are those of the scene
    lens = {"fl_x": 300.0, "fl_y": 300.0, "cx": 230.0, "cy": 130.0, "w": 480, "h": 270, **distortion}
    frames: list[dict[str, object]] = [{"file_path": "images/1.png", "transform_matrix": pose.tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    [(camera, pinhole)] = pinholes(tmp_path, 5, 160)
    with pytest.raises(InvalidInput, match=r"1\.png cannot be read"):
        photograph(tmp_path, camera, pinhole)
    rows, columns = np.mgrid[:270, :480] + 0.5
    picture = np.zeros((270, 480, 3), np.uint8)
    for point, (x, y) in zip(_POINTS, camera.project(_POINTS), strict=True):
        assert camera.ray(np.array([x, y])) == pytest.approx(point / np.linalg.norm(point), abs=1e-6)
        picture[(columns - x) ** 2 + (rows - y) ** 2 < 6**2] = 255
    (tmp_path / "images").mkdir()
    Image.fromarray(picture).save(tmp_path / "images" / "1.png")

    light = photograph(tmp_path, camera, pinhole)
    assert light.shape == (90, 160, 3)
    bright = np.nan_to_num(np.exp(light[..., 0])) > 0.3
    x, y, distance = pinhole.project(_POINTS.astype(np.float32))
    np.testing.assert_allclose(distance, np.linalg.norm(_POINTS, axis=1), rtol=1e-5)
    rows, columns = np.mgrid[:90, :160] + 0.5
    for column, row in zip(x, y, strict=True):
        near = bright & ((columns - column) ** 2 + (rows - row) ** 2 < 8**2)
        assert abs(columns[near].mean() - column) < 0.4 and abs(rows[near].mean() - row) < 0.4
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.where(columns_of(480, 270) < 240, 255, 0).astype(np.uint8)).save(tmp_path / "masks" / "1.png")
    frames[0]["mask_path"] = "masks/1.png"
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    [(masked, _)] = pinholes(tmp_path, 5, 160)
    half = np.isnan(photograph(tmp_path, masked, pinhole)).any(axis=-1)
    assert half[:, 85:].all() and not half[20:-20, 20:75].any()
    assert camera.fisheye or np.isnan(light).any(), "the lens shows less than the pinhole in some corner"


def columns_of(width: int, height: int) -> NDArray[np.int64]:
    columns: NDArray[np.int64] = np.mgrid[:height, :width][1]
    return columns


def test_points_at_a_distance_are_projected_back_onto_their_pixels(tmp_path: Path) -> None:
    frames = [{"file_path": "1.png", "transform_matrix": np.diag([1.0, -1, -1, 1]).tolist()}]
    lens = {"fl_x": 300.0, "cx": 240.0, "cy": 135.0, "w": 480, "h": 270}
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    [(_, pinhole)] = pinholes(tmp_path, 1, 96)
    x, y, distance = pinhole.project(pinhole.points(np.full((pinhole.height, pinhole.width), 3.0, np.float32)))
    rows, columns = np.mgrid[: pinhole.height, : pinhole.width] + 0.5
    np.testing.assert_allclose(x, columns, atol=1e-3)
    np.testing.assert_allclose(y, rows, atol=1e-3)
    np.testing.assert_allclose(distance, 3.0, rtol=1e-5)
