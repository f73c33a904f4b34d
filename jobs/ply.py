"""PLY files of points: the binary ones that this project writes, and those that nerfstudio and COLMAP write.

The scheduler reads them, too, so nothing but numpy is needed here. Meshes are written with trimesh.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InvalidInput

__all__ = ["NO_POINTS", "parse_points", "read_columns", "write_vertices"]

_TYPES = {
    **dict.fromkeys(("float", "float32"), "<f4"),
    **dict.fromkeys(("double", "float64"), "<f8"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("ushort", "uint16"), "<u2"),
}
_DAMAGED = (KeyError, StopIteration, TypeError, ValueError, IndexError)
NO_POINTS = np.empty((0, 3)), np.empty((0, 3))
"""What `parse_points` returns if there are no points."""
_NAMES = {np.dtype("<f4"): "float", np.dtype("u1"): "uchar", np.dtype("<u2"): "ushort"}


def parse_points(content: bytes, source: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the vertices (N, 3) of a text or little-endian PLY file, and their colours (N, 3), 0 to 255.

    Vertices without a colour are grey.

    Args:
        content: of the file.
        source: the name of the file in errors.

    Raises:
        InvalidInput: the file is damaged, or is not such a file.
    """
    try:
        return _parse(io.BytesIO(content))
    except _DAMAGED as error:
        raise InvalidInput(
            f"{source} is not a PLY file of points that can be read ({type(error).__name__}: {error}). "
            "Prepare the dataset again."
        ) from error


def read_columns(file: Path) -> dict[str, NDArray[np.float64]]:
    """Return the properties (N,) of the vertices of a PLY file, by their names.

    Raises:
        InvalidInput: the file does not exist, is damaged, or is not such a file.
    """
    try:
        with file.open("rb") as stream:
            return _columns(stream)
    except (OSError, *_DAMAGED) as error:
        raise InvalidInput(f"{file} is not a PLY file of points that can be read: {error}.") from error


def _parse(stream: BinaryIO) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = _columns(stream)
    grey = np.full(len(columns["x"]), 128.0)
    colours = [columns.get(name, grey) for name in ("red", "green", "blue")]
    return np.stack([columns[axis] for axis in "xyz"], axis=1), np.stack(colours, axis=1)


def _columns(stream: BinaryIO) -> dict[str, NDArray[np.float64]]:
    header = []
    while (words := stream.readline(200).decode("ascii", "replace").split()) not in ([], ["end_header"]):
        header.append(words)
    count = next(int(words[2]) for words in header if words[:2] == ["element", "vertex"])
    layout = [(words[2], _TYPES[words[1]]) for words in header if words[:1] == ["property"] and len(words) == 3]
    if ["format", "ascii", "1.0"] in header:
        table = np.loadtxt(list(islice(stream, count)), ndmin=2, usecols=range(len(layout)))
        columns = {name: table[:, index] for index, (name, _) in enumerate(layout)}
    else:
        # Reads all that is there: a false count must not decide how much memory is taken.
        vertices = np.frombuffer(stream.read(), dtype=layout, count=count)
        columns = {name: vertices[name].astype(np.float64) for name, _ in layout}
    if any(len(column) != count for column in columns.values()):
        raise ValueError(f"its header says {count} points")
    return columns


def write_vertices(file: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write vertices as a binary PLY file.

    Args:
        file: to write.
        columns: the properties (N,), float32, uint8 or uint16, in the order of the file.
    """
    layout = [(name, _NAMES[column.dtype]) for name, column in columns.items()]
    vertices = np.empty(len(next(iter(columns.values()))), dtype=[(name, _TYPES[kind]) for name, kind in layout])
    for name, column in columns.items():
        vertices[name] = column
    properties = "".join(f"property {kind} {name}\n" for name, kind in layout)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}end_header\n"
    with file.open("wb") as stream:
        stream.write(header.encode())
        vertices.tofile(stream)
