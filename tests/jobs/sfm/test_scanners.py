from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs.errors import InvalidInput
from jobs.geometry import Floats
from jobs.sfm.pose import Lens, belonging_to
from jobs.sfm.posefile import read_poses

TURN = Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()
POSE = np.column_stack([TURN, [4.0, 5.0, 6.0]])
"""With OpenCV's axes."""
OPENGL: Floats = POSE * np.array([1.0, -1, -1, 1])
LENS = Lens((0.5, 2 / 3), (0.5, 0.5), shape=4 / 3)


def polycam(folder: Path, **changes: Any) -> dict[str, Path]:
    file = folder / "keyframes" / "cameras" / "1234567.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {f"t_{row}{column}": OPENGL[row, column] for row in range(3) for column in range(4)}
    about = {"fx": 320.0, "fy": 320.0, "cx": 320.0, "cy": 240.0, "width": 640, "height": 480, **values, **changes}
    file.write_text(json.dumps(about))
    return {"keyframes/cameras/1234567.json": file}


def record3d(folder: Path, **changes: Any) -> dict[str, Path]:
    file = folder / "metadata.json"
    pose = [*Rotation.from_matrix(OPENGL[:, :3]).as_quat(), *POSE[:, 3]]
    about = {"K": [320.0, 0, 0, 0, 320, 0, 300, 200, 1], "w": 640, "h": 480, "poses": [pose], **changes}
    file.write_text(json.dumps(about))
    return {"metadata.json": file}


def metashape(folder: Path, text: str = "", **changes: Any) -> dict[str, Path]:
    file = folder / "cameras.xml"
    about = {"kind": "frame", "f": 320, "cx": 0, "k1": 0, "more": "", "scale": 3, **changes}
    part = np.array(Rotation.from_euler("z", 90, degrees=True).as_matrix())
    own = np.eye(4)  # of the camera in its component, which is turned, moved and scaled
    own[:3] = np.column_stack([part.T @ TURN, part.T @ (POSE[:, 3] - np.array([3, 6, 9]) / 3)])
    matrix, turn = (" ".join(f"{value:.12g}" for value in np.ravel(each)) for each in (own, part))
    file.write_text(
        text
        or f"""<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0">{about["more"]}<chunk label="Chunk 1" enabled="true">
  <sensors><sensor id="0" type="{about["kind"]}"><resolution width="640" height="480"/>
    <calibration type="frame" class="adjusted"><f>{about["f"]}</f><cx>{about["cx"]}</cx><k1>{about["k1"]}</k1>
    <k2>0.2</k2><k3>0.3</k3><p1>0.01</p1><p2>0.02</p2></calibration></sensor></sensors>
  <components><component id="0"><transform><rotation>{turn}</rotation><translation>3 6 9</translation>
    <scale>{about["scale"]}</scale></transform></component></components>
  <cameras><group id="0"><camera id="0" sensor_id="0" component_id="0" label="IMG_1"><transform>{matrix}</transform>
    </camera></group><camera id="1" sensor_id="0" component_id="0" label="not aligned"/></cameras>
</chunk></document>"""
    )
    return {"cameras.xml": file}


@pytest.mark.parametrize(
    ("write", "photo"),
    [(polycam, "keyframes/images/1234567.jpg"), (record3d, "rgb/0.png"), (metashape, "photos/IMG_1.JPG")],
)
def test_each_format_gives_the_pose_and_the_lens_of_its_photo(write: Any, photo: str, tmp_path: Path) -> None:
    files = write(tmp_path)
    (pose,) = read_poses(files)
    np.testing.assert_allclose(pose.matrix, POSE, atol=1e-9)
    expected = LENS if write is not metashape else Lens(LENS.focal, LENS.centre, (0, 0.2, 0.02, 0.01), False, 4 / 3)
    assert pose.lens == expected
    base = PurePosixPath(next(iter(files))).parent
    others = ["keyframes/images/1.jpg", "rgb/1.png", "rgb/10.png", "photos/IMG_10.JPG"]
    assert list(belonging_to([pose], [photo, *others], base)) == [photo]


def test_a_fisheye_of_metashape(tmp_path: Path) -> None:
    assert read_poses(metashape(tmp_path, kind="fisheye", k1=0.1))[0].lens.distortion == (0.1, 0.2, 0.3, 0)


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><document><chunk label="&b;"/></document>'


@pytest.mark.parametrize(
    ("write", "changes", "reason"),
    [
        (polycam, {"t_00": 5.0}, "scaled, skewed or mirrored"),
        (polycam, {"t_03": float("nan")}, "finite numbers"),
        (polycam, {"fx": -1}, "that no lens has"),
        (polycam, {"width": 0}, "ZeroDivisionError"),
        (polycam, {"cx": None}, "TypeError"),
        (record3d, {"poses": [[0, 0, 0, 0, 1, 2, 3]]}, "norm"),
        (record3d, {"poses": [[0, 0, 0, 1, 1, 2]]}, ""),
        (record3d, {"poses": []}, "it holds no poses"),
        (record3d, {"K": [1] * 8}, "reshape"),
        (record3d, {"w": float("inf")}, "that no lens has"),
        (metashape, {"f": "wide"}, "could not convert"),
        (metashape, {"f": "1e999"}, "that no lens has"),
        (metashape, {"kind": "spherical"}, "spherical cameras are not supported"),
        (metashape, {"scale": 0}, "whose scale cannot be"),
        (metashape, {"text": BOMB}, "document type"),
        (metashape, {"text": "<document/>"}, "no export of Metashape's cameras"),
        (metashape, {"text": "<document>"}, "no export of Metashape's cameras"),
        (metashape, {"text": "<document><chunk/></document>"}, "it holds no poses"),
    ],
)
def test_what_no_scanner_wrote_is_refused(write: Any, changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"cannot be kept: .*({reason}).* Repair it"):
        read_poses(write(tmp_path, **changes))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_document_type_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    files = metashape(tmp_path)
    files["cameras.xml"].write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{BOMB}'.encode(encoding))
    with pytest.raises(InvalidInput, match="not in UTF-8"):
        read_poses(files)
