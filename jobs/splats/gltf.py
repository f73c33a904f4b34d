"""Write Gaussians as binary glTF, with the extension KHR_gaussian_splatting.

Programs without the extension show the centres as coloured points. Written after the specification at
https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting (release candidate of July
2026). Its spherical harmonics have the order, signs and constants of Kerbl et al.'s program.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from jobs.pictures.colour import linear
from jobs.splats.gaussians import SH_0, Array, Gaussians

__all__ = ["pack"]

_NAME = "KHR_gaussian_splatting"
_FLOAT, _POINTS, _VERTICES = 5126, 0, 34962
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
    means = gaussians.means
    accessors[0] |= {"min": means.min(axis=0).tolist(), "max": means.max(axis=0).tolist()}
    primitive = {
        "mode": _POINTS,
        "attributes": {name: number for number, name in enumerate(attributes)},
        "extensions": {_NAME: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    content: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "rebel-nerf"},
        "extensionsUsed": [_NAME],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(values.tobytes() for values in attributes.values())  # of floats, so its length is a multiple of 4
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
    degree = round(gaussians.sh.shape[1] ** 0.5) - 1
    for each in range(degree + 1):
        for order in range(2 * each + 1):
            found[f"{_NAME}:SH_DEGREE_{each}_COEF_{order}"] = gaussians.sh[:, each**2 + order]
    return {name: np.ascontiguousarray(values, dtype="<f4") for name, values in found.items()}
