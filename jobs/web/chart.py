"""Draw line charts as SVG, without numpy: the scheduler shows them in Prefect, and jobs put them into pages.

Colours and background are CSS variables (`--ink`, `--faint`, `--paper`), which a page may set. By default, a chart is
dark on white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from jobs.web.inline import data_address

__all__ = ["COLOURS", "Line", "as_data", "chart", "document", "nice_step", "text"]

COLOURS = ("#3b82f6", "#e8790c", "#14a08c", "#c04cc8", "#8a8f98")
"""Colours of lines, distinct on light and dark backgrounds, for the colour-blind as well."""

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 26, 42


@dataclass(frozen=True)
class Line:
    """A line: its name, its points (x, y) from left to right, and whether each point is marked by a dot."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def chart(
    lines: Sequence[Line], x_name: str, y_name: str, x_labels: Sequence[str] = (), logarithmic: bool = False
) -> str:
    """Return lines over shared axes as SVG, or "" if there is no point.

    Args:
        lines: in the order of their colours.
        x_name, y_name: the names of the axes.
        x_labels: labels for x = 0, 1, 2 …, instead of numbers.
        logarithmic: make the y axis logarithmic. Values must be above 0; others are left out.
    """
    points = [point for line in lines for point in line.points if not logarithmic or point[1] > 0]
    if not points:
        return ""
    scaled = math.log10 if logarithmic else float
    left, right = (-0.5, len(x_labels) - 0.5) if x_labels else _padded([x for x, _ in points], 0.0)
    low, high = _padded([scaled(y) for _, y in points], 0.06)
    top = _TOP + (16 * len(lines) if len(lines) > 1 else 0)

    def at_x(x: float) -> float:
        return _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def at_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (scaled(y) - low) / (high - low) * (_HEIGHT - top - _BOTTOM)

    parts = []
    for y in _decades(low, high) if logarithmic else _ticks(low, high):
        parts.append(_stroke(f"M{_LEFT} {at_y(y):.1f}H{_WIDTH - _RIGHT}", "var(--faint, #ddd)", 1))
        parts.append(text(_LEFT - 6, at_y(y) + 4, f"{y:g}", "end"))
    every = math.ceil(len(x_labels) / 8)
    numbers = {x: f"{x:g}" for x in _ticks(left, right)}
    for x, label in dict(enumerate(x_labels)).items() if x_labels else numbers.items():
        if not x_labels or x % every == 0:
            parts.append(text(at_x(x), _HEIGHT - _BOTTOM + 17, label, "middle"))
    parts.append(text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, x_name, "middle"))
    parts.append(text(_LEFT, top - 10, y_name, "start"))
    for line, colour in zip(lines, _repeated(len(lines)), strict=True):
        places = [(at_x(x), at_y(y)) for x, y in line.points if not logarithmic or y > 0]
        parts.append(_stroke("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places), colour, 1.8) if places else "")
        if line.dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill:{colour}"/>' for x, y in places]
    if len(lines) > 1:
        for row, (line, colour) in enumerate(zip(lines, _repeated(len(lines)), strict=True)):
            y = 10 + 16 * row
            parts += [_stroke(f"M{_LEFT} {y}h16", colour, 3), text(_LEFT + 22, y + 4, line.name, "start")]
    return document(_WIDTH, _HEIGHT, f"{y_name} by {x_name}", parts)


def document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Return an SVG document of a size in px. It is valid inside a page and as a file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" font-family="system-ui, sans-serif" font-size="12">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" style="fill:var(--paper, #fff)"/>'
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Return an SVG text. `anchor` is the part of it that is at x: start, middle or end."""
    shape = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {shape} style="fill:var(--ink, #444)">{escape(words)}</text>'


def as_data(svg: str) -> str:
    """Return an SVG as a `data:` address, which Prefect's UI shows as a picture in markdown."""
    return data_address(svg.encode(), "image/svg+xml")


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that fits at most `most` times into `span`."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most)


def _stroke(path: str, colour: str, width: float) -> str:
    return f'<path d="{path}" style="fill:none;stroke:{colour};stroke-width:{width:g};stroke-linejoin:round"/>'


def _repeated(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    """Return the values' range, extended at both ends. It is never empty."""
    low, high = min(values), max(values)
    more = share * (high - low) if high > low else max(0.5, share * abs(low))
    return low - more, high + more


def _ticks(low: float, high: float) -> list[float]:
    step = nice_step(high - low, 6)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return ticks whose logarithms are in the range: 1, 2 and 5 times powers of ten.

    A wide range gets powers of ten only. A range with less than two such ticks gets even steps.
    """
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = (factor * 10.0**power for power in powers for factor in factors)
    found = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return found if len(found) > 1 else _ticks(10.0**low, 10.0**high)
