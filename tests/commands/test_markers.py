"""The PDF of markers: its pages are drawn as a printer does, and the markers are found and measured in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commands.markers import PrintMarkers, write
from jobs.errors import InvalidInput

pytest.importorskip("cv2")
pdfium = pytest.importorskip("pypdfium2")

from jobs.metric.markers import find_markers  # noqa: E402

_PER_MM = 16
"""Pixels of a page as it is drawn."""


@pytest.mark.parametrize(
    ("given", "pages", "paper"),
    [
        ({"size": 150, "count": 2}, 2, (210, 297)),
        ({"size": 47.3, "count": 9, "first": 31, "family": "DICT_4X4_50", "paper": "letter"}, 1, (215.9, 279.4)),
    ],
)
def test_printed_markers_are_found_and_have_their_size(
    given: dict[str, object], pages: int, paper: tuple[float, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = PrintMarkers.model_validate({**given, "output": tmp_path / "markers.pdf"})
    write(chosen)
    assert f'"metres": {chosen.size / 1000:g}' in capsys.readouterr().out
    document = pdfium.PdfDocument(chosen.output)
    try:
        assert len(document) == pages
        found = []
        for number in range(pages):
            page = document[number]
            assert np.multiply(page.get_size(), 25.4 / 72) == pytest.approx(paper, abs=0.02)
            picture = page.render(scale=_PER_MM * 25.4 / 72, grayscale=True).to_pil()
            picture.save(tmp_path / "page.png")
            seen = find_markers(tmp_path / "page.png", chosen.family)
            for marker, corners in seen.items():
                sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1) / _PER_MM
                assert sides == pytest.approx([chosen.size] * 4, abs=0.1), marker
            found += sorted(seen)
            bar = np.asarray(picture)[int((paper[1] - 22) * _PER_MM)] < 128
            assert np.ptp(np.nonzero(bar[: int(111 * _PER_MM)])[0]) / _PER_MM == pytest.approx(100, abs=0.4)
    finally:
        document.close()
    assert found == list(range(chosen.first, chosen.first + chosen.count))


def test_markers_that_do_not_fit_or_do_not_exist_are_refused(tmp_path: Path) -> None:
    def refuse(why: str, **given: object) -> None:
        with pytest.raises(InvalidInput, match=why):
            write(PrintMarkers.model_validate({"output": tmp_path / "markers.pdf", **given}))
        assert not list(tmp_path.iterdir())

    refuse(r"20 to 152 mm", size=153)
    refuse("0 to 49", family="DICT_4X4_50", first=48, count=3)
    refuse("nowhere", output=tmp_path / "nowhere" / "markers.pdf")
    write(PrintMarkers(output=tmp_path / "markers.pdf", size=152, count=1))
