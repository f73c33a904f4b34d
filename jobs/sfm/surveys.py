"""Read the camera poses that OpenDroneMap (OpenSfM) and RealityCapture (RealityScan) write.

Formats: https://opensfm.org/docs/dataset.html, ODM's opendm/shots.py, and nerfstudio's odm_utils.py and
realitycapture_utils.py. Poses stay in the frame of the files. Nothing is opened that the files name.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from jobs.geometry import Floats
from jobs.sfm.pose import Lens, Pose, checked, rigid
from jobs.sfm.scanners import parsed

__all__ = ["read_opensfm", "read_realitycapture", "read_shots", "read_sidecars"]

_XCR = "{http://www.capturingreality.com/ns/xcr/1.1#}"
_FILM = 36.0  # mm: focal lengths in terms of 35 mm film are those of a picture whose longer side is this
_PHOTOGRAMMETRY = np.array([1, -1, -1])  # from axes with y up and z backward
_DISTORTIONS = {  # the coefficients of OpenSfM's cameras in the order of OpenCV's
    **dict.fromkeys(("perspective", "brown", "radial", "simple_radial"), ("k1", "k2", "p1", "p2")),
    **dict.fromkeys(("fisheye", "fisheye_opencv", "fisheye62", "fisheye624"), ("k1", "k2", "k3", "k4")),
}


def read_opensfm(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of OpenSfM's `reconstruction.json`: those of its largest reconstruction.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it is damaged.
    """
    content = max(json.loads(files[0].read_text()), key=lambda part: len(part["shots"]))
    lenses = {name: _opensfm_lens(about) for name, about in content["cameras"].items()}
    for name, shot in content["shots"].items():
        turn = _turn(shot["rotation"])
        centre = -turn.T @ _vector(shot["translation"])
        yield Pose(str(name), rigid(np.column_stack([turn.T, centre])), lenses[shot["camera"]])


def read_shots(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of ODM's `shots.geojson`, with the lenses of its `cameras.json` if that is the second file.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: they are damaged.
    """
    known = json.loads(files[1].read_text()) if len(files) > 1 else {}
    lenses = {name: _opensfm_lens(about) for name, about in known.items()}
    for feature in json.loads(files[0].read_text())["features"]:
        shot = feature["properties"]
        if (camera := shot.get("camera")) in lenses:
            lens = lenses[camera]
        else:
            lens = next(iter(lenses.values())) if len(lenses) == 1 else _opensfm_lens(shot)
        matrix = np.column_stack([_turn(shot["rotation"]).T, _vector(shot["translation"])])
        yield Pose(str(shot["filename"]), rigid(matrix), lens)


def read_realitycapture(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of RealityCapture's "Internal/External camera parameters" (.csv).

    Heading, pitch and roll are those of an aircraft whose camera looks down, with the picture's top towards its nose.

    Raises:
        ValueError, TypeError, LookupError: it is damaged.
    """
    with files[0].open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            heading, pitch, roll = (float(row[name]) for name in ("heading", "pitch", "roll"))
            turn = Rotation.from_euler("ZXY", [-heading, pitch, roll], degrees=True).as_matrix() * _PHOTOGRAMMETRY
            centre = [float(row[name]) for name in ("x", "y", "alt")]
            distortion = [float(row[name]) for name in ("k1", "k2", "t1", "t2")]
            focal, *middle = (float(row[name]) for name in ("f", "px", "py"))
            yield Pose(row["#name"], rigid(np.column_stack([turn, centre])), _film_lens(focal, middle, distortion))


def read_sidecars(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of RealityCapture's XMP files: `NAME.xmp` beside the photo `NAME.jpg`.

    Raises:
        ValueError, TypeError, LookupError: one is damaged.
    """
    for file in files:
        about = _tags(parsed(file, "XMP file of RealityCapture"))
        turn = np.array(about["Rotation"].split(), float).reshape(3, 3)
        centre = _vector(about["Position"].split())
        brown = about.get("DistortionModel", "").startswith("brown")
        k1, k2, _, _, t1, t2 = (float(value) for value in about.get("DistortionCoeficients", "0 0 0 0 0 0").split())
        focal, *middle = (float(about[name]) for name in ("FocalLength35mm", "PrincipalPointU", "PrincipalPointV"))
        # The model "division" is another one. It is left to the refinement.
        lens = _film_lens(focal, middle, [k1, k2, t1, t2] if brown else [0.0] * 4)
        yield Pose(f"{file.parent.name}/{file.stem}", rigid(np.column_stack([turn.T, centre])), lens)


def _tags(root: ElementTree.Element) -> dict[str, str]:
    """Return RealityCapture's tags of an XMP file, which are elements or attributes."""
    found: dict[str, str] = {}
    for element in root.iter():
        named = {**element.attrib, element.tag: element.text or ""}
        found |= {name.removeprefix(_XCR): text for name, text in named.items() if name.startswith(_XCR)}
    return found


def _film_lens(focal: float, middle: Sequence[float], distortion: Sequence[float]) -> Lens:
    """Return a lens of RealityCapture. Its principal point is relative to the middle, in terms of the longer side."""
    x, y = middle
    k1, k2, t1, t2 = distortion  # t1 is OpenCV's p2
    return checked(Lens((focal / _FILM, None), (0.5 + x, 0.5 + y), (k1, k2, t2, t1), by_longer_side=True))


def _opensfm_lens(about: Mapping[str, Any]) -> Lens:
    """Return a lens of OpenSfM; its values are in terms of the longer side."""
    kind = str(about.get("projection_type", "perspective"))
    if kind not in _DISTORTIONS:
        raise ValueError(f"{kind} cameras are not supported")
    w, h = float(about["width"]), float(about["height"])
    side = max(w, h)
    across, down = (float(about[axis] if axis in about else about["focal"]) for axis in ("focal_x", "focal_y"))
    x, y = (float(about.get(axis, 0)) for axis in ("c_x", "c_y"))
    k1, k2, third, fourth = (float(about.get(name, 0)) for name in _DISTORTIONS[kind])
    return checked(
        Lens(
            (across * side / w, down * side / h),
            (0.5 + x * side / w, 0.5 + y * side / h),
            (k1, k2, third, fourth),
            kind.startswith("fisheye"),
            w / h,
        )
    )


def _turn(vector: Any) -> Floats:
    """Return the rotation (3, 3) of an axis whose length is the angle."""
    turn: Floats = Rotation.from_rotvec(_vector(vector)).as_matrix()
    return turn


def _vector(values: Any) -> Floats:
    vector = np.array(values, float)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise ValueError("it holds a rotation or position that is not three finite numbers")
    return vector
