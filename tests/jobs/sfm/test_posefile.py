from __future__ import annotations

import json
import struct
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pycolmap
import pytest

from jobs.errors import InvalidInput
from jobs.sfm.pose import Lens, Pose, belonging_to, by_lens
from jobs.sfm.posefile import read_poses

POSE = [[1.0, 0, 0, 4], [0, 0, -1, 5], [0, 1, 0, 6], [0, 0, 0, 1]]
"""Of a camera at (4, 5, 6) that looks along +Y, with OpenGL's axes."""
FRAME: dict[str, Any] = {"file_path": "images/a.jpg", "transform_matrix": POSE}
SHARED: dict[str, Any] = {"w": 640, "h": 480, "fl_x": 320.0, "fl_y": 480.0, "cx": 160.0, "cy": 240.0, "k1": 0.1}


def transforms(folder: Path, frames: Any = (FRAME,), **shared: Any) -> dict[str, Path]:
    file = folder / "transforms.json"
    file.write_text(json.dumps({**SHARED, **shared, "frames": list(frames) if isinstance(frames, tuple) else frames}))
    return {"transforms.json": file}


def colmap(folder: Path, *, text: bool = False, model: str = "OPENCV") -> dict[str, Path]:
    """Write a COLMAP model of one photo with the same camera, whose photo shows two points."""
    params = {"OPENCV": [320.0, 480, 160, 240, 0.1, 0, 0, 0], "PINHOLE": [320.0, 480, 160, 240], "FOV": [1.0] * 5}
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=3, model=model, width=640, height=480, params=params[model])
    reconstruction.add_camera_with_trivial_rig(camera)
    image = pycolmap.Image(name="a.jpg", camera_id=3, image_id=7)
    image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array(xy, float)) for xy in ((1, 2), (3, 4))])
    to_camera = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(to_camera), -to_camera @ [4.0, 5, 6])
    reconstruction.add_image_with_trivial_frame(image, pose)
    (reconstruction.write_text if text else reconstruction.write_binary)(folder)
    suffix = "txt" if text else "bin"
    return {name: folder / name for name in (f"cameras.{suffix}", f"images.{suffix}")}


def test_all_formats_give_the_same_pose_and_lens(tmp_path: Path) -> None:
    for number, files in enumerate((transforms(tmp_path), colmap(tmp_path), colmap(tmp_path, text=True))):
        (pose,) = read_poses(files)
        assert pose.name == ("a.jpg" if number else "images/a.jpg")
        np.testing.assert_allclose(pose.matrix, [[1, 0, 0, 4], [0, 0, 1, 5], [0, -1, 0, 6]], atol=1e-9)
        assert pose.lens == Lens((0.5, 1.0), (0.25, 0.5), (0.1, 0, 0, 0), False, 4 / 3)
        assert pose.lens.params(320, 240) == pytest.approx([160, 240, 80, 120, 0.1, 0, 0, 0])


def test_lenses_of_other_camera_models_are_read(tmp_path: Path) -> None:
    fisheye = transforms(tmp_path, camera_model="OPENCV_FISHEYE", k3=0.3, p1=9)
    assert read_poses(fisheye)[0].lens == Lens((0.5, 1.0), (0.25, 0.5), (0.1, 0, 0.3, 0), True, 4 / 3)
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": np.pi / 2, "frames": [FRAME]}))
    lens = read_poses({"transforms.json": tmp_path / "transforms.json"})[0].lens
    assert lens.params(800, 600) == pytest.approx([400, 400, 400, 300, 0, 0, 0, 0])
    assert read_poses(colmap(tmp_path, model="PINHOLE"))[0].lens.distortion == (0, 0, 0, 0)


def changed(**frame: Any) -> tuple[dict[str, Any], ...]:
    return ({**FRAME, **frame},)


