"""The street's textures: masonry, wood, plaster, windows, doors and signs, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from jobs.demo.raster import Floats

__all__ = ["Color", "Material", "Textures", "as_color", "rgb"]

_UNEVEN = 0.25  # relative variation of the widths of blocks
_SHEET = 2.0  # metres: the side of the sheet from which small pieces are cut
_STRIPE = 0.34  # metres: the width of a stripe

Color = tuple[float, float, float]
Material = Callable[[float, float], Floats]
"""Draws the albedo (h, w, 3), in sRGB 0..1, of a surface with a width and height in metres."""


class Textures:
    """Draws textures in sequence from one random generator.

    Args:
        texels_per_metre: the resolution of the textures.
        seed: the seed of the random generator.
    """

    def __init__(self, texels_per_metre: float, seed: int) -> None:
        self.fine = texels_per_metre
        self.rng = np.random.default_rng(seed)

    def size(self, width: float, height: float) -> tuple[int, int]:
        """Return the rows and columns of the texture of a surface."""
        return max(2, round(height * self.fine)), max(2, round(width * self.fine))

    def noise(self, width: float, height: float, coarse: float, octaves: int = 4, stretch: float = 1.0) -> Floats:
        """Draw smooth noise (h, w) of about -1..1, in octaves from `coarse` metres down.

        Features are `stretch` times as high as wide.
        """
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
        """Draw an even material with stains, specks and rain streaks."""
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
    ) -> Floats:
        """Draw masonry, slates or planks: rows of blocks of about `block` (width, height) metres in various shades."""
        rows, columns = self.size(width, height)
        y, x = (np.arange(rows) + 0.5) / self.fine, (np.arange(columns) + 0.5) / self.fine
        lines = _edges(self.rng, height, block[1], 0.3 * _UNEVEN)
        course = np.searchsorted(lines, y) - 1
        to_line = np.minimum(y - lines[course], lines[course + 1] - y)
        result = self.grain(width, height, (1, 1, 1), 0.07, 0.25).astype(np.float32)
        for k in np.unique(course):
            edges = _edges(self.rng, width, block[0], _UNEVEN)
            brick = np.searchsorted(edges, x) - 1
            to_edge = np.minimum(x - edges[brick], edges[brick + 1] - x)
            tone = 1 + vary * self.rng.normal(size=(len(edges), 1)) + 0.3 * vary * self.rng.normal(size=(len(edges), 3))
            inside = np.minimum(to_edge[None], to_line[course == k][:, None])
            weight = np.clip(inside / joint, 0, 1)[..., None]
            weight = np.clip(2 * weight - 0.5, 0, 1)
            result[course == k] *= weight * (tone[brick] * np.asarray(color)) + (1 - weight) * np.asarray(joint_color)
        stains = self.noise(width, height, 1.5, 4)
        return result * (1 + 0.10 * stains[..., None])

    def cut(self, draw: Material) -> Material:
        """Make a material whose small pieces are cut at random from one square sheet."""
        sheets: list[Floats] = []

        def material(width: float, height: float) -> Floats:
            if max(width, height) >= _SHEET:
                return draw(width, height)
            if not sheets:
                sheets.append(draw(_SHEET, _SHEET))
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
            patch = np.clip((bare - 1.05) * 12, 0, 1)[..., None]  # bricks show where the plaster fell off
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
                pen.line(path, fill=rgb(np.multiply(color, shade)), width=max(1, round(self.fine * 0.008)))
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
        """Make a louvred shutter with peeling paint."""

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
        """Make a window with `bars` (columns, rows) of panes. Each window shows different things behind the glass."""

        def draw(width: float, height: float) -> Floats:
            rng, s = self.rng, self.fine
            glass = np.array([0.40, 0.46, 0.52]) * rng.uniform(0.85, 1.15)
            fade = np.linspace(1.25, 0.85, self.size(width, height)[0])[:, None, None]
            image = _image(self.grain(width, height, tuple(glass), 0.15, 0.5) * fade)
            pen = ImageDraw.Draw(image)
            self._draw_curtains(pen, width, height)
            self._draw_sill(pen, width, height)
            bar, rim = 0.035, 0.07
            for axis, length in enumerate((width, height)):
                for k in range(bars[axis] + 1):
                    at, half = length * k / bars[axis], rim if k in (0, bars[axis]) else bar
                    for low, high, shade in ((-half, 0.6 * half, 1.0), (0.6 * half, half, 0.75)):
                        across = ((at + low) * s, (at + high) * s)
                        box = (
                            [across[0], 0, across[1], height * s] if axis == 0 else [0, across[0], width * s, across[1]]
                        )
                        pen.rectangle(box, fill=rgb(np.multiply(frame, shade)))
            return _image_array(image) * self.grain(width, height, (1, 1, 1), 0.05, 0.2)

        return draw

    def _draw_curtains(self, pen: ImageDraw.ImageDraw, width: float, height: float) -> None:
        """Draw curtains at both sides of a window, and a blind in one of four windows."""
        rng, s = self.rng, self.fine
        cloth = (rng.uniform(0.6, 0.95) + rng.normal(0, 0.07, 3)) * rng.choice([0.75, 1.0])
        style = rng.integers(4)
        for side in (0, 1):
            reach = width * rng.uniform(0.12, 0.42)
            folds = rng.integers(4, 9)
            for k in range(folds):
                shade = cloth * rng.uniform(0.65, 1.0)
                near, far = reach * k / folds, reach * (k + 1) / folds
                if side:
                    near, far = width - far, width - near
                drop = height * (rng.uniform(0.85, 1.0) if style else rng.uniform(0.4, 0.6))
                pen.rectangle([near * s, 0, far * s, drop * s], fill=rgb(shade))
        if style == 1:
            drop = height * rng.uniform(0.15, 0.5)
            color = rng.uniform(0.6, 0.9, 3)
            for k in range(int(drop / 0.05)):
                slat = [0, k * 0.05 * s, width * s, (k + 0.7) * 0.05 * s]
                pen.rectangle(slat, fill=rgb(color * (0.8 + 0.2 * (k % 2))))

    def _draw_sill(self, pen: ImageDraw.ImageDraw, width: float, height: float) -> None:
        """Draw things and plants on the sill of a window."""
        rng, s = self.rng, self.fine
        for _ in range(rng.integers(2, 6)):
            x, tall, wide = rng.uniform(0.1, 0.9) * width, rng.uniform(0.08, 0.35), rng.uniform(0.04, 0.1)
            box = [(x - wide) * s, (height - tall) * s, (x + wide) * s, height * s]
            (pen.ellipse if rng.random() < 0.4 else pen.rectangle)(box, fill=rgb(rng.uniform(0.3, 0.8, 3)))
            for _ in range(rng.integers(0, 14)):
                a, b = rng.normal(0, 0.07, 2)
                left, bottom = x + a, height - tall + b
                leaf = [(left - 0.02) * s, (bottom - 0.05) * s, (left + 0.02) * s, bottom * s]
                pen.ellipse(leaf, fill=rgb(np.array([0.2, 0.45, 0.15]) * rng.uniform(0.6, 1.5)))

    def shop_window(self, frame: Color) -> Material:
        """Make a shop window with shelves of colourful books."""

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
                        pen.rectangle([x * s, (y - tall) * s, (x + wide) * s, y * s], fill=rgb(color))
                        band = y - tall * rng.uniform(0.3, 0.9)
                        pen.rectangle([x * s, band * s, (x + wide) * s, (band + 0.025) * s], fill=rgb(1.1 - color))
                    x += wide + 0.006
                pen.rectangle([0, y * s, width * s, (y + 0.04) * s], fill=rgb([0.45, 0.30, 0.18]))
            for x in (0, width / 2, width):
                pen.rectangle([(x - 0.05) * s, 0, (x + 0.05) * s, height * s], fill=rgb(frame))
            for y in (0, height):
                pen.rectangle([0, (y - 0.07) * s, width * s, (y + 0.07) * s], fill=rgb(frame))
            return _image_array(image)

        return draw

    def door(self, color: Color, number: str) -> Material:
        """Make a panelled door with a fanlight, a letter slot and a house number."""

        def draw(width: float, height: float) -> Floats:
            rng, s = self.rng, self.fine
            image = _image(self.grain(width, height, color, 0.10, 0.3))
            pen = ImageDraw.Draw(image)
            light = height * 0.2
            pen.rectangle([0.08 * s, 0.08 * s, (width - 0.08) * s, light * s], fill=rgb([0.42, 0.47, 0.52]))
            for angle in np.linspace(0.15, 3.0, 7):
                end = (width / 2 + np.cos(angle) * width, light - np.sin(angle) * width)
                pen.line([width / 2 * s, light * s, end[0] * s, end[1] * s], fill=rgb(color), width=round(0.025 * s))
            pen.rectangle([0, light * s, width * s, (light + 0.12) * s], fill=rgb(np.multiply(color, 0.8)))
            for column in (0, 1):
                for top, low in ((0.28, 0.52), (0.56, 0.70), (0.74, 0.95)):
                    box = [width * (0.1 + 0.43 * column), height * top, width * (0.47 + 0.43 * column), height * low]
                    for inset, shade in ((0, 0.55), (0.02, 1.25), (0.04, 0.85)):
                        edges = [box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset]
                        pen.rectangle(
                            [e * s for e in edges], fill=rgb(np.multiply(color, shade * rng.uniform(0.93, 1.07)))
                        )
            brass = rgb([0.85, 0.68, 0.30])
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
            pen.rectangle(edge, outline=rgb(ink), width=max(1, round(0.02 * s)))
            font = _font(s * min(height * 0.62, width * 1.25 / len(text)))
            pen.text((width / 2 * s, height / 2 * s), text, fill=rgb(ink), anchor="mm", font=font)
            return _image_array(image) * self.grain(width, height, (1, 1, 1), 0.05, 0.2)

        return draw

    def stripes(self, first: Color, second: Color) -> Material:
        def draw(width: float, height: float) -> Floats:
            result = self.grain(width, height, (1, 1, 1), 0.09, 0.4)
            band = ((np.arange(result.shape[1]) / self.fine / _STRIPE) % 2).astype(int)
            return np.multiply(result, np.array([first, second])[band])

        return draw

    def railing(self, width: float, height: float) -> NDArray[np.bool_]:
        """Draw a wrought-iron railing. Return where there is iron (h, w)."""
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


def _edges(rng: np.random.Generator, length: float, pitch: float, uneven: float) -> Floats:
    """Return ascending positions about `pitch` apart, from before 0 to beyond `length`."""
    steps = pitch * (1 + uneven * rng.uniform(-1, 1, int(length / pitch / (1 - uneven)) + 4))
    edges = np.cumsum(steps) - pitch * (1.5 + rng.random())
    return np.concatenate([[min(-pitch, edges[0] - pitch)], edges])


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(6, round(size)))


def as_color(color: Floats) -> Color:
    red, green, blue = color.tolist()
    return red, green, blue


def rgb(color: Floats | Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (int(255 * min(max(float(c), 0), 1)) for c in color)
    return red, green, blue


def _image(color: Floats) -> Image.Image:
    return Image.fromarray((np.clip(color, 0, 1) * 255).astype(np.uint8))


def _image_array(image: Image.Image) -> Floats:
    return np.asarray(image).astype(np.float32) / np.float32(255)
