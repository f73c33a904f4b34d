"""A small renderer of textured parallelograms in numpy, with exact intersections, a z-buffer and baked light.

Surfaces are matt, so their light does not depend on the camera. The light of sun and sky, with shadows, is computed
once and multiplied into the textures. A photo then needs a z-buffer and one filtered texture look-up per sample.

World frame: metres, +Z up, right-handed. Camera frame: x right, y down, z forward (OpenCV).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_LEVELS = 6  # of a mipmap
_FAR = 500.0  # metres; the distance of the "cameras" that look along the light


@dataclass
class Patch:
    """A textured parallelogram.

    Args:
        origin: (3,) the top left corner, as seen from the front, in metres.
        right, down: (3,) the edges from there, in metres. `down` x `right` points to the front.
        color: (h, w, 3) albedo in sRGB, 0..1; row 0 lies at `origin`.
        opaque: (h, w) False in holes; None for a patch without holes.
        two_sided: whether the patch is visible from behind, too.
        normals: (2, 3) unit normals for shading at the left and the right edge, if they differ from the plane's.
    """

    origin: Floats
    right: Floats
    down: Floats
    color: Floats
    opaque: NDArray[np.bool_] | None = None
    two_sided: bool = False
    normals: Floats | None = None


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        center: (3,) metres.
        rotation: (3, 3) camera to world, its columns the camera's x (right), y (down) and z (forward).
        focal: in px.
        width, height: in px; the principal point is at the centre.
    """

    center: Floats
    rotation: Floats
    focal: float
    width: int
    height: int

    @classmethod
    def looking_at(
        cls, center: Floats, target: Floats, focal: float, width: int, height: int, roll: float = 0.0
    ) -> Camera:
        """Make a camera at `center` (3,) that looks at `target` (3,), rolled by `roll` radians."""
        forward = target - center
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        x, y = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
        return cls(np.asarray(center, float), np.stack([x, y, forward], axis=1), focal, width, height)

    def project(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Return x and y, in px from the top left corner, and the depth in metres of `points` (…, 3)."""
        x, y, z = np.moveaxis((points - self.center) @ self.rotation, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.focal * x / z + self.width / 2, self.focal * y / z + self.height / 2, z

    def rays(self) -> Floats:
        """Return the matrix (3, 3) from pixel indices (column, row, 1) to rays of depth 1 through pixel centres."""
        f, w, h = self.focal, self.width, self.height
        pixels = np.array([[1 / f, 0, (0.5 - w / 2) / f], [0, 1 / f, (0.5 - h / 2) / f], [0, 0, 1]])
        rays: Floats = self.rotation @ pixels
        return rays


class Geometry:
    """The shapes of patches without their colours, for a z-buffer."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self.origin = np.array([p.origin for p in patches], float)
        self.right = np.array([p.right for p in patches], float)
        self.down = np.array([p.down for p in patches], float)
        self.normal = np.cross(self.down, self.right)
        self.opaque = [p.opaque for p in patches]
        self.two_sided = np.array([p.two_sided for p in patches])
        corners = [self.origin, self.origin + self.right, self.origin + self.down]
        self.corners = np.stack([*corners, corners[1] + self.down], axis=1)

    def rasterize(self, camera: Camera) -> tuple[Floats, NDArray[np.int32], Floats]:
        """Find the patch that each pixel of `camera` sees.

        A ray c + t d meets the patch o + a r + b s where (a, b, 1) / t = [r s o-c]^-1 d. As d is linear in the pixel,
        so are a/t, b/t and 1/t: three planes over the image decide the hit and its depth, with no approximation.

        Returns:
            1 / depth (h, w) in 1/metres, 0 where nothing is hit; the index of the patch (h, w), -1 where nothing is
            hit; for each patch the matrix (n, 3, 3) from (column, row, 1) to (a, b, 1) / depth.
        """
        nearness = np.zeros((camera.height, camera.width), np.float32)
        index = np.full((camera.height, camera.width), -1, np.int32)
        towards = camera.center - self.origin
        facing = np.einsum("ij,ij->i", self.normal, towards)
        x, y, z = camera.project(self.corners)
        z_max = z.max(axis=1)
        seen = (np.abs(facing) > 1e-9) & (z_max > 0.05) & ((facing > 0) | self.two_sided)
        matrices = np.zeros((len(self.origin), 3, 3))
        basis = np.stack([self.right, self.down, -towards], axis=2)
        matrices[seen] = np.linalg.inv(basis[seen]) @ camera.rays()
        clipped = (z.min(axis=1) < 0.05)[:, None]  # a patch partly behind the camera; its corners are no bounds
        size = np.array([camera.width, camera.height])
        low = np.where(clipped, 0, np.floor(np.stack([x.min(1), y.min(1)], 1) - 0.5)).clip(0, size).astype(int)
        high = np.where(clipped, size, np.ceil(np.stack([x.max(1), y.max(1)], 1) + 0.5)).clip(0, size).astype(int)
        planes = matrices.astype(np.float32).transpose(0, 2, 1)[..., None, None]
        columns = np.arange(camera.width, dtype=np.float32)
        rows = np.arange(camera.height, dtype=np.float32)[:, None]
        for i in np.flatnonzero(seen & (high > low).all(axis=1)):
            window = slice(low[i, 1], high[i, 1]), slice(low[i, 0], high[i, 0])
            across, along, offset = planes[i]
            a, b, near = across * columns[window[1]] + (along * rows[window[0]] + offset)
            hit = (near > nearness[window]) & (a >= 0) & (a <= near) & (b >= 0) & (b <= near)
            opaque = self.opaque[i]
            if opaque is not None:
                inside = np.flatnonzero(hit)
                depth = 1 / near.ravel()[inside]
                row = np.minimum(b.ravel()[inside] * depth * opaque.shape[0], opaque.shape[0] - 1).astype(np.int32)
                column = np.minimum(a.ravel()[inside] * depth * opaque.shape[1], opaque.shape[1] - 1).astype(np.int32)
                hit.ravel()[inside] = opaque[row, column]
            np.copyto(nearness[window], near, where=hit)
            index[window][hit] = i
        return nearness, index, matrices


@dataclass(frozen=True)
class Light:
    """Parallel light: the unit direction TO the light (3,), and the irradiance (3,) of a facing surface, linear RGB."""

    direction: Floats
    color: Floats


class Scene:
    """Lit patches that can be photographed.

    Args:
        patches: the surfaces.
        suns: lights with sharp shadows (about 2 cm).
        skies: lights with soft shadows (about 6 cm).
        bounce: (3,) the irradiance from below of a surface that faces down, in linear RGB.
        sky: (2, 3) the colours of the sky at the horizon and at the zenith, in sRGB 0..1.
    """

    def __init__(
        self, patches: Sequence[Patch], suns: Sequence[Light], skies: Sequence[Light], bounce: Floats, sky: Floats
    ) -> None:
        self.geometry = Geometry(patches)
        self.sky = np.asarray(sky, np.float32)
        light = _irradiance(self.geometry, patches, suns, 0.03)
        ambient = _irradiance(self.geometry, patches, skies, 0.06, bounce=bounce)
        self._store([_develop(p.color, sun, soft) for p, sun, soft in zip(patches, light, ambient, strict=True)])

    def _store(self, textures: Sequence[NDArray[np.uint8]]) -> None:
        """Store the mipmaps of all textures in one array, so that one look-up can read any of them."""
        levels: list[NDArray[np.uint8]] = []
        self._start = np.zeros((len(textures), _LEVELS), np.int64)
        self._size = np.zeros((len(textures), _LEVELS, 2), np.int32)
        end = 0
        for i, texture in enumerate(textures):
            for level in range(_LEVELS):
                self._start[i, level], self._size[i, level] = end, texture.shape[:2]
                levels.append(texture.reshape(-1, 3))
                end += len(levels[-1])
                texture = _halve(texture)
        texels = np.zeros((end, 4), np.uint8)
        np.concatenate(levels, out=texels[:, :3])
        self._texels = texels.view(np.uint32).ravel()

    def photograph(self, camera: Camera, samples: int = 2) -> NDArray[np.uint8]:
        """Return a picture (h, w, 3) in 8-bit sRGB, averaged over `samples` x `samples` rays per pixel."""
        s = samples
        fine = Camera(camera.center, camera.rotation, camera.focal * s, camera.width * s, camera.height * s)
        nearness, index, matrices = self.geometry.rasterize(fine)
        scale = np.abs(np.linalg.det(matrices)) * self._size[:, 0].prod(axis=1)  # texels per sample, times depth^-3
        picture = np.empty((camera.height, camera.width, 3), np.uint8)
        band = 16
        for top in range(0, camera.height, band):
            rows = slice(top * s, min(top + band, camera.height) * s)
            colors = self._shade(fine, rows, nearness[rows], index[rows], matrices.astype(np.float32), scale)
            mean = colors.reshape(-1, s, camera.width, s, 3).mean(axis=(1, 3))
            picture[top : top + band] = (mean + 0.5).astype(np.uint8)
        return picture

    def _shade(
        self, camera: Camera, rows: slice, near: Floats, index: NDArray[np.int32], matrices: Floats, scale: Floats
    ) -> Floats:
        """Return the colours (n, w, 3), 0 to 255, of rows of samples."""
        y, x = np.meshgrid(np.arange(rows.start, rows.stop), np.arange(camera.width), indexing="ij")
        colors = np.empty((*index.shape, 3), np.float32)
        empty = index < 0
        if empty.any():
            rays = np.stack([x[empty], y[empty], np.ones(empty.sum())], axis=1) @ camera.rays().T
            up = np.clip(rays[:, 2] / np.linalg.norm(rays, axis=1), 0, 1).astype(np.float32)[:, None] ** 0.7
            colors[empty] = 255 * ((1 - up) * self.sky[0] + up * self.sky[1])
        full = ~empty
        i, near, x, y = index[full], near[full], x[full].astype(np.float32), y[full].astype(np.float32)
        level = np.clip(0.5 * np.log2(scale[i] / near**3), 0, _LEVELS - 1).astype(np.int32)
        start, size = self._start[i, level], self._size[i, level]
        m = matrices[i]
        column, x_low, x_high = _between((m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2]) / near, size[:, 1])
        row, y_low, y_high = _between((m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]) / near, size[:, 0])
        top, bottom = start + y_low * size[:, 1], start + y_high * size[:, 1]
        upper = _mix(self._fetch(top + x_low), self._fetch(top + x_high), column)
        lower = _mix(self._fetch(bottom + x_low), self._fetch(bottom + x_high), column)
        colors[full] = _mix(upper, lower, row)[:, :3]
        return colors

    def _fetch(self, at: NDArray[np.int64]) -> Floats:
        return self._texels[at].view(np.uint8).reshape(-1, 4).astype(np.float32)


