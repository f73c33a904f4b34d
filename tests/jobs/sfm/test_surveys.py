"""Poses that OpenDroneMap and RealityCapture wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs import media
from jobs.errors import InvalidInput
from jobs.geometry import Floats
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from jobs.sfm.pose import belonging_to
from jobs.sfm.posefile import read_poses
from tests.jobs.preparing import read
from tests.jobs.test_selection import write
from tests.true_poses import compare_poses

POSE: Floats = np.column_stack([Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix(), [4.0, 5.0, 6.0]])
"""Camera to world, with OpenCV's axes."""
WIDTH, HEIGHT, FOCAL = 640, 480, 320.0
CENTRE = (300.0, 250.0)
"""px; the distortion is 0.1, 0.2, 0.03 and 0.04: k1, k2, p1 and p2 of OpenCV."""
MAP = np.array([412_345.6, 5_678_901.2, 123.4])
"""The origin of the poses in the coordinates of a map, in metres."""

Poses = Mapping[str, Floats]
Write = Callable[[Path, Poses, Mapping[str, Any]], None]


def camera(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lens as OpenSfM writes it: all values are in terms of the longer side."""
    side, (x, y) = max(about["w"], about["h"]), about["centre"]
    focal = about["focal"] / side
    k1, k2, p1, p2 = about["distortion"]
    lens = {"projection_type": "brown", "width": about["w"], "height": about["h"], "focal_x": focal, "focal_y": focal}
    middle = {"c_x": (x - about["w"] / 2) / side, "c_y": (y - about["h"] / 2) / side}
    return {**lens, **middle, "k1": k1, "k2": k2, "p1": p1, "p2": p2, "k3": 0.0, **about.get("lens", {})}


def opensfm(folder: Path, poses: Poses, about: Mapping[str, Any]) -> None:
    shots = {}
    for name, pose in poses.items():
        turn = pose[:, :3].T
        shot = {"rotation": [*Rotation.from_matrix(turn).as_rotvec()], "translation": [*(-turn @ pose[:, 3])]}
        shots[name] = {**shot, "camera": "v2 a camera", "orientation": 1, "capture_time": 0.0, **about.get("shot", {})}
    whole = {"cameras": {"v2 a camera": camera(about)}, "shots": shots, "points": {}}
    (folder / "opensfm").mkdir()
    smaller: dict[str, Any] = {"cameras": {}, "shots": {}, "points": {}}
    (folder / "opensfm" / "reconstruction.json").write_text(json.dumps([smaller, whole]))


def odm(folder: Path, poses: Poses, about: Mapping[str, Any]) -> None:
    features = []
    for name, pose in poses.items():
        turn = [*Rotation.from_matrix(pose[:, :3].T).as_rotvec()]
        lens = {"width": about["w"], "height": about["h"], "focal": about["focal"] / max(about["w"], about["h"])}
        shot = {"filename": name, "translation": [*(pose[:, 3] + MAP)], "rotation": turn, **lens}
        place = {"type": "Point", "coordinates": [7.7, 51.2, 100.0]}
        features.append({"type": "Feature", "properties": {**shot, **about.get("shot", {})}, "geometry": place})
    (folder / "odm_report").mkdir()
    content = {"type": "FeatureCollection", "features": features}
    (folder / "odm_report" / "shots.geojson").write_text(json.dumps(content))
    (folder / "cameras.json").write_text(json.dumps({"v2 a camera": camera(about)}))


def table(folder: Path, poses: Poses, about: Mapping[str, Any]) -> None:
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    side = max(about["w"], about["h"])
    k1, k2, p1, p2 = about["distortion"]
    px, py = ((at - size / 2) / side for at, size in zip(about["centre"], (about["w"], about["h"]), strict=True))
    for name, pose in poses.items():
        # An aircraft's axes to the world's: to the nose, to the right wing and down; north, east and down.
        body = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]) @ pose[:, :3] @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
        heading, pitch, roll = Rotation.from_matrix(body).as_euler("ZYX", degrees=True)
        values = [*pose[:, 3], heading, pitch, roll, 36 * about["focal"] / side, px, py, k1, k2, 0, 0, p2, p1]
        lines.append(",".join([name, *map(str, values)]))
    lines[1:] = [about.get("row", "{}").format(line) for line in lines[1:]]
    (folder / "walk.csv").write_text("\n".join(lines) + "\n")


def sidecars(folder: Path, poses: Poses, about: Mapping[str, Any]) -> None:
    side = max(about["w"], about["h"])
    k1, k2, p1, p2 = about["distortion"]
    u, v = ((at - size / 2) / side for at, size in zip(about["centre"], (about["w"], about["h"]), strict=True))
    for name, pose in poses.items():
        turn = " ".join(map(str, pose[:, :3].T.ravel()))
        (folder / "images" / name).with_suffix(".xmp").write_text(
            f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xcr:Version="3" xcr:PosePrior="initial" xcr:Coordinates="absolute" xcr:DistortionModel="brown3t2"
 xcr:FocalLength35mm="{36 * about["focal"] / side}" xcr:Skew="0" xcr:AspectRatio="1" xcr:PrincipalPointU="{u}"
 xcr:PrincipalPointV="{v}" xcr:InMeshing="1" xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">
<xcr:Rotation>{about.get("turn", turn)}</xcr:Rotation><xcr:Position>{" ".join(map(str, pose[:, 3]))}</xcr:Position>
<xcr:DistortionCoeficients>{k1} {k2} 0 0 {p2} {p1}</xcr:DistortionCoeficients>{about.get("more", "")}
</rdf:Description></rdf:RDF></x:xmpmeta>"""
        )


