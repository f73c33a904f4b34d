"""The page of a scene, as files and in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

pytest.importorskip("nerfstudio")

from jobs import page
from jobs.errors import InvalidInput
from jobs.export import page as page_in_3d
from jobs.options import RenderOptions
from jobs.path import trajectory
from jobs.splats.gaussians import Gaussians
from jobs.video.h264 import encode
from jobs.web.quality import Facts, Made, Version
from jobs.web.view3d import View
from tests.browser import Browser, browser

__all__ = ["browser"]

EVIL = "<img src=http://127.0.0.1/x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def video(tiny_dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a video asset: two seconds of a moving bar, with a path, a poster and a manifest."""
    folder = tmp_path_factory.mktemp("video")
    frames = [np.full((72, 128, 3), 40, np.uint8) for _ in range(24)]
    for index, frame in enumerate(frames):
        frame[:, 5 * index : 5 * index + 10] = (230, 180, 90)
    encode(folder / "video.mp4", iter(frames), Fraction(12), (128, 72))
    Image.fromarray(frames[12]).save(folder / "poster.jpg")
    trajectory.generate(
        "tour", tiny_dataset, tiny_model, RenderOptions(width=128, height=72, seconds=2.0, fps=12)
    ).write(folder / "camera_path.json")
    about = {"created": "2026-02-03T04:05:06+00:00", "duration": 2.0, "width": 128, "height": 72, "camera_path": "tour"}
    (folder / "video.json").write_text(json.dumps({**about, "rendering_seconds": 185.0, "seconds": {"join": 1.0}}))
    return folder


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    """Return the tiny dataset with an unregistered photo, an unreadable one, and one with a hostile name."""
    folder = tmp_path / "dataset"
    shutil.copytree(tiny_dataset, folder)
    files = [frame["file_path"] for frame in json.loads((folder / "transforms.json").read_text())["frames"]]
    images: list[dict[str, Any]] = [{"file": file, "source": file, "registered": True} for file in files]
    images[3] |= {"registered": False, "reason": "too few features: 3 & <b>blurred</b>", "source": EVIL}
    about = {"registered": 13, "used": 14, "images": images, "unreadable_files": {"broken.jpg": "empty file"}}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def facts() -> Facts:
    day = datetime(2026, 2, 1, tzinfo=timezone.utc)
    given: list[dict[str, Any]] = [{"psnr": 24.0, "cost": 0.5}, {"psnr": 22.0}]
    versions = [
        Version(
            version=f"{n}-{n}a", capture=n, created=day + n * timedelta(days=1), options="0a", image_size=96, **each
        )
        for n, each in enumerate(given, 1)
    ]
    made = [
        Made(role="dataset", asset="street-images-to-nerf-dataset:2-2b", seconds=60, cost=0.1),
        Made(role="model", asset="street-nerf:2-2a", figures={"psnr": "22.0", EVIL: EVIL}, seconds=600, cost=1.0),
        Made(role="video", asset="street-video:2-2c", seconds=60, cost=0.1),
    ]
    return Facts(scene="street", capture="street:2", made=made, versions=versions, currency="EUR")


def test_a_page_in_a_browser(dataset: Path, tiny_model: Path, video: Path, tmp_path: Path, browser: Browser) -> None:
    page.make(dataset, tiny_model, video, facts(), tmp_path / "page")
    address = (tmp_path / "page/index.html").as_uri()
    for look in browser.looks():
        browser.requested()
        browser.get(address)
        assert browser.requested() == [address]
        assert browser.overflow() == 0 and browser.barriers() == [], look
        assert browser.execute_script("return getComputedStyle(document.body).color") == (
            "rgb(169, 177, 189)" if "dark" in look else "rgb(61, 67, 77)"
        )
    browser.get(address)
    assert browser.title == "street"
    playing = "const v = document.querySelector('video'); v.play(); return v.readyState > 1 && v.currentTime"
    assert browser.until(lambda: browser.execute_script(playing) or 0) > 0
    assert browser.execute_script("return document.querySelector('video').duration") == pytest.approx(2.0, abs=0.01)
    shown = (
        "return [...document.images].filter(i => { i.scrollIntoView(); return i.complete && i.naturalWidth }).length"
    )
    pairs = len(json.loads((tiny_model / "model.json").read_text())["held_out"])
    assert pairs and browser.until(lambda: browser.execute_script(shown) == 14 + 2 * pairs)
    assert browser.complaints() == []

    text = browser.execute_script("return document.body.innerText")
    model = json.loads((tiny_model / "model.json").read_text())
    for said in (
        f"{model['metrics']['psnr']:.2f} dB", "13 of 14", "1.20 EUR", "12 min 0 s", "2.0 dB below that of 1-1a",
        "3 min 5 s", "Made from the capture street:2.", f"nerfstudio {model['versions']['nerfstudio']}",
        "15 photos; 2 of no use", "too few features: 3 & <b>blurred</b>", EVIL, "empty file", "2026-02-03", "0.50 EUR",
    ):  # fmt: skip
        assert said in text
    assert "What the figures mean" in text and "edges are clear" not in text, "folded"
    browser.find_element("css selector", ".terms summary").click()
    assert "at 25 dB edges are clear" in browser.text() and "90% of the photos registered" in browser.text()
    assert "not available" not in text and "LPIPS" not in text
    psnr = model["metrics"]["psnr"]
    assert f"13 of 14 photos, {psnr:.1f} dB on held-out photos." in text and "Train it for longer" in text
    pill = browser.find_element("css selector", ".verdict b")
    assert pill.text == "poor" and pill.value_of_css_property("background-color") == "rgba(179, 38, 30, 1)"
    playing = "const v = document.querySelector('video'); return v.autoplay && v.muted && v.loop && !v.paused"
    assert browser.until(lambda: browser.execute_script(playing)), "it plays by itself"
    assert browser.execute_script("return document.querySelectorAll('.lost').length") == 2
    assert browser.execute_script("return document.querySelectorAll('svg').length") == 4  # plan, two curves, versions


