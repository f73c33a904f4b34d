"""Write an export in local metres for other programs, with where it is on the earth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.geometry import Y_UP, Floats
from jobs.metric.cameras import Cameras
from jobs.metric.geojson import cameras_on_the_map
from jobs.metric.ground import Ground
from jobs.splats import gltf
from jobs.splats.gaussians import Array, Gaussians
from jobs.splats.laz import write_laz
from jobs.splats.tiles import write_tiles

if TYPE_CHECKING:
    import trimesh

__all__ = ["InMetres"]


class InMetres:
    """A folder of files in local metres. Its `place.json` (see `jobs.metric.ground`) says where these are.

    Args:
        folder: created if missing.
        ground: the coordinates.
    """

    def __init__(self, folder: Path, ground: Ground) -> None:
        self._folder, self._ground = folder, ground
        folder.mkdir(exist_ok=True)
        (folder / "place.json").write_text(ground.model_dump_json(indent=2) + "\n")

    def write_splats(self, gaussians: Gaussians) -> None:
        """Write Gaussians of the scene frame as PLY, as glTF with +Y up, and as 3D Tiles."""
        moved = gaussians.moved(self._ground.from_scene)
        moved.write_ply(self._folder / "splat.ply")
        (self._folder / "splat.glb").write_bytes(gltf.pack(moved.moved(Y_UP)))
        write_tiles(self._folder / "tiles", moved, self._ground.local)

    def write_points(self, points: Array, colours: Array) -> None:
        """Write points (N, 3) of the scene frame and their colours (N, 3), 0 to 1, as PLY and LAZ."""
        import trimesh

        moved = self._ground.from_scene.points(points)
        cloud = trimesh.PointCloud(moved.astype(np.float32), colors=(colours * 255).round().astype(np.uint8))
        cloud.export(self._folder / "pointcloud.ply")
        write_laz(self._folder / "pointcloud.laz", moved, colours, self._ground.wkt)

    def write_mesh(self, mesh: trimesh.Trimesh) -> None:
        """Write a mesh of the scene frame as glTF with +Y up."""
        moved = mesh.copy()
        moved.vertices = Y_UP.points(self._ground.from_scene.points(mesh.vertices)).astype(np.float32)
        moved.export(self._folder / "mesh.glb")

    def write_cameras(self, dataset: Path, path: Floats | None) -> None:
        """Write the cameras of a dataset, and a path (n, 3) in the scene frame, as GeoJSON if their place is known."""
        if text := cameras_on_the_map(self._ground, Cameras(dataset).all, path):
            (self._folder / "cameras.geojson").write_text(text)
