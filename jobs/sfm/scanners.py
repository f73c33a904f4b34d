"""Read the camera poses that phone scanners and Metashape export.

The formats are those that nerfstudio reads (polycam_utils.py, record3d_utils.py and metashape_utils.py in its
process_data/). Poses stay in the frame of the files. Nothing is opened that the files name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from jobs.geometry import Floats
from jobs.sfm.pose import FAR, Lens, Pose, checked, rigid

__all__ = ["parsed", "read_metashape", "read_polycam", "read_record3d"]

_OPENCV = np.array([1, -1, -1, 1])  # from OpenGL's axes, y up and z backward


def read_polycam(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of Polycam's raw data: `cameras/NAME.json` for each `images/NAME.jpg`.

    Raises:
        ValueError, TypeError, LookupError: they are damaged.
    """
    for file in files:
        about = json.loads(file.read_text())
        matrix = [[float(about[f"t_{row}{column}"]) for column in range(4)] for row in range(3)]
        yield Pose(f"images/{file.stem}", rigid(np.array(matrix) * _OPENCV), _lens(about, "fx", "fy"))


def read_record3d(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of Record3D's `metadata.json`: the first is that of `rgb/0.jpg`.

    Raises:
        ValueError, TypeError, LookupError: it is damaged.
    """
    about = json.loads(files[0].read_text())
    matrix = np.array(about["K"], float).reshape(3, 3).T
    lens = _lens({**about, "f": matrix[0, 0], "cx": about["w"] / 2, "cy": about["h"] / 2}, "f", "f", "w", "h")
    for number, values in enumerate(about["poses"]):
        x, y, z, w, *centre = map(float, values)
        rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
        yield Pose(f"rgb/{number}", rigid(np.column_stack([rotation, centre]) * _OPENCV), lens)


def read_metashape(files: Sequence[Path]) -> Iterator[Pose]:
    """Yield the poses of the cameras that Metashape exports as XML.

    Raises:
        ValueError, TypeError, LookupError: it is damaged.
    """
    kind = "export of Metashape's cameras"
    chunk = next(parsed(files[0], kind).iter("chunk"), None)
    if chunk is None:
        raise ValueError(f"it is no {kind}")
    lenses = {sensor.get("id"): _metashape_lens(sensor) for sensor in chunk.iter("sensor") if _calibrated(sensor)}
    parts = {part.get("id"): _component_matrix(part.find("transform")) for part in chunk.iter("component")}
    for camera in chunk.iter("camera"):
        lens, transform = lenses.get(camera.get("sensor_id")), camera.findtext("transform")
        if lens and transform:
            matrix = _numbers(transform, (4, 4))
            matrix = parts.get(camera.get("component_id"), np.eye(4)) @ matrix
            yield Pose(str(camera.get("label")), rigid(matrix[:3]), lens)


def parsed(file: Path, kind: str) -> ElementTree.Element:
    """Return the root of an XML file from a stranger.

    Raises:
        ValueError: it is not XML, or it contains more than elements.
    """
    content = file.read_bytes()
    if b"\0" in content:  # UTF-16, in which the next line finds nothing
        raise ValueError("it is not in UTF-8")
    if b"<!" in content.replace(b"<!--", b""):  # entities can fill the memory
        raise ValueError("it contains a document type or CDATA, which belongs in no such file")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"it is no {kind}") from error


def _lens(about: dict[str, Any], fx: str, fy: str, width: str = "width", height: str = "height") -> Lens:
    """Return a lens without distortion from its values in px, by their keys."""
    w, h = float(about[width]), float(about[height])
    focal = float(about[fx]) / w, float(about[fy]) / h
    return checked(Lens(focal, (float(about["cx"]) / w, float(about["cy"]) / h), shape=w / h))


def _calibrated(sensor: ElementTree.Element) -> bool:
    return sensor.find("calibration/f") is not None and sensor.find("resolution") is not None


def _metashape_lens(sensor: ElementTree.Element) -> Lens:
    kind, resolution = sensor.get("type"), sensor.find("resolution")
    if kind not in ("frame", "fisheye"):
        raise ValueError(f"{kind} cameras are not supported")
    assert resolution is not None
    w, h = (float(resolution.attrib[side]) for side in ("width", "height"))
    f, cx, cy, k1, k2, k3, k4, p1, p2 = (
        float(sensor.findtext(f"calibration/{name}") or 0)
        for name in ("f", "cx", "cy", "k1", "k2", "k3", "k4", "p1", "p2")
    )
    # Metashape's p1 is OpenCV's p2. k3 of a perspective lens is left to the refinement.
    distortion = (k1, k2, k3, k4) if kind == "fisheye" else (k1, k2, p2, p1)
    return checked(Lens((f / w, f / h), (0.5 + cx / w, 0.5 + cy / h), distortion, kind == "fisheye", w / h))


def _component_matrix(transform: ElementTree.Element | None) -> Floats:
    """Return the matrix (4, 4) of a component, in units of its cameras' positions."""
    matrix = np.eye(4)
    if transform is not None:
        scale = float(transform.findtext("scale") or 1)
        if not 1 / FAR < scale < FAR:
            raise ValueError("it holds a component whose scale cannot be")
        matrix[:3, :3] = _numbers(transform.findtext("rotation") or "1 0 0 0 1 0 0 0 1", (3, 3))
        matrix[:3, 3] = _numbers(transform.findtext("translation") or "0 0 0", (3,)) / scale
    return matrix


def _numbers(text: str, shape: tuple[int, ...]) -> Floats:
    return np.array([float(number) for number in text.split()]).reshape(shape)
