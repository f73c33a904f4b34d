"""The page of an export in a real browser: it shows the Gaussians that are in it, and asks for nothing else."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from jobs.errors import InvalidInput
from jobs.export import page
from jobs.splats.gaussians import Array, Gaussians
from jobs.web.view3d import View, read, render
from tests.browser import Browser, browser

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(300)


# 960 px wide, and with a quarter more around it, the window shows 11.1 units at the target.
VIEW = View(
    eye=(0, 0, 10),
    target=(0, 0, 0),
    half_field=(4 / 9, 0.1),
    seen_from=[],
    low=(-1, -1, -1),
    high=(1, 1, 1),
    kind="points",
)


@pytest.fixture
def balls(tmp_path: Path) -> Path:
    """Return a page with four balls with a standard deviation of 0.1 and an ellipsoid, seen from 10 away.

    One ball is red and on the left, one is green and on the right, one is blue and above. The red one hides a white
    one. The ellipsoid is green, below, and 6 times as wide as high.
    """
    points = np.array([[-1, 0, 0], [1, 0, 0], [0, 0, 1], [-1.3, 3, 0], [0, 0, -1]], np.float32)
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], np.float32)
    gaussians = Gaussians.of_points(points, colours, np.full(5, 0.1, np.float32))
    # Its long axis is its own z; a quarter of a turn about y brings that to x.
    gaussians.scales[4] += np.log([0.5, 0.5, 3])
    gaussians.rotations[4] = np.array([1, 0, 1, 0]) / np.sqrt(2)
    file = tmp_path / "index.html"
    file.write_text(page("street", gaussians, VIEW))
    return file


def shown(browser: Browser) -> Array:
    """Wait until something new is drawn, and return the screen (540, 960, 3), 0 to 1."""
    drawn = browser.execute_script("return Number(document.body.dataset.drawn || 0)")
    browser.execute_script("dispatchEvent(new Event('resize'))")
    browser.until(lambda: browser.execute_script("return Number(document.body.dataset.drawn || 0)") > drawn)
    with Image.open(BytesIO(browser.get_screenshot_as_png())) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def place(picture: Array, colour: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """Return the middle of the pixels of about that colour, in px right and down of the picture's, and their extent."""
    rows, columns = np.nonzero(np.abs(picture[:480] - colour).max(axis=2) < 0.3)  # above the words
    assert len(rows), f"there is nothing of {colour}"
    return columns.mean() - 479.5, rows.mean() - 269.5, float(np.ptp(columns)), float(np.ptp(rows))


def test_the_page_shows_what_is_in_it_and_turns(balls: Path, browser: Browser) -> None:
    for look in browser.looks():
        browser.get(balls.as_uri())
        browser.until(lambda: browser.execute_script("return document.body.dataset.drawn"))
        assert browser.overflow() == 0 and browser.barriers() == [], look
    browser.resize(960, 540)
    browser.get(balls.as_uri())
    browser.until(lambda: browser.execute_script("return document.body.dataset.drawn"))
    picture = shown(browser)
    pixels = 960 / (2 * 4 / 9 * 10 * 1.25)  # of a unit at the target's distance
    assert browser.title == "street" and "5 points" in browser.text()
    assert place(picture, (1, 0, 0))[:2] == pytest.approx((-pixels, 0), abs=3)
    assert place(picture, (0, 0, 1))[:2] == pytest.approx((0, -pixels), abs=3)
    right, below = picture.copy(), picture.copy()
    right[310:], below[:310] = 0, 0
    assert place(right, (0, 1, 0))[:2] == pytest.approx((pixels, 0), abs=3)
    x, y, wide, high = place(below, (0, 1, 0))
    assert (x, y) == pytest.approx((0, pixels), abs=3) and wide / high == pytest.approx(6, rel=0.3)
    assert np.abs(picture[:480, :440] - 1).max(axis=2).min() > 0.15, "what is behind is drawn before"

    canvas = browser.find_element("css selector", "canvas")
    quarter = round(np.pi / 2 / 0.005)  # to the right: what was on the left comes to the front
    ActionChains(browser).move_to_element_with_offset(canvas, -quarter, 0).click_and_hold().move_by_offset(
        quarter, 0
    ).release().perform()
    picture = shown(browser)
    assert place(picture, (1, 0, 0))[0] == pytest.approx(0, abs=3)
    assert abs(place(picture, (1, 1, 1))[0]) > 2 * pixels, "the white one is not beside it"

    assert [url for url in browser.requested() if url != balls.as_uri()] == []
    assert [words for words in browser.complaints() if "GPU stall" not in words] == []


