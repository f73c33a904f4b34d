"""Extract the surfaces of a NeRF that its photos' cameras see, as points and as a mesh, in the model frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs import report
from jobs.radiance.renderer import CPU_CHUNK

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.pipelines.base_pipeline import Pipeline

__all__ = ["Array", "Mesh", "Points", "Views", "fuse", "render_cameras", "render_views", "sample"]

Array = NDArray[np.float32]

_GPU_CHUNK = 1 << 14
_MOST_VIEWS = 300
_SOLID = 0.5  # the least opacity of a ray that hit a surface
_NEIGHBOURS = 12
_FAR_OFF = 2.5  # standard deviations of the distance from the neighbours; beyond, a point is an outlier
_TRUNCATION = 4  # voxels in front of and behind a surface, where its distance counts
_VOXELS_AT_ONCE = 1 << 20
_LEAST_PIECE = 0.002  # a share of all faces


@dataclass(frozen=True)
class Views:
    """Pictures of a model from pinhole cameras at the photos' positions, all of one size.

    Args:
        poses: (V, 3, 4) camera to model, OpenGL axes.
        focal: (V,) px.
        colours: (V, H, W, 3), 0 to 1.
        depths: (V, H, W) distance along the ray of each pixel's centre; 0 if the ray hit nothing, or too far away.
    """

    poses: Tensor
    focal: Tensor
    colours: Tensor
    depths: Tensor


class Points(NamedTuple):
    """Points (N, 3), their colours (N, 3), 0 to 1, and their mean distances (N,) from their neighbours."""

    points: Array
    colours: Array
    spacing: Array


class Mesh(NamedTuple):
    """Vertices (N, 3), the vertex indices of each face (M, 3), and the vertices' colours (N, 3), 0 to 1."""

    vertices: Array
    faces: NDArray[np.int64]
    colours: Array


def render_views(pipeline: Pipeline, image_size: int, farthest: float) -> Views:
    """Render colours and depths from the positions of the photos, at most 300 of them.

    Args:
        pipeline: of a NeRF, in evaluation mode.
        image_size: the longest side, in px.
        farthest: the greatest depth; it leaves out the sky and hills on the horizon.
    """
    from nerfstudio.cameras.cameras import Cameras

    taken = pipeline.datamanager.train_dataparser_outputs.cameras
    taken = taken[torch.linspace(0, len(taken) - 1, min(len(taken), _MOST_VIEWS)).round().long()]
    sides = torch.maximum(taken.width, taken.height)[:, 0]
    width, height = (round(float(side[0] * image_size / sides[0])) for side in (taken.width[:, 0], taken.height[:, 0]))
    focal = taken.fx[:, 0] * image_size / sides
    # The cameras are pinholes, whatever the photos' lenses, because fusing needs depths along straight lines.
    cameras = Cameras(taken.camera_to_worlds, focal, focal, width / 2, height / 2, width, height).to(pipeline.device)
    return render_cameras(pipeline, cameras, farthest, report.Meter("export:views", len(cameras)))


def render_cameras(pipeline: Pipeline, cameras: Cameras, farthest: float, meter: report.Meter | None = None) -> Views:
    """Render colours and depths from pinhole cameras of one size, on the pipeline's device.

    Args:
        pipeline, farthest: see `render_views`.
        cameras: in the model's frame.
        meter: to report each finished view, if given.
    """
    width, height = int(cameras.width[0]), int(cameras.height[0])
    config = pipeline.model.config
    on_cpu = torch.device(pipeline.device).type == "cpu"
    config.eval_num_rays_per_chunk = min(config.eval_num_rays_per_chunk, CPU_CHUNK if on_cpu else _GPU_CHUNK)
    colours = torch.empty(len(cameras), height, width, 3, device=pipeline.device)
    depths = torch.empty(len(cameras), height, width, device=pipeline.device)
    with torch.inference_mode():
        for index in range(len(cameras)):
            outputs = pipeline.model.get_outputs_for_camera(cameras[index : index + 1])
            # Methods with two networks name the outputs rgb_fine and depth_fine.
            rgb, depth, opacity = (
                outputs[name if name in outputs else f"{name}_fine"] for name in ("rgb", "depth", "accumulation")
            )
            met = (opacity > _SOLID) & (depth < farthest) & torch.isfinite(rgb).all(dim=-1, keepdim=True)
            colours[index], depths[index] = rgb, torch.where(met, depth, 0)[..., 0]
            if meter:
                meter.update(index + 1)
    return Views(cameras.camera_to_worlds, cameras.fx[:, 0], colours, depths)