def test_the_page_of_a_trial_says_that_it_is_one() -> None:
    good, own = facts().versions
    trial = own.model_copy(update={"options": "other", "psnr": 14.0, "number": 2})

    def warning(*versions: Version, better: Version | None = None) -> str:
        return page._warning(Facts(scene="street", versions=list(versions), better=better))

    assert warning(good, own).startswith("PSNR is 2.0 dB below that of 1-1a"), "notable, but no trial"
    said = (
        "This model (14.0 dB) is 10.0 dB worse than model – (1-1a, 24.0 dB). "
        "To see that one: rebel-nerf page --scene street --model-version 1-1a."
    )
    assert warning(good, trial) == said
    assert warning(trial, better=good) == said, "the better one was trained later"
    assert warning(own, good) == warning() == ""


def test_a_slider_uncovers_the_rendering_of_a_held_out_photo(
    dataset: Path, tiny_model: Path, video: Path, tmp_path: Path, browser: Browser
) -> None:
    page.make(dataset, tiny_model, video, facts(), tmp_path / "page")
    browser.resize(1280, 900)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    browser.get((tmp_path / "page/index.html").as_uri())
    assert browser.execute_script("const v = document.querySelector('video'); return v.paused && !v.autoplay")
    first = browser.find_element("css selector", ".beside")
    slider = first.find_element("css selector", "input")
    assert "held-out photo 1" in slider.accessible_name and slider.aria_role == "slider"
    slider.send_keys(Keys.HOME)
    width = first.rect["width"]
    for expected in (0.0, 0.1):
        line = first.find_element("css selector", "i").rect
        left = line["x"] + line["width"] / 2 - first.rect["x"]
        assert left == pytest.approx(expected * width, abs=1)
        photo = first.find_element("css selector", ".photo")
        assert photo.value_of_css_property("clip-path") == f"inset(0px {100 - 100 * expected:g}% 0px 0px)"
        slider.send_keys(Keys.ARROW_RIGHT * 10)
    told = json.loads((tiny_model / "model.json").read_text())
    assert f"{told['held_out'][0]['psnr']:.1f} dB" in browser.text()
    taken, rendered = (Image.open(tiny_model / told["held_out"][0][name]) for name in ("photo", "rendering"))
    assert taken.size == rendered.size and taken.tobytes() != rendered.tobytes()


def test_where_the_light_differs_the_verdict_is_with_colours_fitted(
    dataset: Path, tiny_model: Path, video: Path, tmp_path: Path
) -> None:
    def text(stops: float) -> str:
        about = json.loads((dataset / "dataset.json").read_text())
        about["light"] = {"exposure_stops": stops, "white_balance": 0.02, "photos": 13}
        (dataset / "dataset.json").write_text(json.dumps(about))
        page.make(dataset, tiny_model, video, facts(), tmp_path / "page")
        return (tmp_path / "page" / "index.html").read_text()

    said = "with colours fitted, because exposure or white balance differs"
    assert said in text(0.8) and said not in text(0.1)
    assert "<dt>PSNR</dt>" in text(0.1) and "<dt>PSNR, colours fitted</dt>" in text(0.1)