ABOUT: dict[str, Any] = {
    "w": WIDTH,
    "h": HEIGHT,
    "focal": FOCAL,
    "centre": CENTRE,
    "distortion": (0.1, 0.2, 0.03, 0.04),
}
WRITERS = [opensfm, odm, table, sidecars]


def scan(folder: Path, writer: Write, **changes: Any) -> media.Capture:
    write(folder, "images/IMG_1.jpg", "images/IMG_2.jpg", "images/IMG_3.jpg")
    writer(folder, {"IMG_1.jpg": POSE}, {**ABOUT, **changes})
    return media.scan(folder, keep_poses=True)


@pytest.mark.parametrize("writer", WRITERS)
def test_each_format_gives_the_pose_and_the_lens_of_its_photo(writer: Write, tmp_path: Path) -> None:
    found = scan(tmp_path, writer)
    (pose,) = read_poses(found.poses)
    expected = POSE + np.array([0, 0, 0, 1]) * MAP[:, None] if writer is odm else POSE
    np.testing.assert_allclose(pose.matrix, expected, atol=1e-9)
    params = pose.lens.params(WIDTH, HEIGHT)
    np.testing.assert_allclose(params, [FOCAL, FOCAL, *CENTRE, 0.1, 0.2, 0.03, 0.04], rtol=1e-9)
    base = PurePosixPath(next(iter(found.poses))).parent
    assert list(belonging_to([pose], found.photos, base)) == ["images/IMG_1.jpg"]
    assert set(found.poses) <= set(found.files), "the capture keeps them"
    unkept = media.scan(tmp_path)
    assert f"the poses in {next(iter(found.poses))} (the photos are registered again" in unkept.line()


def test_a_lens_by_the_longer_side_fits_photos_held_upright(tmp_path: Path) -> None:
    (pose,) = read_poses(scan(tmp_path, sidecars, w=HEIGHT, h=WIDTH, centre=(250.0, 300.0)).poses)
    np.testing.assert_allclose(pose.lens.params(HEIGHT, WIDTH)[:4], [FOCAL, FOCAL, 250, 300])