def sample(views: Views, number: int) -> Points:
    """Return the points of at most `number` random pixels of the views, without outliers."""
    from scipy.spatial import cKDTree

    seen = views.depths.flatten().nonzero()[:, 0].cpu()
    chosen = torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[:number]
    at = seen[chosen].to(views.depths.device)
    _, height, width = views.depths.shape
    view, row, column = at // (height * width), at // width % height, at % width
    across, down = column + 0.5 - width / 2, row + 0.5 - height / 2
    focal = views.focal[view]
    rays = torch.stack([across / focal, -down / focal, -torch.ones_like(focal)], dim=1)
    rays = torch.einsum("nij,nj->ni", views.poses[view, :, :3], rays / rays.norm(dim=1, keepdim=True))
    points = (views.poses[view, :, 3] + rays * views.depths.flatten()[at, None]).cpu().numpy()
    colours = views.colours.reshape(-1, 3)[at].cpu().numpy()
    if len(points) <= _NEIGHBOURS:
        return Points(points[:0], colours[:0], points[:0, 0])
    distances, _ = cKDTree(points).query(points, _NEIGHBOURS + 1, workers=-1)
    spacing = distances[:, 1:].mean(axis=1).clip(1e-9)
    unusual = np.log(spacing)  # in logarithms, because spacing grows with depth
    kept = unusual < unusual.mean() + _FAR_OFF * unusual.std()
    return Points(points[kept], colours[kept].clip(0, 1), spacing[kept].astype(np.float32))


def fuse(views: Views, low: Array, high: Array, resolution: int) -> Mesh:
    """Return a mesh of the surfaces in a box, from truncated signed distances (Curless & Levoy 1996).

    The mesh is open where no view saw a surface. Pieces with less than 1/500 of the faces are left out.

    Args:
        views: from `render_views`.
        low, high: (3,) corners of the box.
        resolution: the number of voxels along the longest side of the box.
    """
    from skimage.measure import marching_cubes

    voxel = float((high - low).max()) / resolution
    shape = np.ceil((high - low) / voxel).astype(int) + 1
    count = int(shape.prod())
    distances, seen = np.empty(count, dtype=np.float32), np.empty(count, dtype=bool)
    meter = report.Meter("export:mesh", count)
    for first in range(0, count, _VOXELS_AT_ONCE):
        flat = np.arange(first, min(first + _VOXELS_AT_ONCE, count))
        places = low + voxel * np.stack(np.unravel_index(flat, shape), axis=1)
        mean, weight, _ = _observe(views, places.astype(np.float32), _TRUNCATION * voxel)
        distances[flat], seen[flat] = mean, weight > 0
        meter.update(int(flat[-1]) + 1)
    field, known = distances.reshape(shape), seen.reshape(shape)
    # A face needs all eight corners of its cube to be known. skimage reads the mask only at the last corner.
    for axis in range(3):
        known &= np.roll(known, 1, axis=axis)
    try:
        vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(voxel,) * 3, mask=known, allow_degenerate=False)
    except (ValueError, RuntimeError):  # all distances have one sign, so there is no surface
        return Mesh(np.empty((0, 3), np.float32), np.empty((0, 3), np.int64), np.empty((0, 3), np.float32))
    vertices, faces = _without_crumbs((vertices + low).astype(np.float32), faces.astype(np.int64))
    _, _, colours = _observe(views, vertices, _TRUNCATION * voxel)
    return Mesh(vertices, faces, colours.clip(0, 1))


def _observe(views: Views, places: Array, truncation: float) -> tuple[Array, Array, Array]:
    """Average the signed distances of points (N, 3) from the surfaces, and the colours, over the views.

    Returns:
        The mean distances (N,), in truncations, within ±1 and positive in front of a surface; the number of views (N,)
        that see each point; the mean colours (N, 3) of the surfaces nearby.
    """
    device = views.depths.device
    at = torch.from_numpy(places).to(device)
    _, height, width = views.depths.shape
    total, weight = torch.zeros(len(at), device=device), torch.zeros(len(at), device=device)
    colour, near = torch.zeros(len(at), 3, device=device), torch.zeros(len(at), device=device)
    for pose, focal, colours, depths in zip(views.poses, views.focal, views.colours, views.depths, strict=True):
        x, y, z = ((at - pose[:, 3]) @ pose[:, :3]).unbind(dim=1)
        ahead = -z.clamp(max=-1e-6)
        column, row = (focal * x / ahead + width / 2).floor(), (height / 2 - focal * y / ahead).floor()
        inside = ((z < -1e-6) & (column >= 0) & (column < width) & (row >= 0) & (row < height)).nonzero()[:, 0]
        pixel = (row[inside] * width + column[inside]).long()
        depth = depths.flatten()[pixel]
        distance = (depth - (at[inside] - pose[:, 3]).norm(dim=1)) / truncation
        known = (depth > 0) & (distance > -1)
        inside, pixel, distance = inside[known], pixel[known], distance[known]
        total[inside] += distance.clamp(max=1)
        weight[inside] += 1
        close = (distance < 1).float()
        colour[inside] += close[:, None] * colours.reshape(-1, 3)[pixel]
        near[inside] += close
    mean = total / weight.clamp(min=1)
    return mean.cpu().numpy(), weight.cpu().numpy(), (colour / near.clamp(min=1)[:, None]).cpu().numpy()


def _without_crumbs(vertices: Array, faces: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Return a mesh without its small pieces and without unused vertices."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), dtype=bool), edges.T), shape=(len(vertices),) * 2)
    _, piece = connected_components(graph, directed=False)
    sizes = np.bincount(piece[faces[:, 0]], minlength=int(piece.max()) + 1)
    faces = faces[sizes[piece[faces[:, 0]]] >= _LEAST_PIECE * len(faces)]
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)
