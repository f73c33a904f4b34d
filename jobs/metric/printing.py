"""Draw sheets of markers for printing, in true size.

A sheet is a bitmap of 20 px per millimetre, so that A4 and Letter are whole pixels and a marker's edges are exact to
0.05 mm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
from PIL import Image, ImageDraw, ImageFont

from jobs.errors import InvalidInput
from jobs.metric.given import Family

__all__ = ["Paper", "write_markers"]

Paper = Literal["a4", "letter"]

_SIZES: dict[Paper, tuple[float, float]] = {"a4": (210, 297), "letter": (215.9, 279.4)}  # mm
_PIXELS = 20  # per mm
_MARGIN = 10  # mm, which printers leave white
_FOOT = 28  # mm below the markers, for the check bar
_LABEL = 7  # mm below a marker
_CUT = 4  # mm, length of a cut mark
_LEAST = 20  # mm: a smaller marker is never 20 px wide in photos of a place


def write_markers(file: Path, family: Family, size: float, first: int, count: int, paper: Paper) -> int:
    """Write a PDF of markers with consecutive numbers, and return how many pages it has.

    Args:
        file: the PDF.
        family: of the markers.
        size: side of the black square, mm. It is rounded to 0.05 mm.
        first: the first marker's number.
        count: how many markers.
        paper: the size of a page.

    Raises:
        InvalidInput: a marker does not fit on a page, or the family has no such numbers.
    """
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, family))
    known = len(dictionary.bytesList)
    if first + count > known:
        raise InvalidInput(f"{family} has the numbers 0 to {known - 1}, so not {first} to {first + count - 1}.")
    cells = dictionary.markerSize + 2
    white = max(size / cells, 5.0)  # mm around the black square, without which it is not found
    width, height = _SIZES[paper]
    tile = size + 2 * white, size + 2 * white + _LABEL
    columns, rows = int((width - 2 * _MARGIN) // tile[0]), int((height - _MARGIN - _FOOT) // tile[1])
    if size < _LEAST or not columns or not rows:
        across = min(width - 2 * _MARGIN, height - _MARGIN - _FOOT - _LABEL)
        most = int(min(across / (1 + 2 / cells), across - 10))
        raise InvalidInput(f"A marker of {size:g} mm does not fit: on {paper}, it can have {_LEAST} to {most} mm.")
    pages: list[Image.Image] = []
    for number in range(count):
        place = number % (columns * rows)
        if not place:
            pages.append(_empty_page(paper, family, size))
        left = _MARGIN + (place % columns) * tile[0]
        top = _MARGIN + (place // columns) * tile[1]
        side = round(size * _PIXELS)
        marker = Image.fromarray(cv2.aruco.generateImageMarker(dictionary, first + number, side))
        pages[-1].paste(marker, (round((left + white) * _PIXELS), round((top + white) * _PIXELS)))
        draw = ImageDraw.Draw(pages[-1])
        label = f"{family}, number {first + number}, {size:g} mm"
        _write(draw, left + white, top + size + 2 * white, label, 2.5)
        for x in (left, left + tile[0]):
            for y in (top, top + tile[1]):
                _line(draw, x - _CUT / 2, y, x + _CUT / 2, y)
                _line(draw, x, y - _CUT / 2, x, y + _CUT / 2)
    title = f"{family}, {size:g} mm"
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=25.4 * _PIXELS, title=title)
    return len(pages)


def _empty_page(paper: Paper, family: Family, size: float) -> Image.Image:
    """Return a page with the bar by which people check the print, and what to do."""
    width, height = _SIZES[paper]
    page = Image.new("1", (round(width * _PIXELS), round(height * _PIXELS)), 1)
    draw = ImageDraw.Draw(page)
    top = height - _FOOT + 5
    for x in range(0, 101, 10):
        _line(draw, _MARGIN + x, top, _MARGIN + x, top + (4 if x % 100 == 0 else 2))
    _line(draw, _MARGIN, top, _MARGIN + 100, top)
    _write(draw, _MARGIN + 102, top - 1, "100 mm", 3)
    lines = (
        "Print at 100 %, not fitted to the page. The bar must be 100 mm long. Glue the markers to something flat.",
        "Measure the side of a black square, and write it in metres into scale.json, beside the photos:",
        f'{{"markers": {{"family": "{family}", "metres": {size / 1000:g}}}}}',
    )
    for number, text in enumerate(lines):
        _write(draw, _MARGIN, top + 5 + 4 * number, text, 3)
    return page


def _line(draw: ImageDraw.ImageDraw, *corners: float) -> None:
    """Draw a line of 0.2 mm between two points, mm."""
    draw.line([round(corner * _PIXELS) for corner in corners], fill=0, width=_PIXELS // 5)


def _write(draw: ImageDraw.ImageDraw, left: float, top: float, text: str, height: float) -> None:
    """Write a text of a height, mm."""
    font = ImageFont.load_default(height * _PIXELS)
    draw.text((left * _PIXELS, top * _PIXELS), text, fill=0, font=font)