@pytest.mark.parametrize(
    ("frames", "shared", "reason"),
    [
        ((), {}, "it holds no poses"),
        (None, {}, "TypeError"),
        (changed(transform_matrix=[[float("nan")] * 4] * 4), {}, "no 4 x 4 matrix of finite numbers"),
        (changed(transform_matrix=[[1e300] * 4] * 4), {}, "no 4 x 4 matrix of finite numbers"),
        (changed(transform_matrix=[[1, 2], [3]]), {}, "inhomogeneous"),
        (changed(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()), {}, "scaled, skewed or mirrored"),
        (changed(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()), {}, "scaled, skewed or mirrored"),
        ((FRAME,), {"fl_x": float("inf")}, "that no lens has"),
        ((FRAME,), {"fl_x": -320}, "that no lens has"),
        ((FRAME,), {"k1": 1e9}, "that no lens has"),
        ((FRAME,), {"w": "wide"}, "could not convert"),
        ((FRAME,), {"camera_model": "EQUIRECTANGULAR"}, "equirectangular photos are not supported"),
        ((FRAME, *changed(camera_model="OPENCV_FISHEYE")), {}, "some cameras are fisheyes and some are not"),
    ],
)
def test_a_file_that_no_camera_wrote_is_refused(
    tmp_path: Path, frames: Any, shared: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=f"the poses in transforms.json cannot be kept: .*{reason}.* Repair it"):
        read_poses(transforms(tmp_path, frames, **shared))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"frames": 3}', '{"frames": [{}]}', "\0\x80"])
def test_a_file_that_is_no_dataset_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "transforms.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput, match="the poses in transforms.json cannot be kept"):
        read_poses({"transforms.json": tmp_path / "transforms.json"})


def test_sizes_that_a_model_states_are_not_believed(tmp_path: Path) -> None:
    files = colmap(tmp_path)
    images, cameras = files["images.bin"].read_bytes(), files["cameras.bin"].read_bytes()
    points_at = images.index(b"a.jpg\0") + 6
    broken = {
        "images.bin": [
            images[:40],
            images[:-1] if len(images) < points_at + 9 else images[: points_at + 4],
            struct.pack("<Q", 2**62) + images[8:],
            images[:points_at] + struct.pack("<Q", 2**40) + images[points_at + 8 :],
            images[:points_at - 1] + b"a" * 10_000,
            images[: points_at - 10] + struct.pack("<I", 99) + images[points_at - 6 :],  # a camera that is not there
        ],
        "cameras.bin": [
            b"",
            struct.pack("<Q", 2**62) + cameras[8:],
            cameras[:12] + struct.pack("<i", 99) + cameras[16:],
            cameras[:16] + struct.pack("<Q", 0) + cameras[24:],  # no width
        ],
    }  # fmt: skip
    for name, contents in broken.items():
        good = files[name].read_bytes()
        for content in contents:
            files[name].write_bytes(content)
            with pytest.raises(InvalidInput, match="the poses in cameras.bin cannot be kept"):
                read_poses(files)
        files[name].write_bytes(good)
    assert len(read_poses(files)) == 1


def test_unknown_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a camera FOV with 5 parameters is not supported"):
        read_poses(colmap(tmp_path, model="FOV"))


def named(*names: str) -> list[Pose]:
    return [Pose(name, np.eye(4)[:3], Lens((1.0, 1.0))) for name in names]


@pytest.mark.parametrize(
    ("pose", "base", "photo"),
    [
        ("images/1.jpg", ".", "images/1.jpg"),
        ("./images/1.jpg", ".", "images/1.jpg"),
        ("1.jpg", "sparse/0", "images/1.jpg"),
        ("images\\1.jpg", "x", "images/1.jpg"),
        ("/home/someone/images/1.jpg", ".", "images/1.jpg"),
        ("../../other/1", ".", "images/1.jpg"),
        ("1.png", ".", "images/1.jpg"),
        ("2.jpg", ".", None),  # two photos of that name
        ("b/2.jpg", ".", "b/2.jpg"),
        ("/etc/passwd", ".", None),
    ],
)
def test_photos_are_found_by_the_end_of_the_path(pose: str, base: str, photo: str | None) -> None:
    found = belonging_to(named(pose), ["images/1.jpg", "a/2.jpg", "b/2.jpg"], PurePosixPath(base))
    assert list(found) == ([photo] if photo else [])


def test_a_photo_that_two_poses_name_has_none() -> None:
    assert not belonging_to(named("x/1.jpg", "y/1.jpg"), ["1.jpg"], PurePosixPath())


def test_photos_of_one_lens_share_it() -> None:
    lenses = {f"{n}": Lens((0.8 + n / 1000, 0.8)) for n in range(5)}
    lenses |= {"tele": Lens((1.6, 1.6)), "shifted": Lens((0.8, 0.8), (0.6, 0.5))}
    found = by_lens(lenses)
    assert len({found[f"{n}"] for n in range(5)}) == 1 and found["0"][1] == lenses["2"]
    assert len({number for number, _ in found.values()}) == 3
