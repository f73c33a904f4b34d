"""Read the camera poses of a dataset that another program made: nerfstudio's, COLMAP's, a scanner's or a survey's.

The files come from strangers. Nothing is opened that they name, and no size that they state is believed.

Formats: https://docs.nerf.studio/quickstart/data_conventions.html and https://colmap.github.io/format.html
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy.spatial.transform import Rotation

from jobs.errors import InvalidInput
from jobs.geometry import Floats
from jobs.sfm import scanners, surveys
from jobs.sfm.pose import FAR, Lens, Pose, checked, rigid
from jobs.text import printable

__all__ = ["metres_per_unit", "read_poses"]

_MOST_BYTES = 1_000_000_000  # of a file that is read as text
_MOST_POSES = 100_000
_NAME_BYTES = 4096
_IN_METRES = scanners.read_polycam, scanners.read_record3d  # poses by ARKit
_DAMAGED = OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error, RecursionError
# COLMAP's models by number: name, number of parameters, and where fx, fy, cx, cy, k1, k2, p1, p2 (k1 to k4 of a
# fisheye) are among them. Further terms of the distortion are left to the refinement.
_MODELS: tuple[tuple[str, int, tuple[int, ...]], ...] = (
    ("SIMPLE_PINHOLE", 3, (0, 0, 1, 2)),
    ("PINHOLE", 4, (0, 1, 2, 3)),
    ("SIMPLE_RADIAL", 4, (0, 0, 1, 2, 3)),
    ("RADIAL", 5, (0, 0, 1, 2, 3, 4)),
    ("OPENCV", 8, (0, 1, 2, 3, 4, 5, 6, 7)),
    ("OPENCV_FISHEYE", 8, (0, 1, 2, 3, 4, 5, 6, 7)),
    ("FULL_OPENCV", 12, (0, 1, 2, 3, 4, 5, 6, 7)),
    ("FOV", 5, ()),
    ("SIMPLE_RADIAL_FISHEYE", 4, (0, 0, 1, 2, 3)),
    ("RADIAL_FISHEYE", 5, (0, 0, 1, 2, 3, 4)),
    ("THIN_PRISM_FISHEYE", 12, (0, 1, 2, 3, 4, 5)),
)


def read_poses(files: Mapping[str, Path]) -> list[Pose]:
    """Read the poses of a dataset.

    Args:
        files: transforms.json; `cameras` and `images` of a COLMAP model, both .bin or both .txt; or what
            `jobs.sfm.scanners` or `jobs.sfm.surveys` reads; by relative name.

    Raises:
        InvalidInput: they cannot be read or hold something that no camera can have. The text names the file.
    """
    name, file = next(iter(files.items()))
    try:
        if file.suffix != ".bin" and sum(each.stat().st_size for each in files.values()) > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES / 1e9:g} GB")
        poses = list(_reader(file)([*files.values()]))
        if not poses:
            raise ValueError("it holds no poses")
        if len({pose.lens.fisheye for pose in poses}) > 1:
            raise ValueError("some cameras are fisheyes and some are not, and a dataset is of one kind")
        if len(poses) > _MOST_POSES:
            raise ValueError(f"it holds more than {_MOST_POSES} poses")
    except _DAMAGED as error:
        reason = str(error) if type(error) in (ValueError, OSError) else f"{type(error).__name__} {error}"
        raise InvalidInput(
            f"the poses in {printable(name)} cannot be kept: {printable(reason)}. Repair it, or leave out "
            "prepare.poses keep: then structure from motion finds the poses."
        ) from error
    return poses


def metres_per_unit(
    files: Mapping[str, Path], given: Mapping[str, Pose], places: Mapping[str, Sequence[float]]
) -> float | None:
    """Return the metres per unit of a dataset whose poses came in metres; None if they did not, as far as is known.

    Args:
        files: see `read_poses`.
        given: the poses by photo.
        places: where the dataset has the cameras (3,), by photo.
    """
    if _reader(next(iter(files.values()))) not in _IN_METRES:
        return None
    both = sorted(given.keys() & places.keys())
    spreads = [
        float(np.sqrt(np.var(centres, axis=0).sum()))
        for centres in ([given[photo].matrix[:, 3] for photo in both], [places[photo] for photo in both])
    ]
    return spreads[0] / spreads[1] if min(spreads) > 0 else None


def _reader(file: Path) -> Callable[[Sequence[Path]], Iterator[Pose]]:
    """Return what reads the poses of a dataset, by its first file."""
    by_suffix = {
        ".xml": scanners.read_metashape,
        ".csv": surveys.read_realitycapture,
        ".xmp": surveys.read_sidecars,
        ".geojson": surveys.read_shots,
    }
    if reader := by_suffix.get(file.suffix.lower()):
        return reader
    if file.name == "reconstruction.json":
        return surveys.read_opensfm
    if file.parent.name == "cameras":
        return scanners.read_polycam
    if file.name == "metadata.json":
        return scanners.read_record3d
    return _read_transforms if file.suffix == ".json" else _read_colmap


# nerfstudio


def _read_transforms(files: Sequence[Path]) -> Iterator[Pose]:
    content = json.loads(files[0].read_text())
    for frame in content["frames"]:
        about = {**content, **frame}
        matrix = rigid(np.array(about["transform_matrix"], float))
        matrix[:, 1:3] *= -1  # OpenGL's axes to OpenCV's: y down, z forward
        yield Pose(str(about["file_path"]), matrix, _lens_of(about))


def _lens_of(about: Mapping[str, Any]) -> Lens:
    model = str(about.get("camera_model", "OPENCV"))
    if model == "EQUIRECTANGULAR":
        raise ValueError("poses of equirectangular photos are not supported")
    width, height = (float(about[key]) if about.get(key) else None for key in ("w", "h"))
    if width is None or height is None or "fl_x" not in about:  # Blender's form
        return checked(Lens((0.5 / math.tan(float(about["camera_angle_x"]) / 2), None)))
    across = float(about["fl_x"])
    fisheye = "FISHEYE" in model
    names = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2")
    k1, k2, third, fourth = (float(about.get(name, 0.0)) for name in names)
    return checked(
        Lens(
            (across / width, float(about.get("fl_y", across)) / height),
            (float(about.get("cx", width / 2)) / width, float(about.get("cy", height / 2)) / height),
            (k1, k2, third, fourth),
            fisheye,
            width / height,
        )
    )


# COLMAP


def _read_colmap(files: Sequence[Path]) -> Iterator[Pose]:
    cameras_file, images_file = sorted(files)  # by their names
    if cameras_file.suffix == ".txt":
        lenses = dict(_text_cameras(cameras_file))
        images = _text_images(images_file)
    else:
        lenses = dict(_binary_cameras(cameras_file))
        images = _binary_images(images_file)
    for name, camera, (w, x, y, z, *translation) in images:
        yield Pose(name, _inverse(np.array([w, x, y, z]), np.array(translation)), lenses[camera])


def _text_cameras(file: Path) -> Iterator[tuple[int, Lens]]:
    names = {name: number for number, (name, *_) in enumerate(_MODELS)}
    for line in file.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *params = line.split()
            yield int(number), _colmap_lens(names[model], float(width), float(height), [float(p) for p in params])


def _text_images(file: Path) -> Iterator[tuple[str, int, list[float]]]:
    with file.open() as stream:
        for line in stream:
            if line.strip() and not line.startswith("#"):
                parts = line.rstrip("\n").split(" ", 9)
                yield parts[9], int(parts[8]), [float(part) for part in parts[1:8]]
                next(stream, None)  # where it shows points; this line can be empty


def _binary_cameras(file: Path) -> Iterator[tuple[int, Lens]]:
    with file.open("rb") as stream:
        (number,) = _unpack(stream, "<Q")
        for _ in range(min(number, _MOST_POSES)):
            camera, model, width, height = _unpack(stream, "<IiQQ")
            if not 0 <= model < len(_MODELS):
                raise ValueError(f"camera model {model} is unknown")
            yield camera, _colmap_lens(model, width, height, list(_unpack(stream, f"<{_MODELS[model][1]}d")))


def _binary_images(file: Path) -> Iterator[tuple[str, int, list[float]]]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        (number,) = _unpack(stream, "<Q")
        for _ in range(min(number, _MOST_POSES + 1)):
            _, *pose, camera = _unpack(stream, "<I7dI")
            at = stream.tell()
            name, end, _ = stream.read(_NAME_BYTES).partition(b"\0")
            if not end:
                raise ValueError("the name of an image does not end")
            stream.seek(at + len(name) + 1)
            (points,) = _unpack(stream, "<Q")
            if points * 24 > size:  # x, y and the number of the point
                raise ValueError("an image has more points than fit into the file")
            stream.seek(24 * points, 1)
            yield name.decode(errors="replace"), camera, pose


def _unpack(stream: IO[bytes], form: str) -> tuple[Any, ...]:
    return struct.unpack(form, stream.read(struct.calcsize(form)))


def _colmap_lens(model: int, width: float, height: float, params: list[float]) -> Lens:
    name, number, places = _MODELS[model]
    if not places or len(params) != number:
        raise ValueError(f"a camera {name} with {len(params)} parameters is not supported")
    found = [params[place] for place in places] + [0.0] * (8 - len(places))
    k1, k2, third, fourth = found[4:]
    centre = found[2] / width, found[3] / height
    focal = found[0] / width, found[1] / height
    return checked(Lens(focal, centre, (k1, k2, third, fourth), "FISHEYE" in name, width / height))


def _inverse(quaternion: Floats, translation: Floats) -> Floats:
    """Return the camera-to-world pose (3, 4) of COLMAP's quaternion (w, x, y, z) and translation from the world."""
    if not np.isfinite([*quaternion, *translation]).all() or np.abs([*quaternion, *translation]).max() > FAR:
        raise ValueError("it holds a pose that is not finite")
    w, x, y, z = quaternion
    rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
    return np.column_stack([rotation.T, -rotation.T @ translation])