def test_it_turns_only_to_where_photos_were_taken_by_the_keyboard_too(tmp_path: Path, browser: Browser) -> None:
    points = np.array([[-1, 0, 0], [1, 0, 0]], np.float32)
    colours = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    gaussians = Gaussians.of_points(points, colours, np.full(2, 0.1, np.float32))
    file = tmp_path / "index.html"
    file.write_text(page("street", gaussians, VIEW.model_copy(update={"seen_from": [(0, 0, 1)]})))
    browser.resize(960, 540)
    browser.get(file.as_uri())
    browser.until(lambda: browser.execute_script("return document.body.dataset.drawn"))
    canvas = browser.find_element("css selector", "canvas")
    canvas.send_keys(Keys.ARROW_LEFT * 20)  # by 115 degrees, if it might
    x, z = np.cos(np.radians(25)), np.sin(np.radians(25))
    expected = 960 / (2 * 4 / 9 * 1.25) * x / (10 - z)
    picture = shown(browser)
    assert abs(place(picture, (1, 0, 0))[0]) == pytest.approx(expected, rel=0.12)
    for across, down in ((400, 0), (-400, 0), (0, 200), (0, -200), (400, 200), (-400, -200)):
        canvas.send_keys(Keys.HOME)
        for _ in range(3):  # by up to 344 degrees, if it might
            ActionChains(browser).drag_and_drop_by_offset(canvas, across, down).perform()
        angle = math.degrees(math.acos(browser.execute_script("return camera.nearest(camera.turn, camera.tilt)")))
        assert 22 < angle <= 25, "dragged, it comes to the limit and stays there"
    canvas.send_keys(Keys.HOME)
    assert place(shown(browser), (1, 0, 0))[0] == pytest.approx(-86.4, abs=3)
    canvas.send_keys("-" * 40)
    assert place(shown(browser), (1, 0, 0))[0] == pytest.approx(-43.2, abs=3), "no farther than twice as far"
    for _ in range(3):  # far beyond what is there
        ActionChains(browser).key_down(Keys.SHIFT).drag_and_drop_by_offset(canvas, 400, 0).key_up(Keys.SHIFT).perform()
    assert place(shown(browser), (1, 0, 0))[0] == pytest.approx(0, abs=3), "the target stays in the box"


def test_only_its_own_script_runs(tmp_path: Path, browser: Browser) -> None:
    evil = "</title><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    file, ones = tmp_path / "index.html", np.ones((1, 3), np.float32)
    file.write_text(page("street", Gaussians.of_points(ones, ones, np.ones(1, np.float32)), VIEW))
    file.write_text(file.read_text().replace("</canvas>", f"</canvas>{evil}"))
    browser.get(file.as_uri())
    browser.until(lambda: browser.execute_script("return document.body.dataset.drawn"))
    assert browser.title == "street"
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_only_data_is_taken_from_a_page(balls: Path) -> None:
    found = read(balls)
    assert found and found.view == VIEW
    balls.write_text(balls.read_text().replace('"half_field"', '"old"'))
    assert read(balls) is None, "of an earlier version"
    balls.write_text(render("street", found._replace(splats='"><script>alert(1)</script>')))
    with pytest.raises(InvalidInput, match=r"index\.html"):
        read(balls)
    balls.write_text(render("street", found).replace('"eye":[0.0', '"eye":["</script>"'))
    with pytest.raises(InvalidInput, match=r"index\.html"):
        read(balls)


def test_a_browser_without_webgl_says_so(balls: Path, browser: Browser) -> None:
    without = "HTMLCanvasElement.prototype.getContext = () => null"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": without})
    browser.get(balls.as_uri())
    said = browser.find_element("id", "said")
    browser.until(lambda: said.text.startswith("This cannot be shown: this browser has no WebGL2"))
