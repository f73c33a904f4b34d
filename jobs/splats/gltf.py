"""Write Gaussians as binary glTF, with the extension KHR_gaussian_splatting.

Programs without the extension show the centres as coloured points. Written after the specification at
https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting (release candidate of July
2026). Its spherical harmonics have the order, signs and constants of Kerbl et al.'s program.

Compressed files have the further extension KHR_gaussian_splatting_compression_spz_2, which is a draft. They are a tenth
of the size, and the only ones that CesiumJS 1.145 shows. It takes the coordinates of the SPZ data for those of glTF, so
they are written like that. The draft says that SPZ's +X and +Z are glTF's −X and −Z.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from jobs.pictures.colour import linear
from jobs.splats import spz
from jobs.splats.gaussians import SH_0, Array, Gaussians

__all__ = ["COMPRESSED", "pack", "pack_compressed"]

_NAME = "KHR_gaussian_splatting"
_SPZ = f"{_NAME}_compression_spz_2"
COMPRESSED = [_NAME, _SPZ]
"""The extensions that a reader of compressed files must have."""

_FLOAT, _BYTE, _POINTS, _VERTICES = 5126, 5121, 0, 34962
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def pack(gaussians: Gaussians) -> bytes:
    """Return the content of a `.glb` file.

    Args:
        gaussians: with +Y up, at least one, and harmonics up to degree 3.
    """
    attributes = _attributes(gaussians)
    views, accessors, offset = [], [], 0
    for values in attributes.values():
        size = values.nbytes
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": size, "target": _VERTICES})
        kind = _TYPES[values.shape[1]]
        accessors.append({"bufferView": len(views) - 1, "componentType": _FLOAT, "count": len(values), "type": kind})
        offset += size
    content = _content(gaussians, list(attributes), accessors)
    content |= {"extensionsUsed": [_NAME], "bufferViews": views}
    return _glb(content, b"".join(values.tobytes() for values in attributes.values()))


def pack_compressed(gaussians: Gaussians) -> bytes:
    """Return the content of a `.glb` file whose values are stored as SPZ.

    Args:
        gaussians: with +Y up, at least one, and harmonics up to degree 3.

    Raises:
        InvalidInput: a Gaussian is too far away for SPZ.
    """
    binary = spz.pack(gaussians)
    kinds: dict[str, tuple[int, str]] = {
        "POSITION": (_FLOAT, "VEC3"),
        "COLOR_0": (_BYTE, "VEC4"),
        f"{_NAME}:SCALE": (_FLOAT, "VEC3"),
        f"{_NAME}:ROTATION": (_FLOAT, "VEC4"),
        **dict.fromkeys(_harmonics(gaussians)[1:], (_FLOAT, "VEC3")),
    }
    accessors: list[dict[str, Any]] = [
        {"componentType": component, "count": len(gaussians), "type": kind} for component, kind in kinds.values()
    ]
    accessors[1]["normalized"] = True
    content = _content(gaussians, list(kinds), accessors)
    content["meshes"][0]["primitives"][0]["extensions"][_NAME]["extensions"] = {_SPZ: {"bufferView": 0}}
    content |= {"extensionsUsed": COMPRESSED, "extensionsRequired": COMPRESSED}
    content["bufferViews"] = [{"buffer": 0, "byteLength": len(binary)}]
    return _glb(content, binary)


def _content(gaussians: Gaussians, attributes: list[str], accessors: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON, without extensions and buffers. Positions are the first attribute."""
    means = gaussians.means
    accessors[0] |= {"min": means.min(axis=0).tolist(), "max": means.max(axis=0).tolist()}
    primitive = {
        "mode": _POINTS,
        "attributes": {name: number for number, name in enumerate(attributes)},
        "extensions": {_NAME: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    return {
        "asset": {"version": "2.0", "generator": "rebel-nerf"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
    }


def _glb(content: dict[str, Any], binary: bytes) -> bytes:
    content["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _attributes(gaussians: Gaussians) -> dict[str, Array]:
    """Return the values (N, 1, 3 or 4) of each attribute, positions first."""
    opacities = 1 / (1 + np.exp(-gaussians.opacities[:, None].astype(np.float64)))
    found = {
        "POSITION": gaussians.means,
        "COLOR_0": np.hstack([linear((0.5 + SH_0 * gaussians.sh[:, 0]).clip(0, 1)), opacities]),
        f"{_NAME}:ROTATION": gaussians.rotations[:, [1, 2, 3, 0]],  # glTF has w last
        f"{_NAME}:SCALE": np.exp(gaussians.scales),
        f"{_NAME}:OPACITY": opacities,
    }
    found |= {name: gaussians.sh[:, index] for index, name in enumerate(_harmonics(gaussians))}
    return {name: np.ascontiguousarray(values, dtype="<f4") for name, values in found.items()}


def _harmonics(gaussians: Gaussians) -> list[str]:
    """Return the name of each coefficient's attribute."""
    degree = round(gaussians.sh.shape[1] ** 0.5) - 1
    return [f"{_NAME}:SH_DEGREE_{each}_COEF_{order}" for each in range(degree + 1) for order in range(2 * each + 1)]
