"""The street that the built-in capture `facade` shows: three old houses with bays, columns, balconies, and a tree.

World frame: metres, +X along the street to the right, +Y into the houses, +Z up, the middle house's front at y = -0.3.
Everything is drawn from one seed, and nothing twice: structure from motion must not take one window for another.
The place is visited again: at visit 2 the bookshop has become a bakery, and before visit 3 the street was built on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from jobs.demo.raster import Floats, Light, Patch, Scene

Color = tuple[float, float, float]
Material = Callable[[float, float], Floats]
"""Draws the albedo (h, w, 3), sRGB 0..1, of a surface of a width and height in metres."""

Visit = Literal["1", "2", "3", "elsewhere"]
"""When the photos were taken: on three days in the same street, or in another street."""

_X, _Y, _Z = np.eye(3)
_SUNS = {  # by visit: the direction to the sun, and its strength
    "1": ((-0.62, -0.70, 0.80), 1.0),
    "2": ((0.50, -0.75, 0.95), 0.8),
    "3": ((-0.30, -0.80, 0.95), 0.9),
    "elsewhere": ((-0.62, -0.70, 0.80), 1.0),
}


@dataclass(frozen=True)
class _Opening:
    """A rectangular hole in a wall: its left and lower edge, size and depth in metres, and what closes it."""

    left: float
    low: float
    width: float
    height: float
    pane: Material
    depth: float = 0.22


def surfaces(texels_per_metre: float, seed: int = 7, visit: Visit = "1") -> list[Patch]:
    """Everything in the street at a visit; `texels_per_metre` sets how fine the textures are."""
    street = _Street(texels_per_metre, seed)
    if visit == "elsewhere":
        street.rng = np.random.default_rng([seed, 4])
        street.ground(-16.0, 16.0)
        for x0, x1 in ((-14.0, -7.6), (-7.6, -2.2), (-2.2, 4.9), (4.9, 9.4), (9.4, 14.0)):
            street.row_house(x0, x1)
        street.lamp(3.6, -3.1)
        return street.patches
    street.ground(-16.0, 16.0)
    street.left_house()
    street.middle_house()
    street.right_house()
    street.tree(2.9, -3.5)
    street.lamp(-4.6, -3.0)
    street.bench(-7.2, -2.6)
    # What changes between visits comes last, from seeds of its own: all else stays as it was.
    if visit == "2":
        street.rng = np.random.default_rng([seed, 2])
        street.bakery()
    if visit == "3":
        street.rng = np.random.default_rng([seed, 3])
        street.ground(16.0, 32.0)
        for x0, x1 in ((13.5, 19.2), (19.2, 24.0), (24.0, 30.0)):
            street.row_house(x0, x1)
        street.lamp(12.4, -3.1)
    return street.patches


def light(patches: Sequence[Patch], seed: int = 7, visit: Visit = "1") -> Scene:
    """The street on a bright day: the sky, and the sun where it stands at that visit (first: low, from the left)."""
    rng = np.random.default_rng(seed)
    sun, strength = np.array(_SUNS[visit][0]), _SUNS[visit][1]
    color = np.array([1.75, 1.52, 1.16]) / 4 * strength
    suns = [_light(sun + rng.normal(0, 0.012, 3), color) for _ in range(4)]
    skies = []
    count = 20
    for k in range(count):  # a Fibonacci spiral over the upper hemisphere, folded to the side that the houses face
        z, turn = (k + 0.5) / count, k * np.pi * (3 - 5**0.5)
        blue = np.array([0.60, 0.78, 1.0]) * z + np.array([0.95, 0.97, 1.0]) * (1 - z)
        direction = np.array([np.cos(turn) * (1 - z * z) ** 0.5, -abs(np.sin(turn)) * (1 - z * z) ** 0.5, z])
        skies.append(_light(direction, blue * 2.0 / count))
    bounce = np.array([0.55, 0.51, 0.45])
    return Scene(patches, suns, skies, bounce, np.array([[0.84, 0.89, 0.94], [0.45, 0.64, 0.88]]))


def _light(direction: Floats, color: Floats) -> Light:
    return Light(direction / np.linalg.norm(direction), color)


class _Street:
    """Collects the street's patches; each method builds one thing."""

    def __init__(self, texels_per_metre: float, seed: int) -> None:
        self.fine = texels_per_metre
        self.rng = np.random.default_rng(seed)
        self.patches: list[Patch] = []

    # Materials

    def size(self, width: float, height: float) -> tuple[int, int]:
        """Rows and columns of the texture of a surface."""
        return max(2, round(height * self.fine)), max(2, round(width * self.fine))

    def noise(self, width: float, height: float, coarse: float, octaves: int = 4, stretch: float = 1.0) -> Floats:
        """(h, w) smooth noise of about -1..1: octaves from `coarse` metres down, features `stretch` times as high."""
        rows, columns = self.size(width, height)
        total = np.zeros((rows, columns), np.float32)
        for octave in range(octaves):
            cell = coarse / 2**octave
            grid = self.rng.normal(size=(int(height / cell / stretch) + 3, int(width / cell) + 3)).astype(np.float32)
            top, left = self.rng.random(2)
            box = (left, top, left + width / cell + 1, top + height / cell / stretch + 1)
            image = Image.fromarray(grid).resize((columns, rows), Image.Resampling.BICUBIC, box=box)
            total += np.asarray(image) * 0.55**octave
        return total * 0.6

    def grain(self, width: float, height: float, color: Color, amount: float = 0.1, coarse: float = 0.6) -> Floats:
        """An even material with stains, specks and rain streaks."""
        stains = self.noise(width, height, coarse, 5)
        streaks = self.noise(width, height, 0.12, 2, stretch=9)
        specks = self.rng.normal(size=stains.shape) * 0.35
        shade = 1 + amount * (stains + 0.5 * streaks + specks)
        return np.multiply(color, shade[..., None])

    def courses(
        self,
        width: float,
        height: float,
        color: Color,
        block: tuple[float, float],
        joint: float,
        joint_color: Color,
        vary: float = 0.2,
        uneven: float = 0.25,
    ) -> Floats:
        """Masonry, slates, planks: rows of blocks of about `block` (width, height) metres, each of its own shade."""
        rows, columns = self.size(width, height)
        y, x = (np.arange(rows) + 0.5) / self.fine, (np.arange(columns) + 0.5) / self.fine
        lines = _edges(self.rng, height, block[1], uneven * 0.3)
        course = np.searchsorted(lines, y) - 1
        to_line = np.minimum(y - lines[course], lines[course + 1] - y)
        result = self.grain(width, height, (1, 1, 1), 0.07, 0.25).astype(np.float32)
        for k in np.unique(course):
            edges = _edges(self.rng, width, block[0], uneven)
            brick = np.searchsorted(edges, x) - 1
            to_edge = np.minimum(x - edges[brick], edges[brick + 1] - x)
            tone = 1 + vary * self.rng.normal(size=(len(edges), 1)) + 0.3 * vary * self.rng.normal(size=(len(edges), 3))
            inside = np.minimum(to_edge[None], to_line[course == k][:, None])
            weight = np.clip(inside / joint, 0, 1)[..., None]
            weight = np.clip(2 * weight - 0.5, 0, 1)
            result[course == k] *= weight * (tone[brick] * np.asarray(color)) + (1 - weight) * np.asarray(joint_color)
        stains = self.noise(width, height, 1.5, 4)
        return result * (1 + 0.10 * stains[..., None])

    def cut(self, draw: Material, side: float = 2.0) -> Material:
        """A material whose small pieces are cut at random from one sheet of `side` x `side` metres: drawn once."""
        sheets: list[Floats] = []

        def material(width: float, height: float) -> Floats:
            if max(width, height) >= side:
                return draw(width, height)
            if not sheets:
                sheets.append(draw(side, side))
            rows, columns = self.size(width, height)
            room = np.array(sheets[0].shape[:2]) - [rows, columns]
            top, left = self.rng.integers(0, room + 1)
            return sheets[0][top : top + rows, left : left + columns]

        return material

    def brick(self, color: Color) -> Material:
        joint = (0.68, 0.62, 0.56)
        return self.cut(lambda w, h: self.courses(w, h, color, (0.24, 0.085), 0.011, joint, 0.13))

    def stone(self, color: Color, block: tuple[float, float] = (0.62, 0.31)) -> Material:
        dark = (color[0] * 0.75, color[1] * 0.75, color[2] * 0.75)
        return self.cut(lambda w, h: self.courses(w, h, color, block, 0.013, dark, 0.07))

    def plaster(self, color: Color) -> Material:
        def draw(width: float, height: float) -> Floats:
            result = self.grain(width, height, color, 0.09, 0.8)
            bare = self.noise(width, height, 0.9, 5) - 0.25 * self.noise(width, height, 0.08, 2)
            patch = np.clip((bare - 1.05) * 12, 0, 1)[..., None]  # where the plaster fell off, bricks show
            bricks = self.courses(width, height, (0.60, 0.38, 0.30), (0.24, 0.085), 0.012, (0.66, 0.62, 0.56))
            result = result * (1 - patch) + bricks * patch
            image = _image(result)
            pen = ImageDraw.Draw(image)
            for _ in range(int(width * height * 0.35)):  # cracks
                at = self.rng.random(2) * [width, height]
                angle = self.rng.random() * 6.3
                path = []
                for _ in range(self.rng.integers(6, 22)):
                    path.append(tuple(at * self.fine))
                    angle += self.rng.normal() * 0.5
                    at = at + 0.06 * np.array([np.cos(angle), np.sin(angle)])
                shade = self.rng.uniform(0.5, 0.8)
                pen.line(path, fill=_rgb(np.multiply(color, shade)), width=max(1, round(self.fine * 0.008)))
            return _image_array(image)

        return draw

    def plain(self, color: Color, amount: float = 0.08) -> Material:
        return self.cut(lambda w, h: self.grain(w, h, color, amount, 0.3))

    def planks(self, color: Color) -> Material:
        def draw(width: float, height: float) -> Floats:
            dark = (color[0] * 0.6, color[1] * 0.6, color[2] * 0.6)
            boards = self.courses(height, width, color, (2.5, 0.13), 0.009, dark, 0.13)
            return boards.transpose(1, 0, 2)

        return self.cut(draw)

    def shutter(self, color: Color) -> Material:
        """Louvred, with a frame; its paint peels."""

        def draw(width: float, height: float) -> Floats:
            result = self.grain(width, height, color, 0.10, 0.2)
            rows, columns = result.shape[:2]
            y, x = np.mgrid[:rows, :columns] / self.fine
            louvre = 0.62 + 0.5 * ((y / 0.055) % 1)
            frame = (
                (np.minimum(x, width - x) < 0.05) | (np.minimum(y, height - y) < 0.06) | (abs(y - height / 2) < 0.04)
            )
            peeled = np.clip((self.noise(width, height, 0.15, 3) - 1.0) * 8, 0, 1)[..., None]
            result = result * np.where(frame, 1.0, louvre)[..., None]
            painted: Floats = result * (1 - peeled) + np.array([0.62, 0.52, 0.42]) * peeled
            return painted

        return draw

    def window(self, frame: Color, bars: tuple[int, int] = (2, 3)) -> Material:
        """A window with `bars` (columns, rows) of panes; what stands behind the glass is different in each."""

        def draw(width: float, height: float) -> Floats:
            rng, s = self.rng, self.fine
            glass = np.array([0.40, 0.46, 0.52]) * rng.uniform(0.85, 1.15)
            fade = np.linspace(1.25, 0.85, self.size(width, height)[0])[:, None, None]
            image = _image(self.grain(width, height, tuple(glass), 0.15, 0.5) * fade)
            pen = ImageDraw.Draw(image)
            cloth = (rng.uniform(0.6, 0.95) + rng.normal(0, 0.07, 3)) * rng.choice([0.75, 1.0])
            style = rng.integers(4)
            for side in (0, 1):  # curtains, drawn unevenly
                reach = width * rng.uniform(0.12, 0.42)
                folds = rng.integers(4, 9)
                for k in range(folds):
                    shade = cloth * rng.uniform(0.65, 1.0)
                    near, far = reach * k / folds, reach * (k + 1) / folds
                    if side:
                        near, far = width - far, width - near
                    drop = height * (rng.uniform(0.85, 1.0) if style else rng.uniform(0.4, 0.6))
                    pen.rectangle([near * s, 0, far * s, drop * s], fill=_rgb(shade))
            if style == 1:  # a blind
                drop = height * rng.uniform(0.15, 0.5)
                color = rng.uniform(0.6, 0.9, 3)
                for k in range(int(drop / 0.05)):
                    pen.rectangle(
                        [0, k * 0.05 * s, width * s, (k + 0.7) * 0.05 * s], fill=_rgb(color * (0.8 + 0.2 * (k % 2)))
                    )
            for _ in range(rng.integers(2, 6)):  # things on the sill
                x, tall, wide = rng.uniform(0.1, 0.9) * width, rng.uniform(0.08, 0.35), rng.uniform(0.04, 0.1)
                box = [(x - wide) * s, (height - tall) * s, (x + wide) * s, height * s]
                (pen.ellipse if rng.random() < 0.4 else pen.rectangle)(box, fill=_rgb(rng.uniform(0.3, 0.8, 3)))
                for _ in range(rng.integers(0, 14)):
                    a, b = rng.normal(0, 0.07, 2)
                    leaf = [
                        (x + a - 0.02) * s,
                        (height - tall + b - 0.05) * s,
                        (x + a + 0.02) * s,
                        (height - tall + b) * s,
                    ]
                    pen.ellipse(leaf, fill=_rgb(np.array([0.2, 0.45, 0.15]) * rng.uniform(0.6, 1.5)))
            bar, rim = 0.035, 0.07
            for axis, length in enumerate((width, height)):
                for k in range(bars[axis] + 1):
                    at, half = length * k / bars[axis], rim if k in (0, bars[axis]) else bar
                    for low, high, shade in ((-half, 0.6 * half, 1.0), (0.6 * half, half, 0.75)):
                        across = ((at + low) * s, (at + high) * s)
                        box = (
                            [across[0], 0, across[1], height * s] if axis == 0 else [0, across[0], width * s, across[1]]
                        )
                        pen.rectangle(box, fill=_rgb(np.multiply(frame, shade)))
            return _image_array(image) * self.grain(width, height, (1, 1, 1), 0.05, 0.2)

        return draw

    def shop_window(self, frame: Color) -> Material:
        """Shelves of books in all colours."""

        def draw(width: float, height: float) -> Floats:
            rng, s = self.rng, self.fine
            image = _image(self.grain(width, height, (0.40, 0.31, 0.24), 0.15, 0.4))
            pen = ImageDraw.Draw(image)
            shelves = np.linspace(0.32, 1, max(3, round(height / 0.42))) * height
            for y in shelves:
                x = 0.06
                while x < width - 0.1:
                    wide, tall = rng.uniform(0.025, 0.09), rng.uniform(0.16, 0.32)
                    color = rng.uniform(0.2, 0.8, 3)
                    if rng.random() < 0.85:
                        pen.rectangle([x * s, (y - tall) * s, (x + wide) * s, y * s], fill=_rgb(color))
                        band = y - tall * rng.uniform(0.3, 0.9)
                        pen.rectangle([x * s, band * s, (x + wide) * s, (band + 0.025) * s], fill=_rgb(1.1 - color))
                    x += wide + 0.006
                pen.rectangle([0, y * s, width * s, (y + 0.04) * s], fill=_rgb([0.45, 0.30, 0.18]))
            for x in (0, width / 2, width):
                pen.rectangle([(x - 0.05) * s, 0, (x + 0.05) * s, height * s], fill=_rgb(frame))
            for y in (0, height):
                pen.rectangle([0, (y - 0.07) * s, width * s, (y + 0.07) * s], fill=_rgb(frame))
            return _image_array(image)

        return draw

    def door(self, color: Color, number: str) -> Material:
        """A panelled door with a fanlight, a letter slot and its number."""

        def draw(width: float, height: float) -> Floats:
            rng, s = self.rng, self.fine
            image = _image(self.grain(width, height, color, 0.10, 0.3))
            pen = ImageDraw.Draw(image)
            light = height * 0.2
            pen.rectangle([0.08 * s, 0.08 * s, (width - 0.08) * s, light * s], fill=_rgb([0.42, 0.47, 0.52]))
            for angle in np.linspace(0.15, 3.0, 7):
                end = (width / 2 + np.cos(angle) * width, light - np.sin(angle) * width)
                pen.line([width / 2 * s, light * s, end[0] * s, end[1] * s], fill=_rgb(color), width=round(0.025 * s))
            pen.rectangle([0, light * s, width * s, (light + 0.12) * s], fill=_rgb(np.multiply(color, 0.8)))
            for column in (0, 1):
                for top, low in ((0.28, 0.52), (0.56, 0.70), (0.74, 0.95)):
                    box = [width * (0.1 + 0.43 * column), height * top, width * (0.47 + 0.43 * column), height * low]
                    for inset, shade in ((0, 0.55), (0.02, 1.25), (0.04, 0.85)):
                        edges = [box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset]
                        pen.rectangle(
                            [e * s for e in edges], fill=_rgb(np.multiply(color, shade * rng.uniform(0.93, 1.07)))
                        )
            brass = _rgb([0.85, 0.68, 0.30])
            pen.rectangle([width * 0.38 * s, height * 0.53 * s, width * 0.62 * s, height * 0.55 * s], fill=brass)
            pen.ellipse(
                [width * 0.86 * s, height * 0.60 * s, (width * 0.86 + 0.07) * s, (height * 0.60 + 0.07) * s], fill=brass
            )
            pen.text((width / 2 * s, height * 0.40 * s), number, fill=brass, anchor="mm", font=_font(0.22 * s))
            return _image_array(image) * self.grain(width, height, (1, 1, 1), 0.06, 0.2)

        return draw

    def sign(self, text: str, back: Color, ink: Color) -> Material:
        def draw(width: float, height: float) -> Floats:
            s = self.fine
            image = _image(self.grain(width, height, back, 0.07, 0.3))
            pen = ImageDraw.Draw(image)
            edge = [0.05 * s, 0.05 * s, (width - 0.05) * s, (height - 0.05) * s]
            pen.rectangle(edge, outline=_rgb(ink), width=max(1, round(0.02 * s)))
            font = _font(s * min(height * 0.62, width * 1.25 / len(text)))
            pen.text((width / 2 * s, height / 2 * s), text, fill=_rgb(ink), anchor="mm", font=font)
            return _image_array(image) * self.grain(width, height, (1, 1, 1), 0.05, 0.2)

        return draw

    def stripes(self, first: Color, second: Color, pitch: float = 0.34) -> Material:
        def draw(width: float, height: float) -> Floats:
            result = self.grain(width, height, (1, 1, 1), 0.09, 0.4)
            band = ((np.arange(result.shape[1]) / self.fine / pitch) % 2).astype(int)
            return np.multiply(result, np.array([first, second])[band])

        return draw

    def railing(self, width: float, height: float) -> NDArray[np.bool_]:
        """(h, w) a wrought-iron railing: where there is iron."""
        s = self.fine * 2
        image = Image.new("1", (max(2, round(width * s)), max(2, round(height * s))))
        pen = ImageDraw.Draw(image)
        thick = max(2, round(0.028 * s))
        for y in (0.02, 0.16, height - 0.06):
            pen.line([0, y * s, width * s, y * s], fill=1, width=thick)
        bars = max(2, round(width / 0.125))
        for k in range(bars + 1):
            x = min(max(width * k / bars, 0.014), width - 0.014)
            pen.line([x * s, 0, x * s, height * s], fill=1, width=thick)
            if k < bars and self.rng.random() < 0.8:  # rings and scrolls between the bars
                middle, radius = x + width / bars / 2, 0.045
                y = self.rng.choice([0.09, height * 0.5, height * 0.62])
                box = [(middle - radius) * s, (y - radius) * s, (middle + radius) * s, (y + radius) * s]
                pen.ellipse(box, outline=1, width=thick)
        return np.asarray(image)

    # Shapes

    def face(
        self,
        origin: Floats,
        right: Floats,
        down: Floats,
        material: Material,
        opaque: NDArray[np.bool_] | None = None,
        two_sided: bool = False,
    ) -> Patch:
        """One patch with its own piece of a material."""
        color = material(float(np.linalg.norm(right)), float(np.linalg.norm(down)))
        self.patches.append(Patch(origin, right, down, color, opaque, two_sided))
        return self.patches[-1]

    def box(self, low: Sequence[float], high: Sequence[float], material: Material, faces: str = "flrtb") -> None:
        """An axis-aligned box; `faces`: front, left, right, top, bottom."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        w, d, h = (x1 - x0) * _X, (y1 - y0) * _Y, (z1 - z0) * _Z
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
        openings: Sequence[_Opening] = (),
        trim: Material | None = None,
        surround: float = 0.0,
    ) -> None:
        """An upright wall from its lower left corner `start` in the unit direction `along`, with windows set in.

        Args:
            trim: the material of reveals, sills and surrounds.
            surround: width of the raised frame about each opening, metres; 0 for none.
        """
        inward = np.cross(_Z, along)
        top_left = np.array(start) + height * _Z
        patch = self.face(top_left, width * along, -height * _Z, material)
        rows, columns = patch.color.shape[:2]
        y, x = (np.arange(rows) + 0.5) * height / rows, (np.arange(columns) + 0.5) * width / columns
        solid = np.ones((rows, columns), bool)
        trim = trim or material
        for o in openings:
            top = height - o.low - o.height
            column = np.searchsorted(x, [o.left, o.left + o.width])
            row = np.searchsorted(y, [top, top + o.height])
            solid[row[0] : row[1], column[0] : column[1]] = False
            corner = top_left + o.left * along - top * _Z
            wide, tall, deep = o.width * along, -o.height * _Z, o.depth * inward
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
        faces: str = "flrtb",
    ) -> None:
        """A box that stands `out` metres proud of the wall that runs from `start` in the direction `along`."""
        inward = np.cross(_Z, along)
        corner = np.array(start) + left * along + (low + height) * _Z - out * inward
        wide, tall, deep = width * along, -height * _Z, out * inward
        sides = {
            "f": (corner, wide, tall),
            "l": (corner + deep, -deep, tall),
            "r": (corner + wide, deep, tall),
            "t": (corner + deep, wide, -deep),
            "b": (corner + tall, wide, deep),
        }
        for name in faces:
            self.face(*sides[name], material)

    def cylinder(self, foot: Floats, axis: Floats, radius: float, material: Material, facets: int = 18) -> None:
        """A round bar from `foot` along `axis` (3,), metres, without ends."""
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
        """A column with a base and a capital."""
        for z, half, tall in (
            (low, 1.45, 0.16),
            (low + 0.16, 1.22, 0.09),
            (high - 0.2, 1.2, 0.08),
            (high - 0.12, 1.5, 0.12),
        ):
            r = radius * half
            self.box((x - r, y - r, z), (x + r, y + r, z + tall), material)
        self.cylinder(np.array([x, y, low + 0.2]), (high - low - 0.35) * _Z, radius, material)

    def cornice(
        self, x0: float, x1: float, y: float, z: float, out: float, material: Material, dentils: bool = True
    ) -> None:
        """Three stepped mouldings along the house front, and a row of dentils below."""
        for k, (low, tall) in enumerate(((0, 0.10), (0.10, 0.12), (0.22, 0.08))):
            self.box((x0, y - out * (k + 1) / 3, z + low), (x1, y, z + low + tall), material)
        if dentils:
            for x in np.arange(x0 + 0.1, x1 - 0.15, 0.3):
                self.box((x, y - out * 0.3, z - 0.12), (x + 0.14, y, z), material, "flrb")

    def balcony(
        self, x0: float, x1: float, y: float, z: float, out: float, stone: Material, tall: float = 0.95
    ) -> None:
        """A slab on brackets, with an iron railing on three sides."""
        self.box((x0, y - out, z - 0.14), (x1, y, z), stone)
        for x in (x0 + 0.15, x1 - 0.33):
            self.box((x, y - out * 0.8, z - 0.32), (x + 0.18, y, z - 0.14), stone)
            self.box((x, y - out * 0.4, z - 0.55), (x + 0.18, y, z - 0.32), stone)
        iron, inset = self.plain((0.30, 0.33, 0.34), 0.15), 0.06
        front, width, deep = y - out + inset, x1 - x0 - 2 * inset, (out - inset) * _Y
        top = z + tall
        for origin, right in (
            (np.array([x0 + inset, front, top]), width * _X),
            (np.array([x0 + inset, y, top]), -deep),
            (np.array([x1 - inset, front, top]), deep),
        ):
            bars = self.railing(float(np.linalg.norm(right)), tall)
            self.face(origin, right, -tall * _Z, iron, opaque=bars, two_sided=True)
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
        """A projecting window of three sides, the outer ones at 45 degrees, with windows of `floors` (sill, height)."""
        points = np.array([[x0, y, z0], [x0 + out, y - out, z0], [x1 - out, y - out, z0], [x1, y, z0]])
        for k in range(3):
            edge = points[k + 1] - points[k]
            width = float(np.linalg.norm(edge))
            along, margin = edge / width, 0.16
            panes = [
                _Opening(margin, sill - z0, width - 2 * margin, tall, self.window(frame, (2 if k == 1 else 1, 3)), 0.14)
                for sill, tall in floors
            ]
            self.wall(points[k], along, width, z1 - z0, material, panes, trim)
            for low, tall, proud in ((0, 0.12, 0.07), (z1 - z0 - 0.22, 0.12, 0.06), (z1 - z0 - 0.1, 0.12, 0.13)):
                self.slab(points[k], along, -proud * 0.4, low, width + proud * 0.8, tall, proud, trim)
        for z, up in ((z0, False), (z1, True)):
            self.cap(x0, x1, y, z, out + (0.12 if up else 0.0), trim, up)
        if z0 > 1:  # corbels carry it
            for k in range(1, 5):
                shrink = out * k / 5
                low, high = z0 - 0.13 * k, z0 - 0.13 * (k - 1)
                self.box((x0 + shrink + 0.1, y - out + shrink, low), (x1 - shrink - 0.1, y, high), trim)

    def cap(self, x0: float, x1: float, y: float, z: float, out: float, material: Material, up: bool) -> None:
        """The trapezoid that closes a bay above (`up`) or below."""
        origin = np.array([x0, y if up else y - out, z])
        patch = self.face(origin, (x1 - x0) * _X, (-out if up else out) * _Y, material)
        rows, columns = patch.color.shape[:2]
        b, a = np.mgrid[:rows, :columns].astype(float)
        reach = (b + 0.5) / rows * out if up else (1 - (b + 0.5) / rows) * out
        x = (a + 0.5) / columns * (x1 - x0)
        patch.opaque = (x >= reach) & (x <= (x1 - x0) - reach)

    def shutters(self, x0: float, x1: float, y: float, z: float, tall: float, color: Color, wide: float = 0.5) -> None:
        """A pair beside a window that spans x0..x1, one of them ajar."""
        for side, edge in ((-1, x0), (1, x1)):
            angle = self.rng.uniform(0.05, 0.5)
            away = side * np.cos(angle) * _X - np.sin(angle) * _Y
            hinge = np.array([edge + side * 0.16, y - 0.05, z + tall])
            origin, right = (hinge + wide * away, -wide * away) if side < 0 else (hinge, wide * away)
            self.face(origin, right, -tall * _Z, self.shutter(color), two_sided=True)

    def foliage(self, centers: Floats, around: Floats, span: float, leaf: float, colors: Sequence[Color]) -> None:
        """Cards of leaves at `centers` (n, 3), shaded as if their normals pointed away from `around` (3,)."""
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
                pen.polygon(outline.ravel().tolist(), fill=(*_rgb(color), 255))
            pixels = np.asarray(image)
            opaque = pixels[..., 3] > 0
            filled = np.where(opaque[..., None], pixels[..., :3] / 255, np.asarray(colors[0]))
            out = (center - around) / np.linalg.norm(center - around)
            normal = out + 0.4 * _Z - 0.3 * _Y
            normal /= np.linalg.norm(normal)
            origin = center - (right + down) / 2
            self.patches.append(Patch(origin, right, down, filled, opaque, True, np.stack([normal, normal])))

    # Things

    def ground(self, x0: float, x1: float) -> None:
        cobble = (0.60, 0.58, 0.56)
        width = (x1 - x0) * _X

        def road(width: float, height: float) -> Floats:
            stones = self.courses(width, height, cobble, (0.17, 0.13), 0.016, (0.42, 0.41, 0.40), 0.11)
            return stones * (1 + 0.16 * self.noise(width, height, 2.5, 3))[..., None]

        slabs = self.stone((0.66, 0.63, 0.59), (0.75, 0.5))
        self.face(np.array([x0, 0.6, 0.0]), width, -4.4 * _Y, slabs)
        self.face(np.array([x0, -3.8, 0.0]), width, -0.22 * _Y, self.stone((0.70, 0.69, 0.67), (1.1, 0.3)))
        self.face(np.array([x0, -4.02, 0.0]), width, -0.14 * _Z, self.stone((0.62, 0.61, 0.6), (1.1, 0.3)))
        self.face(np.array([x0, -4.02, -0.14]), width, -5.0 * _Y, road)

    def roof(self, x0: float, x1: float, y: float, z: float, deep: float, rise: float, color: Color) -> None:
        width, slope = x1 - x0, np.array([0, -deep, -rise])
        tiles = self.courses(width, float(np.hypot(deep, rise)), color, (0.26, 0.18), 0.012, (0.32, 0.32, 0.34), 0.12)
        self.patches.append(Patch(np.array([x0, y + deep, z + rise]), width * _X, slope, tiles))

    def dormer(self, x: float, y: float, z: float, material: Material, frame: Color) -> None:
        """A small window with a lead roof that looks out of the roof slope."""
        pane = _Opening(0.16, 0.16, 0.78, 0.9, self.window(frame, (2, 2)), 0.1)
        self.wall((x, y, z), _X, 1.1, 1.25, material, [pane])
        self.box((x, y + 0.01, z), (x + 1.1, y + 1.6, z + 1.25), material, "lr")
        self.box((x - 0.12, y - 0.16, z + 1.25), (x + 1.22, y + 1.6, z + 1.37), self.plain((0.42, 0.44, 0.47), 0.12))

    def chimney(self, x: float, y: float, z: float) -> None:
        self.box((x, y, z), (x + 0.9, y + 0.6, z + 1.9), self.brick((0.55, 0.33, 0.27)), "flrt")
        self.box((x - 0.08, y - 0.08, z + 1.7), (x + 0.98, y + 0.6, z + 1.85), self.plain((0.6, 0.58, 0.54)))
        for dx in (0.2, 0.55):
            self.cylinder(
                np.array([x + dx + 0.08, y + 0.3, z + 1.85]), 0.45 * _Z, 0.11, self.plain((0.66, 0.38, 0.26)), 10
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

    def left_house(self) -> None:
        x0, x1, y, top = -13.5, -4.7, 0.0, 7.0
        brick, stone = self.brick((0.70, 0.45, 0.37)), self.stone((0.80, 0.75, 0.66))
        green, white = (0.25, 0.45, 0.38), (0.86, 0.84, 0.79)
        up = [
            _Opening(x - x0, 4.15, 1.05, 1.75, self.window(white, bars))
            for x, bars in ((-12.6, (2, 3)), (-10.6, (2, 4)), (-6.35, (2, 3)))
        ]
        down = [
            _Opening(0.6, 0.0, 1.15, 2.55, self.door((0.56, 0.30, 0.26), "12"), 0.3),
            _Opening(3.05, 0.62, 2.1, 1.85, self.shop_window(green), 0.3),
            _Opening(5.5, 0.0, 0.95, 2.45, self.door(green, "14"), 0.35),
            _Opening(6.75, 0.62, 1.5, 1.85, self.shop_window(green), 0.3),
        ]
        self.wall((x0, y, 0), _X, x1 - x0, top, brick, up + down, stone, 0.14)
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
        self.face(np.array([-10.55, y - 0.12, 2.68]), 2.35 * _X, slope, awning, two_sided=True)
        self.face(np.array([-10.55, y - 1.17, 2.18]), 2.35 * _X, -0.18 * _Z, awning, two_sided=True)
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
            self.face(np.array([x, y - 0.3, 0.7 + 0.1 * k]), 0.8 * _X, -0.45 * _Y, self.shop_window(green))
            self.box((x + 0.1, y - 0.7, 0), (x + 0.7, y - 0.35, 0.45 + 0.1 * k), self.planks((0.3, 0.22, 0.16)), "flr")

    def middle_house(self) -> None:
        x0, x1, y, top = -4.7, 4.3, -0.3, 7.6
        plaster, stone = self.plaster((0.88, 0.76, 0.56)), self.stone((0.83, 0.80, 0.73))
        base = self.stone((0.74, 0.69, 0.60), (0.85, 0.42))
        white, blue = (0.88, 0.87, 0.83), (0.40, 0.54, 0.64)
        up = [
            _Opening(-0.55 - x0, 0.75, 1.1, 2.35, self.window(white, (2, 4)), 0.3),  # the balcony's door
            _Opening(2.15 - x0, 1.0, 1.1, 1.85, self.window(white, (2, 3))),
        ]
        down = [
            _Opening(-0.65 - x0, 0.36, 1.3, 2.55, self.door((0.28, 0.44, 0.56), "16"), 0.4),
            _Opening(2.1 - x0, 0.95, 1.2, 1.75, self.window(white, (2, 2))),
        ]
        self.wall((x0, y, 3.4), _X, x1 - x0, top - 3.4, plaster, up, stone, 0.16)
        self.wall((x0, y, 0), _X, x1 - x0, 3.4, base, down, stone, 0.16)
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
            2.6 * _X,
            -0.22 * _Z,
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
            _Opening(x - x0, 3.9, 1.0, 1.65, self.window(white, bars))
            for x, bars in ((4.95, (2, 3)), (6.6, (1, 2)), (11.6, (2, 2)))
        ]
        down = [
            _Opening(0.6, 0.9, 1.15, 1.5, self.window((0.3, 0.2, 0.15), (3, 2))),
            _Opening(2.35, 0.0, 1.05, 2.4, self.door(rust, "18"), 0.35),
            _Opening(4.2, 0.0, 2.5, 2.6, self.planks((0.45, 0.33, 0.24)), 0.3),
            _Opening(7.4, 0.9, 1.2, 1.5, self.window((0.3, 0.2, 0.15), (2, 2))),
        ]
        self.wall((x0, y, 0), _X, x1 - x0, top, plaster, up + down, stone, 0.12)
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
        """What the bookshop has become: another sign, other windows, no awning, and no boxes of books before it."""
        low, high = np.array([-10.7, -1.3, 0.0]), np.array([-5.0, 0.0, 3.2])
        corners = (p.origin + a * p.right + b * p.down for p in self.patches for a in (0, 1) for b in (0, 1))
        gone = np.array([((c > low) & (c < high)).all() for c in corners]).reshape(-1, 4).all(axis=1)
        self.patches = [p for p, is_gone in zip(self.patches, gone, strict=True) if not is_gone]
        cream, brown = (0.90, 0.85, 0.72), (0.42, 0.24, 0.15)
        self.box((-10.5, -0.12, 2.66), (-5.2, 0.0, 3.2), self.sign("BAKERY  MILLER", cream, brown), "f")
        self.box((-10.5, -0.12, 2.66), (-5.2, 0.0, 3.2), self.plain(brown), "lrtb")
        for x0, x1 in ((-10.45, -8.35), (-6.75, -5.25)):
            self.face(np.array([x0, 0.2, 2.47]), (x1 - x0) * _X, -1.85 * _Z, self.shop_window(brown))
        self.box((-9.9, -1.2, 0.0), (-9.0, -1.1, 1.1), self.sign("BREAD", (0.25, 0.30, 0.28), cream), "f")
        self.box((-9.9, -1.2, 0.0), (-9.0, -1.1, 1.1), self.planks((0.5, 0.4, 0.3)), "lrt")

    def row_house(self, x0: float, x1: float) -> None:
        """A plain house from `x0` to `x1`: its walls, windows and roof are drawn from the seed."""
        rng = self.rng
        y, top = rng.uniform(-0.4, 0.4), rng.uniform(6.0, 7.8)
        walls = (self.brick, self.plaster, self.stone)
        tone, frame = (_tone(rng.uniform(low, 0.85) * (1 + rng.normal(0, 0.07, 3))) for low in (0.62, 0.3))
        material, stone = walls[rng.integers(3)](tone), self.stone(_tone(0.76 + rng.normal(0, 0.03, 3)))
        axes = max(2, round((x1 - x0) / rng.uniform(1.6, 2.2)))
        openings = []
        for k in range(axes):
            wide = rng.uniform(0.95, 1.25)
            left = (x1 - x0) * (k + 0.5) / axes - wide / 2 + rng.normal(0, 0.05)
            openings.append(_Opening(left, rng.uniform(3.9, 4.2), wide, rng.uniform(1.5, 1.8), self.window(frame)))
            if k == axes // 2:
                number = str(rng.integers(20, 99))
                openings.append(
                    _Opening(left, 0.0, wide, 2.4, self.door(_tone(rng.uniform(0.25, 0.6, 3)), number), 0.3)
                )
            else:
                pane = self.window(frame, (2, 2)) if rng.random() < 0.5 else self.shop_window(frame)
                openings.append(_Opening(left, rng.uniform(0.7, 1.0), wide, 1.55, pane))
        self.wall((x0, y, 0), _X, x1 - x0, top, material, openings, stone, rng.uniform(0.1, 0.16))
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
            _tone(rng.uniform(0.4, 0.6) + rng.normal(0, 0.04, 3)),
        )
        self.dormer(rng.uniform(x0 + 0.5, x1 - 1.6), y + 0.3, top + 0.45, self.plain(tone), frame)
        self.chimney(rng.uniform(x0 + 0.2, x1 - 1.2), y + 1.5, top + 1.2)

    def blob(self, center: Floats, radius: float, count: int) -> Floats:
        """(count, 3) points in a ball, denser near its skin."""
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
            self.cylinder(fork - 0.1 * _Z, tip - fork, 0.05, bark, 7)
            self.foliage(self.blob(tip, 0.75, 42), crown - 0.5 * _Z, 0.42, 0.055, greens)
        self.foliage(self.blob(crown + 0.8 * _Z, 0.8, 40), crown - 0.5 * _Z, 0.42, 0.055, greens)
        self.box((x - 0.6, y - 0.25, 0.0), (x + 0.6, y + 0.6, 0.03), self.plain((0.33, 0.25, 0.18), 0.3), "flrt")

    def lamp(self, x: float, y: float) -> None:
        iron = self.plain((0.27, 0.36, 0.33), 0.15)
        self.box((x - 0.16, y - 0.16, 0), (x + 0.16, y + 0.16, 0.5), iron)
        self.cylinder(np.array([x, y, 0.5]), 2.9 * _Z, 0.055, iron, 10)
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


def _edges(rng: np.random.Generator, length: float, pitch: float, uneven: float) -> Floats:
    """Ascending positions about `pitch` apart, from before 0 to beyond `length`."""
    steps = pitch * (1 + uneven * rng.uniform(-1, 1, int(length / pitch / (1 - uneven)) + 4))
    edges = np.cumsum(steps) - pitch * (1.5 + rng.random())
    return np.concatenate([[min(-pitch, edges[0] - pitch)], edges])


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(6, round(size)))


def _tone(color: Floats) -> Color:
    red, green, blue = color.tolist()
    return red, green, blue


def _rgb(color: Floats | Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (int(255 * min(max(float(c), 0), 1)) for c in color)
    return red, green, blue


def _image(color: Floats) -> Image.Image:
    return Image.fromarray((np.clip(color, 0, 1) * 255).astype(np.uint8))


def _image_array(image: Image.Image) -> Floats:
    return np.asarray(image).astype(np.float32) / np.float32(255)
