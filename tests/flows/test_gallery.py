"""The gallery of a workspace, as a file and in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from blocks import LocalWorkspace, Marks
from flows.gallery import Gallery, show
from jobs.errors import InvalidInput
from tests.browser import Browser, browser
from tests.tasks.test_choice import put

__all__ = ["browser"]

EVIL = "<img src=http://127.0.0.1/x onerror=document.title='taken'>"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWorkspace:
    """Three scenes: one good, with a trial after it; one poor, whose note is a trap; one that has photos alone."""
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "a home"))
    place = LocalWorkspace()
    for scene, psnr, day in (("street", 26.0, 3), ("mill", 14.0, 2)):
        put(place, scene, "1", 0, "capture")
        put(place, f"{scene}-images-to-nerf-dataset", "1-0a", 1, "dataset", registered="46/48")
        put(place, f"{scene}-nerf", "1-0b", day, psnr=psnr, steps=1000, dataset=f"{scene}-images-to-nerf-dataset:1-0a")
        put(place, f"{scene}-video", "1-0c", day, "video", model=f"{scene}-nerf:1-0b")
        put(place, f"{scene}-page", "1-0d", day, "page", model=f"{scene}-nerf:1-0b")
        poster = place.folder / f"assets/{scene}-video/1-0c/poster.jpg"
        Image.effect_noise((640, 360), 90).convert("RGB").save(poster)
    put(place, "street-nerf", "1-0e", 9, psnr=12.0, steps=60)
    put(place, "barn", "1", 1, "capture")
    place.mark(place.assets("mill-nerf")[-1], Marks(note=EVIL))
    return place


def test_the_gallery_in_a_browser(place: LocalWorkspace, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    show(Gallery(browser=False))
    address = (place.folder / "gallery.html").as_uri()
    assert capsys.readouterr().out == f"3 scenes: {address}\n"
    for width, height, dark in ((360, 740, True), (1280, 900, False)):
        browser.resize(width, height)
        browser.dark(dark)
        browser.requested()
        browser.get(address)
        assert browser.requested() == [address] and browser.overflow() == 0 and browser.complaints() == []
    assert browser.title == "Scenes"
    names = [each.text for each in browser.find_elements("css selector", "h2")]
    assert names == ["street", "mill", "barn"], "the newest good one first"
    text = browser.text()
    assert EVIL in text and "46 of 48 photos, 26.0 dB on held-out photos" in text and "no model yet" in text
    assert [each.text for each in browser.find_elements("css selector", "b")] == ["good", "poor"]
    pictures = "return [...document.images].filter(i => i.complete && i.naturalWidth === 480).length"
    assert browser.until(lambda: browser.execute_script(pictures) == 2)
    browser.find_element("css selector", "a").click()
    page = place.folder / "assets/street-page/1-0d/index.html"
    assert browser.until(lambda: browser.current_url == page.as_uri()), "a card leads to its scene's page"


def test_where_it_cannot_be_written_is_said(place: LocalWorkspace) -> None:
    with pytest.raises(InvalidInput, match="to: .*cannot be written"):
        show(Gallery(to=place.folder / "assets/mill/1/asset.json/gallery.html", browser=False))
    show(Gallery(to=place.folder / "out/g.html", browser=False))
    assert (place.folder / "out/g.html").read_text().count("<li>") == 3