def test_tables_and_sidecars_of_other_programs_hold_no_poses(tmp_path: Path) -> None:
    write(tmp_path, "IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg")
    (tmp_path / "list.csv").write_text("name,price\n")
    (tmp_path / "IMG_1.xmp").write_text('<x:xmpmeta xmlns:x="adobe:ns:meta/"/>')
    (tmp_path / "IMG_2.xmp").symlink_to("/etc/hostname")
    assert "poses" not in media.scan(tmp_path).line()
    with pytest.raises(InvalidInput, match="has no poses to keep"):
        media.scan(tmp_path, keep_poses=True)


def test_maps_of_opendronemap_are_no_photos(tmp_path: Path) -> None:
    maps = ("odm_orthophoto/odm_orthophoto.png", "odm_texturing_25d/odm_textured_model_geo.png", "odm_report/map.png")
    write(tmp_path, "images/IMG_1.jpg", "images/IMG_2.jpg", "images/IMG_3.jpg", *maps)
    found = media.scan(tmp_path)
    assert len(found.photos) == 3 and found.left_out == dict.fromkeys(maps, "map or texture")


@pytest.mark.parametrize(
    ("writer", "changes", "reason"),
    [
        (opensfm, {"shot": {"rotation": [0, 1]}}, "three finite numbers"),
        (opensfm, {"shot": {"camera": "another"}}, "KeyError"),
        (opensfm, {"lens": {"projection_type": "spherical"}}, "spherical cameras are not supported"),
        (opensfm, {"lens": {"focal_x": 1e9}}, "that no lens has"),
        (odm, {"shot": {"translation": [0, 0, float("nan")]}}, "three finite numbers"),
        (odm, {"lens": {"width": 0}}, "ZeroDivisionError"),
        (table, {"row": "{},1,2"}, ""),
        (table, {"row": "IMG_1.jpg,here"}, "NoneType"),
        (table, {"focal": 0}, "that no lens has"),
        (sidecars, {"turn": "1 0 0 0 1 0 0 0 -1"}, "mirrored"),
        (sidecars, {"turn": "1 0 0"}, "reshape"),
        (sidecars, {"more": "<!DOCTYPE a>"}, "document type"),
        (sidecars, {"more": "<a>"}, "it is no XMP file"),
    ],
)
def test_what_no_program_wrote_is_refused(writer: Write, changes: Any, reason: str, tmp_path: Path) -> None:
    found = scan(tmp_path, writer, **changes)
    if not reason:  # superfluous cells are harmless
        assert len(read_poses(found.poses)) == 1
        return
    with pytest.raises(InvalidInput, match=f"cannot be kept: .*({reason}).* Repair it"):
        read_poses(found.poses)


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_a_dataset_keeps_the_poses_of_each_program(writer: Write, street: Path, tmp_path: Path) -> None:
    shutil.copytree(street / "photos", tmp_path / "in" / "images")
    truth = json.loads((street / "truth.json").read_text())
    poses = {
        Path(frame["file_path"]).name: np.array(frame["transform_matrix"], float)[:3] * np.array([1.0, -1, -1, 1])
        for frame in truth["frames"]
    }
    about = {"w": 480, "h": 270, "focal": truth["fl_x"], "centre": (240.0, 135.0), "distortion": (0.0, 0.0, 0.0, 0.0)}
    writer(tmp_path / "in", poses, about)
    prepare(tmp_path / "in", tmp_path / "dataset", PrepareOptions(max_features=1000, poses="keep"))
    content = read(tmp_path / "dataset" / "dataset.json")
    assert content["mapper"] == "given poses" and content["poses"]["moved"][1] < 0.01
    names = {Path(image["file"]).name: image["source"] for image in content["images"]}
    found = compare_poses(street / "truth.json", tmp_path / "dataset" / "transforms.json", names)
    assert len(found.names) == 14 and found.positions.max() < 0.01 and found.rotations.max() < 0.5
