"""The street's things: ground, roofs, dormers, chimneys, flowers, trees, lamps and benches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.demo.raster import Floats, Patch
from jobs.demo.shapes import Opening, Shapes, X, Y, Z
from jobs.demo.textures import Color, Material

__all__ = ["Things"]


class Things(Shapes):
    """Collects patches; each method adds one thing."""

    def ground(self, x0: float, x1: float) -> None:
        cobble = (0.60, 0.58, 0.56)
        width = (x1 - x0) * X

        def road(width: float, height: float) -> Floats:
            stones = self.courses(width, height, cobble, (0.17, 0.13), 0.016, (0.42, 0.41, 0.40), 0.11)
            return stones * (1 + 0.16 * self.noise(width, height, 2.5, 3))[..., None]

        slabs = self.stone((0.66, 0.63, 0.59), (0.75, 0.5))
        self.face(np.array([x0, 0.6, 0.0]), width, -4.4 * Y, slabs)
        self.face(np.array([x0, -3.8, 0.0]), width, -0.22 * Y, self.stone((0.70, 0.69, 0.67), (1.1, 0.3)))
        self.face(np.array([x0, -4.02, 0.0]), width, -0.14 * Z, self.stone((0.62, 0.61, 0.6), (1.1, 0.3)))
        self.face(np.array([x0, -4.02, -0.14]), width, -5.0 * Y, road)

    def roof(self, x0: float, x1: float, y: float, z: float, deep: float, rise: float, color: Color) -> None:
        width, slope = x1 - x0, np.array([0, -deep, -rise])
        tiles = self.courses(width, float(np.hypot(deep, rise)), color, (0.26, 0.18), 0.012, (0.32, 0.32, 0.34), 0.12)
        self.patches.append(Patch(np.array([x0, y + deep, z + rise]), width * X, slope, tiles))

    def dormer(self, x: float, y: float, z: float, material: Material, frame: Color) -> None:
        """Add a dormer: a small window with a lead roof in the slope of the roof."""
        pane = Opening(0.16, 0.16, 0.78, 0.9, self.window(frame, (2, 2)), 0.1)
        self.wall((x, y, z), X, 1.1, 1.25, material, [pane])
        self.box((x, y + 0.01, z), (x + 1.1, y + 1.6, z + 1.25), material, "lr")
        self.box((x - 0.12, y - 0.16, z + 1.25), (x + 1.22, y + 1.6, z + 1.37), self.plain((0.42, 0.44, 0.47), 0.12))

    def chimney(self, x: float, y: float, z: float) -> None:
        self.box((x, y, z), (x + 0.9, y + 0.6, z + 1.9), self.brick((0.55, 0.33, 0.27)), "flrt")
        self.box((x - 0.08, y - 0.08, z + 1.7), (x + 0.98, y + 0.6, z + 1.85), self.plain((0.6, 0.58, 0.54)))
        for dx in (0.2, 0.55):
            self.cylinder(
                np.array([x + dx + 0.08, y + 0.3, z + 1.85]), 0.45 * Z, 0.11, self.plain((0.66, 0.38, 0.26)), 10
            )

    def flower_box(self, x0: float, x1: float, y: float, z: float, blooms: Sequence[Color]) -> None:
        self.box((x0, y - 0.28, z), (x1, y - 0.04, z + 0.2), self.planks((0.56, 0.43, 0.33)))
        count = int((x1 - x0) / 0.13)
        at = np.stack(
            [
                self.rng.uniform(x0 + 0.08, x1 - 0.08, count),
                self.rng.uniform(y - 0.26, y - 0.1, count),
                z + self.rng.uniform(0.2, 0.38, count),
            ],
            axis=1,
        )
        self.foliage(
            at, np.array([(x0 + x1) / 2, y, z - 0.2]), 0.3, 0.035, [(0.2, 0.42, 0.14), (0.3, 0.5, 0.2), *blooms]
        )

    def blob(self, center: Floats, radius: float, count: int) -> Floats:
        """Return points (count, 3) in a ball, denser near its surface."""
        out = self.rng.normal(size=(count, 3))
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return center + out * radius * self.rng.uniform(0.55, 1, (count, 1))

    def tree(self, x: float, y: float) -> None:
        bark = self.plain((0.50, 0.42, 0.35), 0.22)
        fork = np.array([x + 0.1, y, 2.5])
        self.cylinder(np.array([x, y, 0.0]), fork - [x, y, 0.0], 0.13, bark, 14)
        crown = np.array([x + 0.15, y, 4.15])
        greens = [(0.40, 0.54, 0.22), (0.46, 0.58, 0.24), (0.34, 0.49, 0.22), (0.54, 0.62, 0.28)]
        for turn in np.linspace(0, 2 * np.pi, 6)[:-1]:
            out = np.array([np.cos(turn), np.sin(turn), 0]) * self.rng.uniform(0.6, 0.95)
            tip = crown + out + [0, 0, self.rng.uniform(-0.3, 0.6)]
            self.cylinder(fork - 0.1 * Z, tip - fork, 0.05, bark, 7)
            self.foliage(self.blob(tip, 0.75, 42), crown - 0.5 * Z, 0.42, 0.055, greens)
        self.foliage(self.blob(crown + 0.8 * Z, 0.8, 40), crown - 0.5 * Z, 0.42, 0.055, greens)
        self.box((x - 0.6, y - 0.25, 0.0), (x + 0.6, y + 0.6, 0.03), self.plain((0.33, 0.25, 0.18), 0.3), "flrt")

    def lamp(self, x: float, y: float) -> None:
        iron = self.plain((0.27, 0.36, 0.33), 0.15)
        self.box((x - 0.16, y - 0.16, 0), (x + 0.16, y + 0.16, 0.5), iron)
        self.cylinder(np.array([x, y, 0.5]), 2.9 * Z, 0.055, iron, 10)
        self.box((x - 0.16, y - 0.16, 3.45), (x + 0.16, y + 0.16, 3.85), self.plain((0.93, 0.90, 0.78)), "flr")
        self.box((x - 0.22, y - 0.22, 3.85), (x + 0.22, y + 0.22, 3.95), iron)
        self.box((x - 0.1, y - 0.1, 3.95), (x + 0.1, y + 0.1, 4.08), iron)

    def bench(self, x: float, y: float) -> None:
        wood, iron = self.plain((0.62, 0.46, 0.32), 0.15), self.plain((0.35, 0.38, 0.38), 0.15)
        for k in range(4):
            self.box((x - 0.9, y - 0.3 + 0.13 * k, 0.44), (x + 0.9, y - 0.2 + 0.13 * k, 0.48), wood)
        for k in range(3):
            self.box((x - 0.9, y + 0.24, 0.58 + 0.14 * k), (x + 0.9, y + 0.28, 0.68 + 0.14 * k), wood)
        for dx in (-0.75, 0.7):
            self.box((x + dx, y - 0.28, 0), (x + dx + 0.06, y + 0.28, 0.44), iron)
            self.box((x + dx, y + 0.28, 0), (x + dx + 0.06, y + 0.32, 1.0), iron)
