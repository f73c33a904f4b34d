"""The page for picking in a real browser: points are clicked, and what it saves gives the scale."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains

from jobs.errors import InvalidInput
from jobs.metric.cameras import Cameras
from jobs.metric.given import Given, Pick, read_scale
from jobs.metric.measure import measure
from jobs.metric.observations import triangulated
from jobs.metric.picking import picking_page
from tests.browser import Browser, browser
from tests.jobs.metric.street import HEIGHT, UNIT, WIDTH, Street

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(300)

ENDS = ((-2.0, -0.3, 2.0), (2.0, -0.3, 2.0))
SHOWN = (4, 8)
HOSTILE = "</script><script>document.title = 'taken over'</script>.jpg"


@pytest.fixture
def street(tmp_path: Path) -> Street:
    """Return the street's cameras with grey pictures, one of which has a hostile name."""
    street = Street(tmp_path / "dataset")
    (street.folder / "images").mkdir()
    for number in range(len(street.cameras)):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(street.folder / "images" / f"frame_{number:05d}.jpg")
    manifest = street.folder / "dataset.json"
    about = json.loads(manifest.read_text())
    about["images"][0]["source"] = HOSTILE
    manifest.write_text(json.dumps(about))
    return street


def place(browser: Browser, pane: int, street: Street, point: tuple[float, float, float]) -> tuple[int, int]:
    """Return where a pane shows a point (3,) in metres: px of the canvas, right and down."""
    x, y, _ = street.cameras[SHOWN[pane]].project(np.array(point))
    where = "const p = panes[arguments[0]]; return [p.x + p.zoom * arguments[1], p.y + p.zoom * arguments[2]]"
    left, top = browser.execute_script(where, pane, float(x), float(y))
    return round(left), round(top)


def click(browser: Browser, pane: int, at: tuple[int, int]) -> None:
    canvas = browser.find_elements("css selector", "canvas")[pane]
    size = canvas.size
    offset = at[0] - size["width"] // 2, at[1] - size["height"] // 2
    ActionChains(browser).move_to_element_with_offset(canvas, *offset).click().perform()


def orange(browser: Browser, pane: int, at: tuple[int, int]) -> bool:
    """Return whether a line passes within 3 px of a place in a pane."""
    corner = browser.execute_script(
        "const b = panes[arguments[0]].canvas.getBoundingClientRect(); return [b.left, b.top]", pane
    )
    with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as picture:
        pixels = np.asarray(picture.convert("RGB"), float)
    column, row = round(corner[0] + at[0]), round(corner[1] + at[1])
    near = pixels[row - 3 : row + 4, column - 3 : column + 4]
    return bool(((near[..., 0] - near[..., 2]) > 60).any())


def test_what_is_clicked_gives_the_scale(street: Street, browser: Browser, tmp_path: Path) -> None:
    (file := tmp_path / "pick.html").write_text(picking_page("street", street.folder))
    browser.download_to(tmp_path / "downloads")
    for look in browser.looks():
        browser.get(file.as_uri())
        assert browser.overflow() == 0 and browser.barriers() == [], look
    browser.resize(1300, 900)
    browser.get(file.as_uri())
    for pane, number in enumerate(SHOWN):
        browser.execute_script("show(panes[arguments[0]], arguments[1])", pane, number)
    browser.click("Save scale.json")
    assert "Add a length first." in browser.text()
    browser.click("Add a length")
    for end, words in zip(ENDS, ("start", "end"), strict=True):
        browser.click(f"{words}: 0 photos")
        click(browser, 0, place(browser, 0, street, end))
        assert orange(browser, 1, place(browser, 1, street, end)), "no line shows where the point must lie"
        click(browser, 1, place(browser, 1, street, end))
        assert f"{words}: 2 photos" in browser.text()
    browser.click("Save scale.json")
    assert "length 1: say how many metres it is." in browser.text()
    browser.find_element("css selector", "input.metres").send_keys("4")
    browser.click("Save scale.json")
    saved = tmp_path / "downloads" / "scale.json"
    browser.until(saved.is_file)
    given = read_scale(saved)
    assert [pick.photo for pick in given.lengths[0].start] == [street.photo(number) for number in SHOWN]
    scale = measure(street.folder, Given(lengths=given.lengths, pick_accuracy=1.0)).scale
    assert scale and scale.metres == pytest.approx(UNIT, rel=0.03)
    assert abs(np.log(scale.metres / UNIT)) < 3 * scale.error
    assert browser.title == "street: measure"
    assert [url for url in browser.requested() if not url.startswith(("file:", "blob:"))] == []
    assert browser.complaints() == []


def test_the_next_photo_is_the_one_that_makes_a_point_most_exact(
    street: Street, browser: Browser, tmp_path: Path
) -> None:
    (file := tmp_path / "pick.html").write_text(picking_page("street", street.folder))
    browser.resize(1300, 900)
    browser.get(file.as_uri())
    for pane, number in enumerate(SHOWN):
        browser.execute_script("show(panes[arguments[0]], arguments[1])", pane, number)
    browser.click("Add a length")
    click(browser, 0, place(browser, 0, street, ENDS[0]))
    next_photo = browser.find_elements("css selector", ".head button")[1]
    assert not next_photo.is_enabled()
    click(browser, 1, place(browser, 1, street, ENDS[0]))
    picks: dict[int, list[float]] = dict(browser.execute_script("return [...current.picks]"))

    def error(more: dict[int, list[float]]) -> float:
        picked = [Pick(photo=cameras.all[index].name, x=x, y=y) for index, (x, y) in {**picks, **more}.items()]
        return triangulated(picked, cameras, 0.5)[0].error

    cameras = Cameras(street.folder)
    point = triangulated(
        [Pick(photo=cameras.all[index].name, x=x, y=y) for index, (x, y) in picks.items()], cameras, 0.5
    )[0]
    seen = {index: camera.project(point.position[None])[0] for index, camera in enumerate(cameras.all)}
    errors = {
        index: error({index: pixel.tolist()})
        for index, pixel in seen.items()
        if index not in picks and (pixel > 0).all() and (pixel < (WIDTH, HEIGHT)).all()
    }
    best = sorted(errors, key=lambda index: errors[index])
    for index in best[:2]:  # the next one, if the point is hidden in the first
        next_photo.click()
        assert browser.execute_script("return panes[1].index") == index
    canvas = browser.find_elements("css selector", "canvas")[1]
    click(browser, 1, (canvas.size["width"] // 2, canvas.size["height"] // 2))
    assert "start: 3 photos" in browser.text()
    assert browser.execute_script("return Math.sqrt(trace(solved(current).found.covariance))") == pytest.approx(
        errors[best[1]], rel=0.02
    )


def test_a_damaged_dataset_and_one_that_leads_elsewhere_are_refused(street: Street, tmp_path: Path) -> None:
    transforms = street.folder / "transforms.json"
    content = json.loads(transforms.read_text())
    Image.new("RGB", (8, 8)).save(tmp_path / "private.jpg")
    content["frames"][0]["file_path"] = "../private.jpg"
    transforms.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="scene street: .*private.jpg"):
        picking_page("street", street.folder)
    transforms.write_text("{}")
    with pytest.raises(InvalidInput, match="scene street: .*KeyError"):
        picking_page("street", street.folder)
