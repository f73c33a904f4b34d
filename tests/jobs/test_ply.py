from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs import ply
from jobs.errors import InvalidInput


def test_written_points_are_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, colours = rng.normal(size=(7, 3)).astype(np.float32), rng.integers(0, 256, (7, 3)).astype(np.uint8)
    columns: dict[str, NDArray[Any]] = {name: points[:, axis] for axis, name in enumerate("xyz")}
    columns |= {name: colours[:, channel] for channel, name in enumerate(("red", "green", "blue"))}
    ply.write_vertices(tmp_path / "points.ply", columns)
    found, shades = ply.parse_points((tmp_path / "points.ply").read_bytes(), "points.ply")
    assert np.array_equal(found, points) and np.array_equal(shades, colours)


def test_the_bytes_of_a_file(tmp_path: Path) -> None:
    x, red = np.array([1.5, -2], np.float32), np.array([7, 255], np.uint8)
    ply.write_vertices(tmp_path / "points.ply", {"x": x, "red": red})
    header = (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\nproperty uchar red\nend_header\n"
    )
    assert (tmp_path / "points.ply").read_bytes() == header + b"\0\0\xc0\x3f\x07" + b"\0\0\0\xc0\xff"


def test_an_empty_file_has_no_points(tmp_path: Path) -> None:
    ply.write_vertices(tmp_path / "points.ply", {axis: np.empty(0, np.float32) for axis in "xyz"})
    found, shades = ply.parse_points((tmp_path / "points.ply").read_bytes(), "points.ply")
    assert found.shape == shades.shape == (0, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a photo",
        b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1\n2\n",
        b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n",
        *(
            f"ply\nformat {kind} 1.0\nelement vertex 1000000000000\nproperty float x\nproperty float y\n"
            "property float z\nend_header\n1 2 3\n".encode()
            for kind in ("ascii", "binary_little_endian")
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="street/points.ply"):
        ply.parse_points(content, "street/points.ply")
