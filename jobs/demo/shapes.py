"""The street's shapes: walls with openings, boxes, columns, bays, balconies and leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jobs.demo.raster import Floats, Patch
from jobs.demo.textures import Color, Material, Textures, rgb

__all__ = ["Opening", "Shapes", "X", "Y", "Z"]

X, Y, Z = np.eye(3)
"""The axes of the world frame: along the street, into the houses, up."""


@dataclass(frozen=True)
class Opening:
    """A rectangular hole in a wall: the left and lower edge, size and depth in metres, and the material of the pane."""

    left: float
    low: float
    width: float
    height: float
    pane: Material
    depth: float = 0.22


class Shapes(Textures):
    """Collects patches; each method adds one shape.

    Args:
        texels_per_metre, seed: see `Textures`.
    """

    def __init__(self, texels_per_metre: float, seed: int) -> None:
        super().__init__(texels_per_metre, seed)
        self.patches: list[Patch] = []

    def face(
        self,
        origin: Floats,
        right: Floats,
        down: Floats,
        material: Material,
        opaque: NDArray[np.bool_] | None = None,
        two_sided: bool = False,
    ) -> Patch:
        """Add one patch with a piece of a material."""
        color = material(float(np.linalg.norm(right)), float(np.linalg.norm(down)))
        self.patches.append(Patch(origin, right, down, color, opaque, two_sided))
        return self.patches[-1]

    def box(self, low: Sequence[float], high: Sequence[float], material: Material, faces: str = "flrtb") -> None:
        """Add an axis-aligned box with the `faces` front, left, right, top and bottom, by initial."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        w, d, h = (x1 - x0) * X, (y1 - y0) * Y, (z1 - z0) * Z
        sides = {
            "f": ((x0, y0, z1), w, -h),
            "l": ((x0, y1, z1), -d, -h),
            "r": ((x1, y0, z1), d, -h),
            "t": ((x0, y1, z1), w, -d),
            "b": ((x0, y0, z0), w, d),
        }
        for name in faces:
            self.face(np.array(sides[name][0]), sides[name][1], sides[name][2], material)

    def wall(
        self,
        start: Floats | Sequence[float],
        along: Floats,
        width: float,
        height: float,
        material: Material,
        openings: Sequence[Opening] = (),
        trim: Material | None = None,
        surround: float = 0.0,
    ) -> None:
        """Add an upright wall with openings, from its lower left corner `start` in the unit direction `along`.

        Args:
            trim: the material of reveals, sills and surrounds.
            surround: the width of the raised surround of each opening, in metres; 0 for none.
        """
        inward = np.cross(Z, along)
        top_left = np.array(start) + height * Z
        patch = self.face(top_left, width * along, -height * Z, material)
        rows, columns = patch.color.shape[:2]
        y, x = (np.arange(rows) + 0.5) * height / rows, (np.arange(columns) + 0.5) * width / columns
        solid = np.ones((rows, columns), bool)
        trim = trim or material
        for o in openings:
            top = height - o.low - o.height
            column = np.searchsorted(x, [o.left, o.left + o.width])
            row = np.searchsorted(y, [top, top + o.height])
            solid[row[0] : row[1], column[0] : column[1]] = False
            corner = top_left + o.left * along - top * Z
            wide, tall, deep = o.width * along, -o.height * Z, o.depth * inward
            self.face(corner + deep, wide, tall, o.pane)
            self.face(corner, deep, tall, trim)
            self.face(corner + wide + deep, -deep, tall, trim)
            self.face(corner, wide, deep, trim)
            self.face(corner + tall + deep, wide, -deep, trim)
            if surround:
                s, out = surround, 0.06
                for left, low, w, h in (
                    (o.left - s, o.low, s, o.height),
                    (o.left + o.width, o.low, s, o.height),
                    (o.left - s - 0.05, o.low + o.height, o.width + 2 * s + 0.1, s * 1.2),
                ):
                    self.slab(start, along, left, low, w, h, out, trim)
            if o.low > 0.3:
                self.slab(start, along, o.left - 0.12, o.low - 0.09, o.width + 0.24, 0.09, 0.16, trim)
        if openings:
            patch.opaque = solid

    def slab(
        self,
        start: Floats | Sequence[float],
        along: Floats,
        left: float,
        low: float,
        width: float,
        height: float,
        out: float,
        material: Material,
    ) -> None:
        """Add a box that projects `out` metres from the wall that runs from `start` in the direction `along`."""
        inward = np.cross(Z, along)
        corner = np.array(start) + left * along + (low + height) * Z - out * inward
        wide, tall, deep = width * along, -height * Z, out * inward
        self.face(corner, wide, tall, material)
        self.face(corner + deep, -deep, tall, material)
        self.face(corner + wide, deep, tall, material)
        self.face(corner + deep, wide, -deep, material)
        self.face(corner + tall, wide, deep, material)

    def cylinder(self, foot: Floats, axis: Floats, radius: float, material: Material, facets: int = 18) -> None:
        """Add a round bar from `foot` along `axis` (3,), in metres, without end caps."""
        up = axis / np.linalg.norm(axis)
        side = np.cross(up, [0.3, 0.9, 0.2])
        side /= np.linalg.norm(side)
        front = np.cross(side, up)
        turns = np.linspace(0, 2 * np.pi, facets + 1)
        spokes = np.cos(turns)[:, None] * side + np.sin(turns)[:, None] * front
        color = material(2 * np.pi * radius, float(np.linalg.norm(axis)))
        strips = np.array_split(np.arange(color.shape[1]), facets)
        for k, strip in enumerate(strips):
            near, far = spokes[k + 1], spokes[k]
            origin = foot + axis + radius * near
            piece = color[:, strip if len(strip) > 1 else [strip[0] if len(strip) else 0] * 2]
            self.patches.append(Patch(origin, radius * (far - near), -axis, piece, normals=np.stack([near, far])))

    def column(self, x: float, y: float, low: float, high: float, radius: float, material: Material) -> None:
        """Add a column with a base and a capital."""
        for z, half, tall in (
            (low, 1.45, 0.16),
            (low + 0.16, 1.22, 0.09),
            (high - 0.2, 1.2, 0.08),
            (high - 0.12, 1.5, 0.12),
        ):
            r = radius * half
            self.box((x - r, y - r, z), (x + r, y + r, z + tall), material)
        self.cylinder(np.array([x, y, low + 0.2]), (high - low - 0.35) * Z, radius, material)

    def cornice(
        self, x0: float, x1: float, y: float, z: float, out: float, material: Material, dentils: bool = True
    ) -> None:
        """Add three stepped mouldings along the house front, and a row of dentils below."""
        for k, (low, tall) in enumerate(((0, 0.10), (0.10, 0.12), (0.22, 0.08))):
            self.box((x0, y - out * (k + 1) / 3, z + low), (x1, y, z + low + tall), material)
        if dentils:
            for x in np.arange(x0 + 0.1, x1 - 0.15, 0.3):
                self.box((x, y - out * 0.3, z - 0.12), (x + 0.14, y, z), material, "flrb")

    def balcony(
        self, x0: float, x1: float, y: float, z: float, out: float, stone: Material, tall: float = 0.95
    ) -> None:
        """Add a slab on brackets with an iron railing on three sides."""
        self.box((x0, y - out, z - 0.14), (x1, y, z), stone)
        for x in (x0 + 0.15, x1 - 0.33):
            self.box((x, y - out * 0.8, z - 0.32), (x + 0.18, y, z - 0.14), stone)
            self.box((x, y - out * 0.4, z - 0.55), (x + 0.18, y, z - 0.32), stone)
        iron, inset = self.plain((0.30, 0.33, 0.34), 0.15), 0.06
        front, width, deep = y - out + inset, x1 - x0 - 2 * inset, (out - inset) * Y
        top = z + tall
        for origin, right in (
            (np.array([x0 + inset, front, top]), width * X),
            (np.array([x0 + inset, y, top]), -deep),
            (np.array([x1 - inset, front, top]), deep),
        ):
            bars = self.railing(float(np.linalg.norm(right)), tall)
            self.face(origin, right, -tall * Z, iron, opaque=bars, two_sided=True)
        self.box((x0 + inset - 0.03, front - 0.03, top), (x1 - inset + 0.03, front + 0.03, top + 0.05), iron)
        for x in (x0 + inset, x1 - inset):
            self.box((x - 0.03, front, top), (x + 0.03, y, top + 0.05), iron, "lrtb")
            self.box((x - 0.035, front - 0.035, z), (x + 0.035, front + 0.035, top + 0.12), iron)

    def bay(
        self,
        x0: float,
        x1: float,
        y: float,
        z0: float,
        z1: float,
        out: float,
        material: Material,
        trim: Material,
        floors: Sequence[tuple[float, float]],
        frame: Color,
    ) -> None:
        """Add a bay of three sides, the outer ones at 45 degrees, with windows of `floors` (sill, height)."""
        points = np.array([[x0, y, z0], [x0 + out, y - out, z0], [x1 - out, y - out, z0], [x1, y, z0]])
        for k in range(3):
            edge = points[k + 1] - points[k]
            width = float(np.linalg.norm(edge))
            along, margin = edge / width, 0.16
            panes = [
                Opening(margin, sill - z0, width - 2 * margin, tall, self.window(frame, (2 if k == 1 else 1, 3)), 0.14)
                for sill, tall in floors
            ]
            self.wall(points[k], along, width, z1 - z0, material, panes, trim)
            for low, tall, proud in ((0, 0.12, 0.07), (z1 - z0 - 0.22, 0.12, 0.06), (z1 - z0 - 0.1, 0.12, 0.13)):
                self.slab(points[k], along, -proud * 0.4, low, width + proud * 0.8, tall, proud, trim)
        for z, up in ((z0, False), (z1, True)):
            self.cap(x0, x1, y, z, out + (0.12 if up else 0.0), trim, up)
        if z0 > 1:  # corbels
            for k in range(1, 5):
                shrink = out * k / 5
                low, high = z0 - 0.13 * k, z0 - 0.13 * (k - 1)
                self.box((x0 + shrink + 0.1, y - out + shrink, low), (x1 - shrink - 0.1, y, high), trim)

    def cap(self, x0: float, x1: float, y: float, z: float, out: float, material: Material, up: bool) -> None:
        """Add the trapezoid that closes a bay above (`up`) or below."""
        origin = np.array([x0, y if up else y - out, z])
        patch = self.face(origin, (x1 - x0) * X, (-out if up else out) * Y, material)
        rows, columns = patch.color.shape[:2]
        b, a = np.mgrid[:rows, :columns].astype(float)
        reach = (b + 0.5) / rows * out if up else (1 - (b + 0.5) / rows) * out
        x = (a + 0.5) / columns * (x1 - x0)
        patch.opaque = (x >= reach) & (x <= (x1 - x0) - reach)

    def shutters(self, x0: float, x1: float, y: float, z: float, tall: float, color: Color, wide: float = 0.5) -> None:
        """Add a pair of shutters beside a window that spans x0..x1, each slightly open."""
        for side, edge in ((-1, x0), (1, x1)):
            angle = self.rng.uniform(0.05, 0.5)
            away = side * np.cos(angle) * X - np.sin(angle) * Y
            hinge = np.array([edge + side * 0.16, y - 0.05, z + tall])
            origin, right = (hinge + wide * away, -wide * away) if side < 0 else (hinge, wide * away)
            self.face(origin, right, -tall * Z, self.shutter(color), two_sided=True)

    def foliage(self, centers: Floats, around: Floats, span: float, leaf: float, colors: Sequence[Color]) -> None:
        """Add cards of leaves at `centers` (n, 3), shaded as if their normals pointed away from `around` (3,)."""
        for center in centers:
            rng = self.rng
            right = rng.normal(size=3)
            right *= span / np.linalg.norm(right)
            down = np.cross(right, rng.normal(size=3))
            down *= span / np.linalg.norm(down)
            side = max(8, round(span * self.fine))
            image = Image.new("RGBA", (side, side))
            pen = ImageDraw.Draw(image)
            for _ in range(18):
                x, y = rng.uniform(0.15, 0.85, 2) * side
                size, turn = leaf * self.fine * rng.uniform(0.7, 1.3), rng.uniform(0, 2 * np.pi)
                tip = np.array([np.cos(turn), np.sin(turn)]) * size
                wing = np.array([-tip[1], tip[0]]) * 0.5
                color = np.multiply(colors[rng.integers(len(colors))], rng.uniform(0.75, 1.2))
                outline = np.array([x, y]) + np.stack([-tip, wing - 0.2 * tip, tip, -wing - 0.2 * tip])
                pen.polygon(outline.ravel().tolist(), fill=(*rgb(color), 255))
            pixels = np.asarray(image)
            opaque = pixels[..., 3] > 0
            filled = np.where(opaque[..., None], pixels[..., :3] / 255, np.asarray(colors[0]))
            out = (center - around) / np.linalg.norm(center - around)
            normal = out + 0.4 * Z - 0.3 * Y
            normal /= np.linalg.norm(normal)
            origin = center - (right + down) / 2
            self.patches.append(Patch(origin, right, down, filled, opaque, True, np.stack([normal, normal])))