def _between(position: Floats, size: NDArray[np.int32]) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """Find the texels around positions 0..1 along `size` texels. Return the second's weight, and both indices."""
    at = np.clip(position * size - 0.5, 0, size - 1).astype(np.float32)
    low = at.astype(np.int32)
    return (at - low)[:, None], low, np.minimum(low + 1, size - 1)


def _mix(first: Floats, second: Floats, weight: Floats) -> Floats:
    second -= first
    second *= weight
    second += first
    return second


def _halve(texture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the next level of a mipmap: means of 2 x 2 texels. An odd last row or column is dropped."""
    for _ in range(2):
        if len(texture) > 1:
            first, second = texture[: len(texture) // 2 * 2 : 2], texture[1::2]
            texture = ((first.astype(np.uint16) + second + 1) // 2).astype(np.uint8)
        texture = texture.swapaxes(0, 1)
    return texture


def _irradiance(
    geometry: Geometry, patches: Sequence[Patch], lights: Sequence[Light], spacing: float, bounce: Floats | None = None
) -> list[Floats]:
    """Return a grid (rows, columns, 3) of the light on each patch, at points about `spacing` metres apart.

    Shadows are shadow maps (Williams 1978, "Casting curved shadows on curved surfaces"): a point is lit if the z-buffer
    of a distant camera in the light's direction has nothing nearer.
    """
    points, normals, shapes = [], [], []
    for p in patches:
        rows, columns = (max(2, round(np.linalg.norm(edge) / spacing) + 1) for edge in (p.down, p.right))
        inset = 0.02  # a patch's rim often touches another surface
        b = np.linspace(inset, 1 - inset, rows)[:, None, None]
        a = np.linspace(inset, 1 - inset, columns)[None, :, None]
        plane = np.cross(p.down, p.right)
        plane /= np.linalg.norm(plane)
        left, right = (plane, plane) if p.normals is None else p.normals
        normal = np.broadcast_to((1 - a) * left + a * right, (rows, columns, 3)).reshape(-1, 3)
        off = plane if p.normals is None or not p.two_sided else normal
        points.append((p.origin + a * p.right + b * p.down).reshape(-1, 3) + spacing * 0.75 * off)
        normals.append(normal)
        shapes.append((rows, columns, 3))
    at, facing = np.concatenate(points).astype(np.float32), np.concatenate(normals).astype(np.float32)
    total = np.zeros(at.shape, np.float32)
    corners = geometry.corners.reshape(-1, 3)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    visible = np.zeros(len(at), np.float32)
    for light in lights:
        lit = facing @ light.direction.astype(np.float32)
        camera = Camera.looking_at(middle + _FAR * light.direction, middle, 1.0, 1, 1)
        x, y, _ = camera.project(corners)
        reach = max(np.abs(x - 0.5).max(), np.abs(y - 0.5).max())
        size = int(2 * reach * _FAR / spacing * 0.8) + 2
        camera = Camera(camera.center, camera.rotation, (size / 2 - 1) / reach, size, size)
        nearness, _, _ = geometry.rasterize(camera)
        front = np.flatnonzero(lit > 0)
        x, y, z = camera.project(at[front])
        column, row = (np.clip(v, 0, size - 1).astype(np.int32) for v in (x, y))
        clear = nearness[row, column] * (z - spacing) <= 1
        total[front] += np.where(clear, lit[front], 0)[:, None] * light.color.astype(np.float32)
        visible[front] += clear
    if bounce is not None:
        open_share = 0.35 + 1.3 * visible / max(1, len(lights))  # corners also get less light from below
        total += (1 - facing[:, 2:]) / 2 * open_share[:, None] * bounce
    ends = np.cumsum([s[0] * s[1] for s in shapes])[:-1]
    return [grid.reshape(shape) for grid, shape in zip(np.split(total, ends), shapes, strict=True)]


def _stretch(grid: Floats, height: int, width: int) -> Floats:
    """Interpolate a grid (rows, columns, 3) linearly to (height, width, 3)."""
    for axis, size in ((0, height), (1, width)):
        at = np.linspace(0, grid.shape[axis] - 1, size, dtype=np.float32)
        low = np.minimum(at.astype(int), grid.shape[axis] - 2)
        weight = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        grid = _mix(grid.take(low, axis), grid.take(low + 1, axis), weight)
    return grid


def _develop(color: Floats, sun: Floats, sky: Floats) -> NDArray[np.uint8]:
    """Light and expose a texture: 8-bit sRGB of albedo times light, with a soft shoulder towards white."""
    height, width = color.shape[:2]
    radiance = np.clip(color, 0, 1).astype(np.float32) ** 2.2
    radiance *= _stretch(sun, height, width) + _stretch(sky, height, width)
    return np.asarray(255 * (1 - np.exp(-radiance)) ** (1 / 2.2) + 0.5, np.uint8)
