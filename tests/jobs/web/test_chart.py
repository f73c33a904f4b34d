from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from jobs.web.chart import Line, chart, nice_step

SVG = "{http://www.w3.org/2000/svg}"


def dots(svg: str) -> list[tuple[float, float]]:
    circles = ElementTree.fromstring(svg).iter(f"{SVG}circle")
    return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]


def ticks(svg: str, anchor: str) -> dict[float, float]:
    """Return the numbers along an axis, each with its position in px."""
    along = "y" if anchor == "end" else "x"
    texts = [t for t in ElementTree.fromstring(svg).iter(f"{SVG}text") if t.attrib["text-anchor"] == anchor]
    return {float(t.text): float(t.attrib[along]) for t in texts if t.text and re.fullmatch(r"-?[\d.e+-]+", t.text)}


def test_points_are_where_the_axes_say() -> None:
    svg = chart([Line("a", [(0, 20), (500, 25), (1000, 22.5)], dots=True)], "step", "PSNR")
    (x0, y0), (x1, y1), (x2, y2) = dots(svg)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y1 < y2 < y0
    assert (y0 + y1) / 2 == pytest.approx(y2, abs=0.2)
    marks = ticks(svg, "end")
    assert marks[25.0] == pytest.approx(y1 + 4, abs=0.2) and marks[20.0] == pytest.approx(y0 + 4, abs=0.2)
    assert ticks(svg, "middle")[1000.0] == pytest.approx(x2, abs=0.2)


def test_a_logarithmic_axis() -> None:
    svg = chart([Line("loss", [(0, 1.0), (1, 0.1), (2, 0.01), (3, 0.0)], dots=True)], "step", "loss", logarithmic=True)
    (_, y0), (_, y1), (_, y2) = dots(svg)  # zero has no place there
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert ticks(svg, "end")[0.1] == pytest.approx(y1 + 4, abs=0.2)


@pytest.mark.parametrize("points", [[(0, 5.0)], [(0, 0.0), (1, 0.0)], [(3, 1e-9), (4, 2e-9)], [(0, 1e9), (1, -1e9)]])
def test_any_range_can_be_drawn(points: list[tuple[float, float]]) -> None:
    places = dots(chart([Line("a", points, dots=True)], "x", "y"))
    assert len(places) == len(points) and all(0 < x < 420 and 0 < y < 250 for x, y in places)


def test_names_are_only_words() -> None:
    svg = chart([Line("<script>", [(0, 1)]), Line("b & c", [(1, 2)])], "<x>", 'y"', ["<1>", "2"])
    said = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"<script>", "b & c", "<x>", 'y"', "<1>", "2"} <= set(said)


def test_a_chart_without_points_is_empty() -> None:
    assert chart([Line("a", [])], "x", "y") == "" == chart([], "x", "y")


def test_nice_steps() -> None:
    assert [nice_step(span, 5) for span in (1, 4.9, 5, 11, 0.03)] == pytest.approx([0.2, 1, 1, 5, 0.01])
