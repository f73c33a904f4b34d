"""Reading the cameras and points of a dataset, in the frame of a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.errors import InvalidInput
from jobs.path import reading
from tests.jobs.path.captures import RNG, dataset_without_photos


@pytest.mark.parametrize(
    "transforms", [{}, {"frames": [{}]}, {"w": 4, "h": 2, "camera_model": "EQUIRECTANGULAR", "frames": [{}]}]
)
def test_photos_without_a_shape_give_a_video_of_16_by_9(transforms: dict[str, object]) -> None:
    assert reading.photo_shape(transforms) == 16 / 9


@pytest.mark.parametrize("applied", [False, True])
def test_the_path_is_in_the_models_frame(tmp_path: Path, applied: bool) -> None:
    """Against nerfstudio's own dataparser, with and without a frame that the dataset was already brought to."""
    torch = pytest.importorskip("torch")
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    dataset, model = dataset_without_photos(tmp_path)
    if applied:
        meta = json.loads((dataset / "transforms.json").read_text())
        meta |= {"applied_transform": [[0, 1, 0, 0.5], [1, 0, 0, -2], [0, 0, -1, 0.25]], "applied_scale": 0.125}
        (dataset / "transforms.json").write_text(json.dumps(meta))
    (dataset / "photos").mkdir()
    for number in range(20):
        Image.new("RGB", (64, 36)).save(dataset / f"photos/{number:02}.jpg")
    outputs = NerfstudioDataParserConfig(data=dataset, eval_mode="all", load_3D_points=False).setup()
    outputs = outputs.get_dataparser_outputs("train")
    outputs.save_dataparser_transform(model / "dataparser_transforms.json")
    poses = outputs.cameras.camera_to_worlds.numpy()
    capture = reading.read_photos(dataset, model)
    np.testing.assert_allclose(capture.centres, poses[:, :, 3], atol=1e-5)
    np.testing.assert_allclose(capture.directions, -poses[:, :, 2], atol=1e-5)
    assert torch.isfinite(outputs.cameras.fx).all()


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_the_depth_is_that_of_the_points_seen(tmp_path: Path, kind: str) -> None:
    """The wall of the facade is at y = 0; points behind the cameras do not count."""
    dataset, model = dataset_without_photos(tmp_path)
    wall = np.stack([RNG.uniform(-5, 5, 500), np.zeros(500), RNG.uniform(0, 6, 500)], axis=1)
    behind = wall - np.array([0, 40, 0])
    points = np.concatenate([wall, behind])
    properties = "".join(f"property {name}\n" for name in ("float x", "float y", "float z", "uint8 red"))
    header = f"ply\nformat {kind} 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
    if kind == "ascii":
        body = "".join(f"{x:.6f} {y:.6f} {z:.6f} 7\n" for x, y, z in points).encode()
    else:
        layout = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1")]
        body = np.array([(*p, 7) for p in points.tolist()], dtype=layout).tobytes()
    (dataset / "sparse_pc.ply").write_bytes(header.encode() + body)
    meta = json.loads((dataset / "transforms.json").read_text())
    (dataset / "transforms.json").write_text(json.dumps(meta | {"ply_file_path": "sparse_pc.ply"}))
    capture = reading.read_photos(dataset, model)
    assert capture.depth == pytest.approx(np.median(-capture.centres[:, 1]), rel=0.1)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    dataset, model = dataset_without_photos(tmp_path)
    with pytest.raises(InvalidInput, match="dataparser_transforms.json"):
        reading.read_photos(dataset, tmp_path)
    (dataset / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(InvalidInput, match="photos"):
        reading.read_photos(dataset, model)
    with pytest.raises(InvalidInput, match="transforms.json"):
        reading.read_photos(tmp_path / "none", model)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": [{"file_path": "1.jpg"}]},
        {"frames": {"transform_matrix": 1}},
        {"frames": [{"transform_matrix": [[1, 2], [3]]}]},
        {"fl_x": "wide"},
        {"applied_transform": [[0, 0, 0, 0]] * 3},
    ],
)
def test_a_damaged_dataset_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    dataset, model = dataset_without_photos(tmp_path)
    file = dataset / "transforms.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InvalidInput) as refused:
        reading.read_photos(dataset, model)
    assert str(file) in str(refused.value)
