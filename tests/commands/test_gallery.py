"""The gallery of a workspace, as a file and in a real browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocks import LocalWorkspace, Marks
from commands.gallery import Gallery, show
from jobs.errors import InvalidInput, NotFound
from jobs.video.h264 import encode
from tests.browser import Browser, browser
from tests.tasks.test_choice import put

__all__ = ["browser"]

EVIL = "<img src=http://127.0.0.1/x onerror=document.title='taken'>"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWorkspace:
    """Return a workspace of three scenes: a good one with a trial, a poor one with a hostile note, and photos alone."""
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "a home"))
    workspace = LocalWorkspace()
    for scene, psnr, day in (("street", 26.0, 3), ("mill", 14.0, 2)):
        put(workspace, scene, "1", 0, "capture")
        dataset = f"{scene}-images-to-nerf-dataset"
        put(workspace, dataset, "1-0a", 1, "dataset", registered="46/48")
        put(workspace, f"{scene}-nerf", "1-0b", day, psnr=psnr, steps=1000, dataset=f"{dataset}:1-0a")
        put(workspace, f"{scene}-video", "1-0c", day, "video", model=f"{scene}-nerf:1-0b", capture_version="1")
        put(workspace, f"{scene}-page", "1-0d", day, "page", model=f"{scene}-nerf:1-0b", video=f"{scene}-video:1-0c")
        poster = workspace.folder / f"assets/{scene}-video/1-0c/poster.jpg"
        Image.effect_noise((640, 360), 90).convert("RGB").save(poster)
    put(workspace, "street-nerf", "1-0e", 9, psnr=12.0, steps=60)
    put(workspace, "barn", "1", 1, "capture")
    workspace.mark(workspace.assets("mill-nerf")[-1], Marks(note=EVIL))
    return workspace


def test_the_gallery_in_a_browser(
    workspace: LocalWorkspace, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    show(Gallery(browser=False))
    address = (workspace.folder / "gallery.html").as_uri()
    assert capsys.readouterr().out == f"3 scenes: {address}\n"
    for look in browser.looks():
        browser.requested()
        browser.get(address)
        assert browser.requested() == [address] and browser.overflow() == 0 and browser.complaints() == []
        assert browser.barriers() == [], look
    assert browser.title == "Scenes"
    names = [each.text for each in browser.find_elements("css selector", "h2")]
    assert names == ["street", "mill", "barn"], "the newest good one first"
    text = browser.text()
    assert EVIL in text and "46 of 48 photos, 26.0 dB on held-out photos" in text and "no model yet" in text
    assert [each.text for each in browser.find_elements("css selector", "b")] == ["good", "poor"]
    pictures = "return [...document.images].filter(i => i.complete && i.naturalWidth === 480).length"
    assert browser.until(lambda: browser.execute_script(pictures) == 2)
    browser.find_element("css selector", "a").click()
    scene = workspace.folder / "gallery/street.html"
    assert browser.until(lambda: browser.current_url == scene.as_uri()), "a card leads to its scene's page"
    browser.find_element("link text", "page").click()
    page = workspace.folder / "assets/street-page/1-0d/index.html"
    assert browser.until(lambda: browser.current_url == page.as_uri()), "and that to the pages of its videos"


def test_the_page_of_a_scene_shows_its_good_videos_first(
    workspace: LocalWorkspace, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    put(workspace, "street", "2", 5, "capture")
    put(workspace, "street-nerf", "2-0f", 6, psnr=25.5, steps=1000)
    put(workspace, "street-video", "1-10", 10, "video", model="street-nerf:1-0e", path="tour", capture_version="1")
    put(workspace, "street-video", "2-11", 7, "video", model="street-nerf:2-0f", path="orbit", capture_version="2")
    put(workspace, "street-export", "2-12", 8, "export", model="street-nerf:2-0f")
    put(
        workspace, "street-then-and-now", "2-13", 8, "video", then="street-video:1-0c", now="street-video:2-11",
        capture_version="2", marked="street-changes:2-14",
    )  # fmt: skip
    (workspace.folder / "assets/street-then-and-now/2-13/changes.mp4").write_bytes(b"a video")
    put(workspace, "street-images-to-nerf-dataset", "2-0e", 5, "dataset", capture_version="2")
    put(
        workspace, "street-changes", "2-14", 8, "changes", then="street-images-to-nerf-dataset:1-0a",
        now="street-images-to-nerf-dataset:2-0e", older="street-nerf:1-0b", newer="street-nerf:2-0f",
        changed="3.1 m² in 2 places",
    )  # fmt: skip
    Image.effect_noise((640, 360), 90).convert("RGB").save(workspace.folder / "assets/street-changes/2-14/poster.jpg")
    frames = [np.full((90, 160, 3), shade, np.uint8) for shade in range(60, 80)]
    encode(workspace.folder / "assets/street-video/2-11/video.mp4", iter(frames), Fraction(10), (160, 90))
    show(Gallery(scene="street", browser=False))
    address = (workspace.folder / "gallery/street.html").as_uri()
    assert capsys.readouterr().out == f"street: {address}\n"
    for look in browser.looks():
        browser.get(address)
        assert browser.overflow() == 0 and browser.complaints() == [] and browser.barriers() == [], look
    browser.photograph(workspace.folder / "page.png", whole=True)
    clips = [each.text.splitlines() for each in browser.find_elements("css selector", ".clips li")]
    assert [clip[0] for clip in clips] == [
        "orbit", "video", "tour", "visit 1, 2026-11-01 → visit 2, 2026-11-06", "visit ? → visit 2, 2026-11-06"
    ], "of the shown model, of another good one, of a trial, then and now, and changes"  # fmt: skip
    assert clips[4][1].endswith("street-nerf:1-0b and street-nerf:2-0f")
    [marked] = browser.find_elements("css selector", ".clips li:last-child video[src$='2-13/changes.mp4']")
    assert marked.get_attribute("poster"), "the video on which the changes are marked"
    assert clips[4][2:] == ["Changed: 3.1 m² in 2 places.", "listpoints"], "two links"
    assert clips[0][2] == "The scene is shown by this model." and "3D" in clips[0][-1]
    assert "visit 2, 2026-11-06 · model 2 (2-0f, 25.5 dB)" in clips[0][1]
    assert clips[2][2] == "This model is 14.0 dB worse than model 1 (1-0b, 26.0 dB)."
    assert "2 visits, 3 models, 3 videos" in browser.text()
    assert "model 3 (1-0e, 12.0 dB), is 14.0 dB worse than model 1" in browser.text(), "the newest is no good"
    playing = "const v = document.querySelector('video'); v.play(); return v.currentTime"
    assert browser.until(lambda: browser.execute_script(playing)) > 0
    tables = [each.text for each in browser.find_elements("css selector", "tr.own td")]
    assert tables[:2] == ["shown", "2-0f (model 2)"]
    rows = [each.text.split()[:2] for each in browser.find_elements("css selector", "tbody tr")]
    assert rows == [["shown", "2-0f"], ["1-0b", "(model"], ["trial", "1-0e"]], "trials last, though newer"


def test_pages_are_written_only_if_something_changed(
    workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written() -> dict[str, int]:
        files = [workspace.folder / "gallery.html", *(workspace.folder / "gallery").iterdir()]
        return {file.name: file.stat().st_ino for file in files}

    show(Gallery(browser=False))
    before = written()
    assert set(before) == {"gallery.html", "street.html", "mill.html", "barn.html"}
    show(Gallery(browser=False))
    assert written() == before
    workspace.mark(workspace.assets("mill-nerf")[-1], Marks(note="before the repaint"))
    show(Gallery(browser=False))
    assert {name for name, inode in written().items() if inode != before[name]} == {"gallery.html", "mill.html"}


def test_an_update_of_the_project_renews_the_pages(workspace: LocalWorkspace) -> None:
    show(Gallery(browser=False))
    files = [workspace.folder / "gallery.html", *sorted((workspace.folder / "gallery").iterdir())]
    before = [file.read_text() for file in files]
    newer = workspace.folder / "newer"
    for room in ("jobs", "tasks", "blocks", "commands"):
        shutil.copytree(Path(__file__).parents[2] / room, newer / room, ignore=shutil.ignore_patterns("__pycache__"))
    scene = newer / "jobs/web/scene.py"
    scene.write_text(scene.read_text().replace("encodable(", "'newer ' + encodable("))
    command = [sys.executable, "-m", "commands.gallery", "--no-browser"]
    subprocess.run(command, cwd=newer, check=True, timeout=300)
    after = [file.read_text() for file in files]
    assert len(files) == 4 and all(old != new for old, new in zip(before, after, strict=True))
    assert sum("newer " in text for text in after) == 3


def test_a_scene_that_is_not_there(workspace: LocalWorkspace) -> None:
    with pytest.raises(NotFound, match="scene church: .*barn, mill, street"):
        show(Gallery(scene="church", browser=False))


def test_where_it_cannot_be_written_is_said(workspace: LocalWorkspace) -> None:
    with pytest.raises(InvalidInput, match=r"gallery/.*\.html"):
        show(Gallery(to=workspace.folder / "assets/mill/1/asset.json/gallery.html", browser=False))
    show(Gallery(to=workspace.folder / "out/g.html", browser=False))
    assert (workspace.folder / "out/g.html").read_text().count("<li>") == 3
