"""Gaussians as glTF, read by the words of the specification of KHR_gaussian_splatting."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from jobs.splats import gltf
from jobs.splats.gaussians import Gaussians

PREFIX = "KHR_gaussian_splatting:"


def gaussians(degree: int, number: int = 7) -> Gaussians:
    rng = np.random.default_rng(0)
    rotations = rng.normal(size=(number, 4))
    fields = (
        rng.normal(size=(number, 3)),
        rng.normal(-3, 1, (number, 3)),
        rotations / np.linalg.norm(rotations, axis=1, keepdims=True),
        rng.normal(size=number),
        rng.normal(size=(number, (degree + 1) ** 2, 3)),
    )
    return Gaussians(*(each.astype(np.float32) for each in fields))


def unpacked(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the binary part of a GLB file."""
    magic, version, length, json_length, json_kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, json_kind) == (b"glTF", 2, len(content), b"JSON") and json_length % 4 == 0
    about = json.loads(content[20 : 20 + json_length])
    binary_length, binary_kind = struct.unpack_from("<I4s", content, 20 + json_length)
    binary = content[28 + json_length :]
    assert binary_kind == b"BIN\0" and len(binary) == binary_length and binary_length % 4 == 0
    assert 0 <= binary_length - about["buffers"][0]["byteLength"] < 4
    return about, binary


def read(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Return the JSON of a GLB file, and the values of each attribute of its one primitive."""
    about, binary = unpacked(content)
    [mesh] = about["meshes"]
    [primitive] = mesh["primitives"]
    values = {}
    for name, number in primitive["attributes"].items():
        accessor = about["accessors"][number]
        view = about["bufferViews"][accessor["bufferView"]]
        assert accessor["componentType"] == 5126 and view["byteOffset"] % 4 == 0
        columns = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert view["byteLength"] == 4 * columns * accessor["count"]
        values[name] = np.frombuffer(binary, "<f4", columns * accessor["count"], view["byteOffset"]).reshape(
            -1, columns
        )
    return about, values


@pytest.mark.parametrize("degree", [0, 3])
def test_attributes_are_those_of_the_specification(degree: int) -> None:
    given = gaussians(degree)
    about, values = read(gltf.pack(given))
    primitive = about["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    assert primitive["extensions"] == {"KHR_gaussian_splatting": extension}
    assert about["extensionsUsed"] == ["KHR_gaussian_splatting"] and about["asset"]["version"] == "2.0"
    harmonics = [f"SH_DEGREE_{each}_COEF_{order}" for each in range(degree + 1) for order in range(2 * each + 1)]
    own = {PREFIX + name for name in ("ROTATION", "SCALE", "OPACITY", *harmonics)}
    assert set(values) == {"POSITION", "COLOR_0"} | own
    position = about["accessors"][primitive["attributes"]["POSITION"]]
    assert position["min"] == values["POSITION"].min(axis=0).tolist()
    assert position["max"] == values["POSITION"].max(axis=0).tolist()
    assert np.array_equal(values["POSITION"], given.means)
    for index, name in enumerate(harmonics):
        assert np.array_equal(values[PREFIX + name], given.sh[:, index])


def test_spread_opacity_and_colours_of_plain_points() -> None:
    given = gaussians(1)
    _, values = read(gltf.pack(given))
    turns = Rotation.from_quat(values[f"{PREFIX}ROTATION"]).as_matrix()  # w last, as in glTF
    spread = turns * values[f"{PREFIX}SCALE"][:, None]
    expected = Rotation.from_quat(given.rotations[:, [1, 2, 3, 0]]).as_matrix() * np.exp(given.scales)[:, None]
    assert np.allclose(spread @ spread.transpose(0, 2, 1), expected @ expected.transpose(0, 2, 1), rtol=1e-4, atol=1e-7)
    opacity = values[f"{PREFIX}OPACITY"][:, 0]
    assert np.allclose(np.log(opacity / (1 - opacity)), given.opacities, atol=1e-4)
    assert np.array_equal(values["COLOR_0"][:, 3], opacity)
    shown = (0.5 + 0.282095 * given.sh[:, 0]).clip(0, 1)
    encoded = np.where(
        values["COLOR_0"][:, :3] <= 0.0031308,
        12.92 * values["COLOR_0"][:, :3],
        1.055 * values["COLOR_0"][:, :3] ** (1 / 2.4) - 0.055,
    )
    assert np.allclose(encoded, shown, atol=1e-4), "COLOR_0 is linear"
