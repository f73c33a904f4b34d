"""The street's houses: the three houses of the first visit, the bakery that replaces the bookshop, and row houses."""

from __future__ import annotations

import numpy as np

from jobs.demo.shapes import Opening, X, Y, Z
from jobs.demo.textures import as_color
from jobs.demo.things import Things

__all__ = ["Houses"]


class Houses(Things):
    """Collects patches; each method builds one house."""

    def left_house(self) -> None:
        x0, x1, y, top = -13.5, -4.7, 0.0, 7.0
        brick, stone = self.brick((0.70, 0.45, 0.37)), self.stone((0.80, 0.75, 0.66))
        green, white = (0.25, 0.45, 0.38), (0.86, 0.84, 0.79)
        up = [
            Opening(x - x0, 4.15, 1.05, 1.75, self.window(white, bars))
            for x, bars in ((-12.6, (2, 3)), (-10.6, (2, 4)), (-6.35, (2, 3)))
        ]
        down = [
            Opening(0.6, 0.0, 1.15, 2.55, self.door((0.56, 0.30, 0.26), "12"), 0.3),
            Opening(3.05, 0.62, 2.1, 1.85, self.shop_window(green), 0.3),
            Opening(5.5, 0.0, 0.95, 2.45, self.door(green, "14"), 0.35),
            Opening(6.75, 0.62, 1.5, 1.85, self.shop_window(green), 0.3),
        ]
        self.wall((x0, y, 0), X, x1 - x0, top, brick, up + down, stone, 0.14)
        self.box((x0, y - 0.10, 3.25), (x1, y, 3.45), stone)
        self.box((x0, y - 0.07, 0), (-12.95, y, 0.5), stone)
        for k in range(17):  # quoins
            wide = 0.5 if k % 2 else 0.32
            self.box((x1 - wide, y - 0.05, 0.41 * k), (x1, y, 0.41 * k + 0.39), stone, "fltb")
        sign = self.sign("REBEL  BOOKS", green, (0.93, 0.80, 0.45))
        self.box((-10.6, y - 0.14, 2.68), (-5.1, y, 3.18), sign, "f")
        self.box((-10.6, y - 0.14, 2.68), (-5.1, y, 3.18), self.plain(green), "lrtb")
        awning = self.stripes((0.78, 0.22, 0.18), (0.92, 0.88, 0.78))
        slope = np.array([0, -1.05, -0.5])
        self.face(np.array([-10.55, y - 0.12, 2.68]), 2.35 * X, slope, awning, two_sided=True)
        self.face(np.array([-10.55, y - 1.17, 2.18]), 2.35 * X, -0.18 * Z, awning, two_sided=True)
        for x, color in ((-12.6, (0.38, 0.52, 0.44)), (-10.6, (0.38, 0.52, 0.44))):
            self.shutters(x, x + 1.05, y, 4.15, 1.75, color)
        self.bay(-9.0, -6.75, y, 4.0, 6.45, 0.62, stone, stone, [(4.45, 1.55)], white)
        self.flower_box(-6.4, -5.25, y - 0.1, 3.95, [(0.85, 0.25, 0.35), (0.95, 0.75, 0.3)])
        self.cornice(x0, x1, y, top, 0.45, stone)
        self.roof(x0, x1, y - 0.25, top + 0.3, 2.6, 2.3, (0.52, 0.48, 0.50))
        self.dormer(-11.8, y + 0.25, top + 0.45, self.plain(white), (0.35, 0.4, 0.45))
        self.dormer(-8.3, y + 0.25, top + 0.45, self.plain(white), (0.5, 0.3, 0.28))
        self.chimney(-5.9, y + 1.4, top + 1.2)
        for k, x in enumerate((-9.9, -8.9)):  # boxes of books before the shop
            self.box(
                (x, y - 0.75, 0.45 + 0.1 * k),
                (x + 0.8, y - 0.3, 0.75 + 0.1 * k),
                self.planks((0.55, 0.38, 0.22)),
                "flr",
            )
            self.face(np.array([x, y - 0.3, 0.7 + 0.1 * k]), 0.8 * X, -0.45 * Y, self.shop_window(green))
            self.box((x + 0.1, y - 0.7, 0), (x + 0.7, y - 0.35, 0.45 + 0.1 * k), self.planks((0.3, 0.22, 0.16)), "flr")

    def middle_house(self) -> None:
        x0, x1, y, top = -4.7, 4.3, -0.3, 7.6
        plaster, stone = self.plaster((0.88, 0.76, 0.56)), self.stone((0.83, 0.80, 0.73))
        base = self.stone((0.74, 0.69, 0.60), (0.85, 0.42))
        white, blue = (0.88, 0.87, 0.83), (0.40, 0.54, 0.64)
        up = [
            Opening(-0.55 - x0, 0.75, 1.1, 2.35, self.window(white, (2, 4)), 0.3),  # the balcony's door
            Opening(2.15 - x0, 1.0, 1.1, 1.85, self.window(white, (2, 3))),
        ]
        down = [
            Opening(-0.65 - x0, 0.36, 1.3, 2.55, self.door((0.28, 0.44, 0.56), "16"), 0.4),
            Opening(2.1 - x0, 0.95, 1.2, 1.75, self.window(white, (2, 2))),
        ]
        self.wall((x0, y, 3.4), X, x1 - x0, top - 3.4, plaster, up, stone, 0.16)
        self.wall((x0, y, 0), X, x1 - x0, 3.4, base, down, stone, 0.16)
        self.box((x0, y, 0), (x1, 0.3, top), plaster, "lr")
        self.box((x0, y - 0.12, 3.32), (x1, y, 3.5), stone)
        self.box((x0, y - 0.09, 0), (-1.3, y, 0.45), stone, "flrt")
        self.box((1.3, y - 0.09, 0), (x1, y, 0.45), stone, "flrt")
        # the portico: steps, columns, and a balcony above
        for k in range(2):
            self.box((-1.45, y - 1.45 + 0.32 * k, 0.18 * k), (1.45, y, 0.18 * (k + 1)), stone, "flrt")
        for x in (-1.12, 1.12):
            self.column(x, y - 0.85, 0.36, 3.42, 0.17, self.stone((0.86, 0.83, 0.77), (3, 0.5)))
            self.box((x - 0.2, y - 0.12, 0.36), (x + 0.2, y, 3.42), stone, "flr")
        self.box((-1.45, y - 1.15, 3.42), (1.45, y, 3.72), stone)
        self.face(
            np.array([-1.3, y - 1.16, 3.68]),
            2.6 * X,
            -0.22 * Z,
            self.sign("MDCCCXCVI", (0.83, 0.80, 0.73), (0.4, 0.36, 0.3)),
        )
        self.balcony(-1.5, 1.5, y, 4.02, 1.2, stone)
        # the two-storey bay on the left, the balcony and shutters on the right
        self.bay(-4.25, -1.75, y, 0.0, 6.9, 0.75, base, stone, [(0.95, 1.75), (4.35, 1.8)], white)
        self.shutters(2.15, 3.25, y, 4.4, 1.85, blue)
        self.balcony(1.8, 3.6, y, 4.2, 0.55, stone, 0.8)
        self.flower_box(2.1, 3.3, y - 0.35, 4.2, [(0.90, 0.30, 0.45), (0.95, 0.95, 0.9), (0.8, 0.2, 0.2)])
        for x in (-1.25, 1.62, 3.75):  # pilasters
            self.box((x, y - 0.07, 4.2), (x + 0.26, y, top), stone, "flr")
        plate = self.sign("CAFE LUMEN", (0.34, 0.36, 0.42), (0.95, 0.85, 0.6))
        self.box((2.0, y - 0.08, 2.95), (3.5, y, 3.25), plate, "f")
        self.cornice(x0, x1, y, top, 0.55, stone)
        self.roof(x0, x1, y - 0.25, top + 0.3, 2.4, 2.6, (0.47, 0.51, 0.57))
        for x in (-3.9, -0.55, 2.6):
            self.dormer(x, y + 0.3, top + 0.5, self.plain((0.86, 0.84, 0.8)), (0.3, 0.33, 0.4))
        self.chimney(1.2, y + 1.5, top + 1.6)
        # urns with shrubs beside the steps
        for x in (-1.85, 1.85):
            self.box((x - 0.28, y - 1.3, 0), (x + 0.28, y - 0.74, 0.5), self.plain((0.66, 0.40, 0.29), 0.14), "flrt")
            middle = np.array([x, y - 1.02, 0.85])
            self.foliage(self.blob(middle, 0.36, 26), middle, 0.3, 0.035, [(0.2, 0.4, 0.16), (0.28, 0.48, 0.2)])

    def right_house(self) -> None:
        x0, x1, y, top = 4.3, 13.5, 0.2, 6.6
        plaster, stone = self.plaster((0.68, 0.75, 0.76)), self.stone((0.78, 0.77, 0.74))
        rust, white = (0.66, 0.38, 0.30), (0.86, 0.85, 0.82)
        up = [
            Opening(x - x0, 3.9, 1.0, 1.65, self.window(white, bars))
            for x, bars in ((4.95, (2, 3)), (6.6, (1, 2)), (11.6, (2, 2)))
        ]
        down = [
            Opening(0.6, 0.9, 1.15, 1.5, self.window((0.3, 0.2, 0.15), (3, 2))),
            Opening(2.35, 0.0, 1.05, 2.4, self.door(rust, "18"), 0.35),
            Opening(4.2, 0.0, 2.5, 2.6, self.planks((0.45, 0.33, 0.24)), 0.3),
            Opening(7.4, 0.9, 1.2, 1.5, self.window((0.3, 0.2, 0.15), (2, 2))),
        ]
        self.wall((x0, y, 0), X, x1 - x0, top, plaster, up + down, stone, 0.12)
        self.box((x0, y - 0.08, 3.1), (x1, y, 3.26), stone)
        self.box((4.9, y - 0.08, 0), (6.5, y, 0.4), stone, "flrt")
        self.box((7.85, y - 0.08, 0), (8.4, y, 0.6), stone, "flrt")
        for x, color in ((4.95, rust), (11.6, (0.3, 0.42, 0.30))):
            self.shutters(x, x + 1.0, y, 3.9, 1.65, color, 0.48)
        self.flower_box(6.55, 7.65, y - 0.1, 3.68, [(0.95, 0.80, 0.25), (0.7, 0.35, 0.75)])
        self.bay(8.2, 10.7, y, 3.6, 6.1, 0.6, self.planks((0.60, 0.56, 0.50)), stone, [(4.05, 1.5)], white)
        self.cornice(x0, x1, y, top, 0.4, stone, dentils=False)
        self.roof(x0, x1, y - 0.2, top + 0.3, 2.8, 2.2, (0.64, 0.47, 0.41))
        for x in (5.5, 8.8, 11.4):
            self.dormer(x, y + 0.35, top + 0.5, self.plain((0.70, 0.66, 0.6)), (0.85, 0.85, 0.8))
        self.chimney(7.3, y + 1.6, top + 1.2)
        poster = self.sign("JAZZ", (0.90, 0.78, 0.30), (0.65, 0.12, 0.15))
        self.box((7.82, y - 0.02, 1.3), (8.4, y, 2.1), poster, "f")
        self.box(
            (11.2, y - 0.02, 2.5), (12.9, y, 2.9), self.sign("ATELIER", (0.42, 0.38, 0.35), (0.9, 0.85, 0.75)), "f"
        )
        for k in range(2):  # crates beside the gate
            x, front = 7.78 + 0.5 * k, y - 0.75 + 0.08 * k
            self.box((x, front, 0), (x + 0.46, front + 0.42, 0.34), self.planks((0.62 - 0.1 * k, 0.5, 0.36)), "flrt")

    def bakery(self) -> None:
        """Replace the bookshop: another sign, other windows, no awning, and no boxes of books in front."""
        low, high = np.array([-10.7, -1.3, 0.0]), np.array([-5.0, 0.0, 3.2])
        corners = (p.origin + a * p.right + b * p.down for p in self.patches for a in (0, 1) for b in (0, 1))
        gone = np.array([((c > low) & (c < high)).all() for c in corners]).reshape(-1, 4).all(axis=1)
        self.patches = [p for p, is_gone in zip(self.patches, gone, strict=True) if not is_gone]
        cream, brown = (0.90, 0.85, 0.72), (0.42, 0.24, 0.15)
        self.box((-10.5, -0.12, 2.66), (-5.2, 0.0, 3.2), self.sign("BAKERY  MILLER", cream, brown), "f")
        self.box((-10.5, -0.12, 2.66), (-5.2, 0.0, 3.2), self.plain(brown), "lrtb")
        for x0, x1 in ((-10.45, -8.35), (-6.75, -5.25)):
            self.face(np.array([x0, 0.2, 2.47]), (x1 - x0) * X, -1.85 * Z, self.shop_window(brown))
        self.box((-9.9, -1.2, 0.0), (-9.0, -1.1, 1.1), self.sign("BREAD", (0.25, 0.30, 0.28), cream), "f")
        self.box((-9.9, -1.2, 0.0), (-9.0, -1.1, 1.1), self.planks((0.5, 0.4, 0.3)), "lrt")

    def row_house(self, x0: float, x1: float) -> None:
        """Add a plain house from `x0` to `x1` with random walls, windows and roof."""
        rng = self.rng
        y, top = rng.uniform(-0.4, 0.4), rng.uniform(6.0, 7.8)
        walls = (self.brick, self.plaster, self.stone)
        tone, frame = (as_color(rng.uniform(low, 0.85) * (1 + rng.normal(0, 0.07, 3))) for low in (0.62, 0.3))
        material, stone = walls[rng.integers(3)](tone), self.stone(as_color(0.76 + rng.normal(0, 0.03, 3)))
        axes = max(2, round((x1 - x0) / rng.uniform(1.6, 2.2)))
        openings = []
        for k in range(axes):
            wide = rng.uniform(0.95, 1.25)
            left = (x1 - x0) * (k + 0.5) / axes - wide / 2 + rng.normal(0, 0.05)
            openings.append(Opening(left, rng.uniform(3.9, 4.2), wide, rng.uniform(1.5, 1.8), self.window(frame)))
            if k == axes // 2:
                number = str(rng.integers(20, 99))
                openings.append(
                    Opening(left, 0.0, wide, 2.4, self.door(as_color(rng.uniform(0.25, 0.6, 3)), number), 0.3)
                )
            else:
                pane = self.window(frame, (2, 2)) if rng.random() < 0.5 else self.shop_window(frame)
                openings.append(Opening(left, rng.uniform(0.7, 1.0), wide, 1.55, pane))
        self.wall((x0, y, 0), X, x1 - x0, top, material, openings, stone, rng.uniform(0.1, 0.16))
        self.box((x0, y, 0), (x1, 0.6, top), material, "lr")
        self.box((x0, y - 0.1, 3.1), (x1, y, 3.3), stone)
        if rng.random() < 0.6:
            self.balcony(x0 + 0.6, x0 + 0.6 + (x1 - x0) / 2, y, 3.75, rng.uniform(0.5, 0.9), stone, 0.85)
        self.cornice(x0, x1, y, top, rng.uniform(0.3, 0.5), stone, dentils=bool(rng.random() < 0.5))
        self.roof(
            x0,
            x1,
            y - 0.2,
            top + 0.3,
            2.6,
            rng.uniform(1.8, 2.6),
            as_color(rng.uniform(0.4, 0.6) + rng.normal(0, 0.04, 3)),
        )
        self.dormer(rng.uniform(x0 + 0.5, x1 - 1.6), y + 0.3, top + 0.45, self.plain(tone), frame)
        self.chimney(rng.uniform(x0 + 0.2, x1 - 1.2), y + 1.5, top + 1.2)
