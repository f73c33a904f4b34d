"""Write Gaussians as 3D Tiles 1.1, of which viewers load no more than the view needs.

Tiles are a binary tree. Each has the most visible Gaussians of its part of the scene, and its children add the others.
The models are in local metres. Only `tileset.json` says where they are on the earth, in double precision. Written after
https://github.com/CesiumGS/3d-tiles/tree/1.1/specification.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.geometry import Y_UP, Floats
from jobs.metric.earth import Local
from jobs.splats import gltf
from jobs.splats.gaussians import Gaussians

__all__ = ["write_tiles"]

_MOST = 50_000  # Gaussians of a tile: about 1 MB
_SPREAD = 3.0  # standard deviations that a Gaussian is drawn to
_PIXELS = 16  # CesiumJS loads a tile's children once its error is that large; a Gaussian is visible from 1 px on
_LEAST_HALF = 0.001  # metres; boxes must not be flat

_Indices = NDArray[np.int64]


def write_tiles(folder: Path, gaussians: Gaussians, place: Local | None, most: int = _MOST) -> None:
    """Write a folder with `tileset.json` and its tiles.

    Args:
        folder: created if missing.
        gaussians: in local metres, with +Z up; at least one.
        place: where the local metres are on the earth. Without, the tileset is in local metres, too.
        most: the greatest number of Gaussians of a tile.

    Raises:
        InvalidInput: a Gaussian is too far away for the format.
    """
    folder.mkdir(exist_ok=True)
    writer = _Writer(folder, gaussians, most)
    everything = np.argsort(-writer.widths, kind="stable")
    root = writer.write(everything)
    if place:
        root["transform"] = place.to_earth.T.ravel().tolist()  # by columns
    size = 2 * float(np.linalg.norm(root["boundingVolume"]["box"][3::4]))
    extensions = {"extensionsUsed": gltf.COMPRESSED, "extensionsRequired": gltf.COMPRESSED}
    content = {
        "asset": {"version": "1.1"},
        "extensionsUsed": ["3DTILES_content_gltf"],  # CesiumJS shows the points alone without it
        "extensions": {"3DTILES_content_gltf": extensions},
        "geometricError": max(size, root["geometricError"]),
        "root": {**root, "refine": "ADD"},
    }
    (folder / "tileset.json").write_text(json.dumps(content, indent=1) + "\n")


class _Writer:
    """Writes tiles.

    Args:
        folder: where to.
        gaussians: in local metres, with +Z up.
        most: the greatest number of Gaussians of a tile.
    """

    def __init__(self, folder: Path, gaussians: Gaussians, most: int) -> None:
        self._folder, self._gaussians, self._most = folder, gaussians, most
        self._numbers = count()
        sizes = np.sort(np.exp(gaussians.scales.astype(float)), axis=1)
        opacities = 1 / (1 + np.exp(-gaussians.opacities.astype(float)))
        self.widths: Floats = 2 * np.sqrt(opacities * sizes[:, 1] * sizes[:, 2])
        """(N,) in metres, of opaque discs that hide as much."""
        self._reaches = _SPREAD * _spreads(gaussians)

    def write(self, members: _Indices) -> dict[str, Any]:
        """Write a tile and its children; return its entry.

        Args:
            members: indices of its and its children's Gaussians, the widest first.
        """
        means = self._gaussians.means[members].astype(float)
        low, high = (means - self._reaches[members]).min(axis=0), (means + self._reaches[members]).max(axis=0)
        name = f"{next(self._numbers)}.glb"
        own, others = members[: self._most], members[self._most :]
        (self._folder / name).write_bytes(gltf.pack_compressed(self._gaussians[own].moved(Y_UP)))
        half = np.diag(np.maximum((high - low) / 2, _LEAST_HALF))
        entry: dict[str, Any] = {
            "boundingVolume": {"box": [*((low + high) / 2).tolist(), *half.ravel().tolist()]},
            "geometricError": 0.0,
            "content": {"uri": name},
        }
        if len(others):
            entry["geometricError"] = _PIXELS * float(self.widths[others[0]])
            entry["children"] = [self.write(part) for part in self._halves(others) if len(part)]
        return entry

    def _halves(self, members: _Indices) -> list[_Indices]:
        """Divide along the longest side, and keep the order."""
        means = self._gaussians.means[members]
        axis = np.ptp(means, axis=0).argmax()
        right = np.zeros(len(members), dtype=bool)
        right[np.argsort(means[:, axis], kind="stable")[len(members) // 2 :]] = True
        return [members[~right], members[right]]


def _spreads(gaussians: Gaussians) -> Floats:
    """Return the standard deviations (N, 3) along the axes of the frame."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_quat(gaussians.rotations[:, [1, 2, 3, 0]]).as_matrix()
    spreads: Floats = np.linalg.norm(turns * np.exp(gaussians.scales.astype(float))[:, None], axis=2)
    return spreads
