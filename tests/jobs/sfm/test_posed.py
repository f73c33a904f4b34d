"""Poses that are given with the photos: kept, refined, and refused if they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from jobs.errors import GateRefused, InvalidInput
from jobs.geometry import fit_similarity
from jobs.metric.given import Given
from jobs.metric.measure import measure
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from tests.true_poses import compare_poses

OPTIONS = PrepareOptions(max_features=1000, feature_image_size=360, poses="keep")
Poses = NDArray[np.float64]


def capture(street: Path, folder: Path, poses: Poses | None = None, **shared: Any) -> Path:
    """Copy the street's photos and write a transforms.json beside them: the true poses, or others."""
    shutil.copytree(street / "photos", folder / "photos")
    content = json.loads((street / "truth.json").read_text())
    if poses is not None:
        for frame, pose in zip(content["frames"], poses, strict=True):
            frame["transform_matrix"] = pose.tolist()
    (folder / "transforms.json").write_text(json.dumps({**content, **shared}))
    return folder


def truth(street: Path) -> Poses:
    frames = json.loads((street / "truth.json").read_text())["frames"]
    return np.array([frame["transform_matrix"] for frame in frames])


def read(dataset: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((dataset / "dataset.json").read_text())
    return content


def check(street: Path, dataset: Path) -> None:
    """Compare the poses of a dataset with the truth, to the accuracy of structure from motion."""
    names = {Path(image["file"]).name: image["source"] for image in read(dataset)["images"]}
    found = compare_poses(street / "truth.json", dataset / "transforms.json", names)
    assert len(found.names) == 14 and found.positions.max() < 0.01 and found.rotations.max() < 0.5


@pytest.fixture(scope="module")
def kept(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset with kept poses that were off by 10 cm, 1° and 3 % of the focal length."""
    folder, rng = tmp_path_factory.mktemp("kept"), np.random.default_rng(0)
    poses = truth(street)
    poses[:, :3, 3] += rng.normal(0, 0.1, (14, 3))
    poses[:, :3, :3] = Rotation.from_rotvec(np.radians(rng.normal(0, 1, (14, 3)))).as_matrix() @ poses[:, :3, :3]
    focal = 1.03 * 26 / 36 * 480
    prepare(capture(street, folder / "in", poses, fl_x=focal, fl_y=focal), folder / "dataset", OPTIONS)
    return folder / "dataset"


def test_inexact_poses_are_refined_to_the_truth(street: Path, kept: Path) -> None:
    check(street, kept)
    about = read(kept)
    assert (about["mapper"], about["registered"], about["poses"]["given"]) == ("given poses", 14, 14)
    assert 0.005 < about["poses"]["moved"][0] < 0.05 and 0.3 < about["poses"]["turned_degrees"][0] < 3
    assert "14 photos have a given pose; 14 of these fit the photos. They were refined by" in about["selection"]
    assert "registered again" not in about["selection"]
    assert json.loads((kept / "transforms.json").read_text())["fl_x"] == pytest.approx(26 / 36 * 480, rel=0.02)


def test_a_later_visit_is_registered_to_kept_poses(street: Path, kept: Path, tmp_path: Path) -> None:
    prepare(capture(street, tmp_path / "in"), tmp_path / "dataset", OPTIONS, {"first": [kept]})
    assert read(tmp_path / "dataset")["frame"]["reference"] == "first"
    first, second = (
        {Path(frame["file_path"]).name: np.array(frame["transform_matrix"]) for frame in json.loads(text)["frames"]}
        for text in ((kept / "transforms.json").read_text(), (tmp_path / "dataset/transforms.json").read_text())
    )
    assert max(np.abs(first[name][:3, 3] - second[name][:3, 3]).max() for name in first) < 0.01


def test_a_dataset_of_ours_is_read_as_a_colmap_model(street: Path, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "images", tmp_path / "in" / "images")
    shutil.copytree(kept / "colmap", tmp_path / "in" / "colmap")
    prepare(tmp_path / "in", tmp_path / "dataset", OPTIONS)
    about = read(tmp_path / "dataset")
    assert about["mapper"] == "given poses" and about["poses"]["moved"][1] < 0.002
    names = {
        Path(image["file"]).name: Path(image["source"]).name.replace("frame_00", "facade_") for image in about["images"]
    }
    found = compare_poses(street / "truth.json", tmp_path / "dataset" / "transforms.json", names)
    assert len(found.names) == 14 and found.positions.max() < 0.01


@pytest.mark.slow
def test_a_polycam_export_is_read(street: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "keyframes" / "cameras").mkdir(parents=True)
    shutil.copytree(street / "photos", tmp_path / "in" / "keyframes" / "images")
    content = json.loads((street / "truth.json").read_text())
    lens = {"fx": content["fl_x"], "fy": content["fl_y"], "cx": 240.0, "cy": 135.0, "width": 480, "height": 270}
    for frame in content["frames"]:
        pose = {f"t_{row}{column}": frame["transform_matrix"][row][column] for row in range(3) for column in range(4)}
        name = Path(frame["file_path"]).stem
        (tmp_path / "in" / "keyframes" / "cameras" / f"{name}.json").write_text(json.dumps({**lens, **pose}))
    prepare(tmp_path / "in", tmp_path / "dataset", OPTIONS)
    check(street, tmp_path / "dataset")
    figures = read(tmp_path / "dataset")["poses"]
    assert figures["moved"][1] < 0.01
    frames = json.loads((tmp_path / "dataset" / "transforms.json").read_text())["frames"]
    names = {image["file"]: Path(image["source"]).stem for image in read(tmp_path / "dataset")["images"]}
    places = {Path(frame["file_path"]).stem: np.array(frame["transform_matrix"])[:3, 3] for frame in content["frames"]}
    true = [places[names[frame["file_path"]]] for frame in frames]
    here = [np.array(frame["transform_matrix"])[:3, 3] for frame in frames]
    assert figures["metres_per_unit"] == pytest.approx(fit_similarity(here, true).scale, rel=2e-3)
    scale = measure(tmp_path / "dataset", Given()).scale
    assert scale and scale.metres == pytest.approx(figures["metres_per_unit"], rel=1e-9)


def test_poses_of_other_photos_are_refused(street: Path, tmp_path: Path) -> None:
    mixed = truth(street)[np.random.default_rng(0).permutation(14)]
    with pytest.raises(
        GateRefused, match=r"given poses do not fit the photos: .* \d+ % of matching .* leave out prepare.poses"
    ):
        prepare(capture(street, tmp_path / "in", mixed), tmp_path / "dataset", OPTIONS)
    assert not (tmp_path / "dataset" / "transforms.json").exists()
    assert "its given pose does not fit its features" in read(tmp_path / "dataset")["images"][0]["reason"]


def test_poses_that_name_no_photo_are_refused_at_once(street: Path, tmp_path: Path) -> None:
    folder = capture(street, tmp_path / "in")
    for number, photo in enumerate(sorted((folder / "photos").iterdir())):
        photo.rename(photo.with_name(f"renamed_{number}.jpg"))
    with pytest.raises(
        InvalidInput, match=r"it names photos/facade_001.jpg, and a photo is named photos/renamed_0.jpg"
    ):
        prepare(folder, tmp_path / "dataset", OPTIONS)


def test_photos_without_a_fitting_pose_are_named(street: Path, tmp_path: Path) -> None:
    folder = capture(street, tmp_path / "in")
    content = json.loads((folder / "transforms.json").read_text())
    del content["frames"][0]
    content["frames"][0] |= {"w": 270, "h": 480}
    (folder / "transforms.json").write_text(json.dumps(content))
    prepare(folder, tmp_path / "dataset", OPTIONS)
    reasons = {image["source"]: image.get("reason") for image in read(tmp_path / "dataset")["images"]}
    assert reasons.pop("photos/facade_001.jpg") == "it has no pose"
    assert reasons.pop("photos/facade_002.jpg") == "its pose is for a picture of another shape"
    assert set(reasons.values()) == {None}