def test_no_other_file_gets_into_the_page(dataset: Path, tiny_model: Path, video: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    secret = model / "secret.jpg"
    secret.write_bytes((model / "held_out/1-photo.jpg").read_bytes())
    about = json.loads((model / "model.json").read_text())
    for name in ("../model/secret.jpg", "held_out/../secret.jpg", str(secret), "held_out/9-photo.jpg"):
        about["held_out"][0]["photo"] = name
        (model / "model.json").write_text(json.dumps(about))
        with pytest.raises(InvalidInput, match=r"model\.json .*held-out"):
            page.make(dataset, model, video, facts(), tmp_path / "page")


def test_a_photo_outside_of_the_dataset_is_not_shown(
    dataset: Path, tiny_model: Path, video: Path, tmp_path: Path
) -> None:
    def pictures() -> int:
        page.make(dataset, tiny_model, video, facts(), tmp_path / "page")
        return (tmp_path / "page/index.html").read_text(encoding="utf-8").count("data:image/jpeg")

    before = pictures()
    about = json.loads((dataset / "dataset.json").read_text())
    private = tmp_path / "private.jpg"
    own = about["images"][0]["file"]
    shutil.copyfile(dataset / own, private)
    for number, name in enumerate(("../private.jpg", str(private), f"{Path(own).parent}/../../private.jpg"), 1):
        about["images"][number]["file"] = name
    (dataset / "dataset.json").write_text(json.dumps(about))
    assert pictures() == before - 3


def test_the_3d_view_is_loaded_once_it_is_opened(
    dataset: Path, tiny_model: Path, video: Path, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, folder = tmp_path / "export", tmp_path / "page"
    export.mkdir()
    ball = Gaussians.of_points(np.zeros((1, 3), np.float32), np.array([[1, 0, 0]], np.float32), np.ones(1, np.float32))
    view = View(
        eye=(0, 0, 10),
        target=(0, 0, 0),
        half_field=(0.5, 0.3),
        seen_from=[],
        low=(0, 0, 0),
        high=(0, 0, 0),
        kind="points",
    )
    (export / "index.html").write_text(page_in_3d("street", ball, view) + "<script>document.title = 'taken'</script>")
    page.make(dataset, tiny_model, video, facts(), folder, export)
    browser.resize(1280, 900)
    browser.get((folder / "index.html").as_uri())
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    assert browser.find_elements("css selector", "canvas") == [], "not loaded yet"
    browser.switch_to.default_content()
    browser.find_element("css selector", ".three-d summary").send_keys(Keys.ENTER)
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    browser.until(lambda: browser.execute_script("return document.body && document.body.dataset.drawn"))
    assert browser.find_element("id", "said").text.startswith("1 point ")
    isolated = "try { return parent.document.title } catch (error) { return error.name }"
    assert browser.execute_script(isolated) == "SecurityError"
    browser.switch_to.default_content()
    assert browser.title == "street"
    assert [said for said in browser.complaints() if "GPU stall" not in said] == []

    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    page.make(dataset, tiny_model, video, facts(), folder, export)
    browser.get((folder / "index.html").as_uri())
    browser.find_element("link text", "3d.html").click()
    browser.until(lambda: browser.execute_script("return document.body.dataset.drawn"))


def test_a_large_video_is_a_file_beside_the_page(
    tiny_dataset: Path, tiny_model: Path, video: Path, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_BYTES", 100)
    page.make(tiny_dataset, tiny_model, video, Facts(scene="street"), tmp_path / "page")
    assert (tmp_path / "page/video.mp4").read_bytes() == (video / "video.mp4").read_bytes()
    browser.requested()
    browser.get((tmp_path / "page/index.html").as_uri())
    length = "return document.querySelector('video').duration"
    assert browser.until(lambda: browser.execute_script(length)) == pytest.approx(2.0, abs=0.01)
    assert {url.rpartition("/")[2] for url in browser.requested()} == {"index.html", "video.mp4"}
    assert browser.complaints() == []
    assert "14 photos; all of use." in browser.execute_script("return document.body.innerText")


def test_many_photos_are_shown_by_some_of_them_and_all_that_are_of_no_use(
    dataset: Path, tiny_model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_MOST_THUMBNAILS", 6)
    page.make(dataset, tiny_model, video, facts(), tmp_path / "page")
    text = (tmp_path / "page/index.html").read_text()
    assert text.count("<li ") + text.count("<li>") == 6 and "6 of them are shown" in text
    assert text.count('class="lost"') == 2


def test_a_photo_whose_name_is_not_utf_8_is_on_the_page(
    dataset: Path, tiny_model: Path, video: Path, tmp_path: Path
) -> None:
    about = json.loads((dataset / "dataset.json").read_text())
    about["images"][0]["source"] = os.fsdecode(b"Stra\xdfe.jpg")
    about["duplicate_files"] = {"copy.jpg": os.fsdecode(b"Stra\xdfe.jpg"), "odd.jpg": "\ud800.jpg"}
    (dataset / "dataset.json").write_text(json.dumps(about))
    page.make(dataset, tiny_model, video, facts(), tmp_path / "page")
    text = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert r"Stra\xdfe.jpg" in text and r"the same as \ud800.jpg" in text


def test_missing_or_damaged_files_are_reported(
    tiny_dataset: Path, tiny_model: Path, video: Path, tmp_path: Path
) -> None:
    shutil.copytree(video, tmp_path / "video")
    (tmp_path / "video/video.mp4").unlink()
    with pytest.raises(InvalidInput, match=r"video\.mp4"):
        page.make(tiny_dataset, tiny_model, tmp_path / "video", Facts(scene="street"), tmp_path / "page")
    (tmp_path / "video/video.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"video\.json"):
        page.make(tiny_dataset, tiny_model, tmp_path / "video", Facts(scene="street"), tmp_path / "page")
