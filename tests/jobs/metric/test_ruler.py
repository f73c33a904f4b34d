"""Measuring on the page, in a real browser: its figures are those of Python, and a later visit shows the difference."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

from jobs.metric.cameras import Cameras, Untriangulated
from jobs.metric.given import Pick, read_scale
from jobs.metric.observations import triangulated
from jobs.metric.picking import picking_page
from jobs.metric.ruler import Figure, Quantity, figure
from jobs.metric.scene import Scale, SceneInMetres, Up
from jobs.metric.triangulation import Point
from tests.browser import Browser, browser
from tests.jobs.metric.street import HEIGHT, UNIT, WIDTH, Street

__all__ = ["browser"]

pytestmark = pytest.mark.timeout(300)

METRES = SceneInMetres(
    scale=Scale(metres=UNIT, error=0.002), up=Up(direction=(0.0, 0.0, 1.0), error=1.5), registration_error=0.0005
)
A, B, C, D = (-2.0, -0.3, 0.5), (1.5, -0.3, 0.6), (1.4, -0.3, 2.4), (-2.0, -0.3, 2.5)
POINTS: dict[Quantity, tuple[tuple[float, float, float], ...]] = {
    "distance": (A, C),
    "height": (A, D),
    "angle": (A, B, C),
    "area": (A, B, C, D),
}
TRUE: dict[Quantity, float] = {"distance": 3.8949, "height": 2.0, "angle": 88.46, "area": 6.555}


def make_street(folder: Path) -> Street:
    """Return the street's cameras with grey pictures, half as large as the photos, and poses that are not exact."""
    about = {"options": {"downscale_factor": 2}, "reprojection_error_px": 0.6}
    street = Street(folder, about=about)
    (folder / "images").mkdir()
    for number in range(len(street.cameras)):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(folder / "images" / f"frame_{number:05d}.jpg")
    return street


def picked(street: Street, point: Sequence[float]) -> list[Pick]:
    """Pick a point in pixels of the photos."""
    return [pick.model_copy(update={"x": 2 * pick.x, "y": 2 * pick.y}) for pick in street.picks(point)]


def pick_on_page(browser: Browser, item: int, points: Sequence[Sequence[Pick]]) -> None:
    """Give the points of a measurement their picks."""
    browser.execute_script(
        """const [item, points] = arguments;
        points.forEach((picks, k) => picks.forEach(pick => {
          const index = photos.findIndex(p => p.name === pick.photo);
          const scale = photos[index].scale;
          measurements[item].points[k].picks.set(index, [pick.x * scale, pick.y * scale]);
        }));
        choose(measurements[item].points[0]);""",
        item,
        [[pick.model_dump() for pick in picks] for picks in points],
    )


def in_python(street: Street, quantity: Quantity, points: Sequence[Sequence[Pick]]) -> Figure:
    cameras = Cameras(street.folder)
    found = [triangulated(picks, cameras, 0.5)[0] for picks in points]
    return figure(quantity, found, cameras.pose_error, METRES.up)


def open_page(browser: Browser, street: Street, file: Path, metres: SceneInMetres | None, version: str) -> None:
    file.write_text(picking_page("street", street.folder, metres, version, "frame:1"))
    browser.get(file.as_uri())


@pytest.mark.parametrize(
    "lens",
    [
        {"k1": -0.03, "k2": 0.01, "p1": 1e-3, "p2": -2e-3},
        pytest.param(
            {"camera_model": "OPENCV_FISHEYE", "k1": 0.03, "k2": -0.02, "k3": 0.01, "k4": -0.01},
            marks=pytest.mark.slow,
            id="fisheye",
        ),
    ],
)
def test_the_page_measures_as_python_does_and_a_later_visit_shows_the_difference(
    browser: Browser, tmp_path: Path, lens: dict[str, Any]
) -> None:
    street, rng = make_street(tmp_path / "first"), np.random.default_rng(8)
    transforms = street.folder / "transforms.json"
    content = json.loads(transforms.read_text())
    transforms.write_text(json.dumps({**content, **lens}))
    cameras = Cameras(street.folder)

    def seen(point: Sequence[float]) -> list[Pick]:
        """Pick a point with 0.5 px of noise, through the lens."""
        picks = []
        for pick in picked(street, point):
            camera = cameras.find(pick.photo)
            assert camera
            x, y = camera.project(np.array([point]) / UNIT)[0] / camera.scale + rng.normal(0, 0.5, 2)
            picks.append(pick.model_copy(update={"x": float(x), "y": float(y)}))
        return picks

    browser.resize(1300, 900)
    browser.download_to(tmp_path / "downloads")
    open_page(browser, street, tmp_path / "first.html", METRES, "street:1")
    assert "1 unit = 7.3 m ± 0.39 %" in browser.text()
    given = {quantity: [seen(point) for point in points] for quantity, points in POINTS.items()}
    given["distance"][0][2] = given["distance"][0][2].model_copy(update={"x": 40.0})  # contradicts the others
    for number, (quantity, picks) in enumerate(given.items()):
        browser.click(f"Add a{'n' if quantity[0] == 'a' else ''} {quantity}")
        if quantity == "area":
            browser.click("Add a corner")
        pick_on_page(browser, number, picks)
        here = browser.execute_script("return figureOf(measurements[arguments[0]])", number)
        python = in_python(street, quantity, picks)
        assert here["value"] == pytest.approx(python.value, rel=1e-6), quantity
        assert here["error"] == pytest.approx(python.error, rel=1e-5), quantity
        assert METRES.scale
        python = python.scaled(METRES.scale)
        scaled = browser.execute_script("return scaled(figureOf(measurements[arguments[0]]))", number)
        assert [scaled["value"], scaled["error"]] == pytest.approx([python.value, python.error], rel=1e-5)
        assert abs(python.value - TRUE[quantity]) < 3 * python.error < 0.1 * TRUE[quantity]
    assert f"The pick in {given['distance'][0][2].photo} contradicts the others." in browser.text()
    name = browser.find_element("css selector", "#measurements input")
    name.clear()
    name.send_keys('=of the "shop"')
    browser.click("Save measurements.csv")
    browser.click("Save measurements.json")
    saved, table = (tmp_path / "downloads" / f"measurements.{ending}" for ending in ("json", "csv"))
    browser.until(lambda: saved.is_file() and table.is_file())
    first = json.loads(saved.read_text())["measurements"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["name"], row["kind"], row["unit"]) for row in rows] == [
        ('\'=of the "shop"', "distance", "m"),
        ("height 1", "height", "m"),
        ("angle 1", "angle", "°"),
        ("area 1", "area", "m²"),
    ]
    assert [float(row["value"]) for row in rows] == [each["value"] for each in first]
    browser.click("Save scale.json")
    browser.until((tmp_path / "downloads" / "scale.json").is_file)
    [area] = read_scale(tmp_path / "downloads" / "scale.json").areas
    assert area.name == "area 1" and [len(picks) for picks in area.corners] == [len(picks) for picks in given["area"]]
    assert browser.complaints() == []

    # On the same page again, the picks come back.
    open_page(browser, street, tmp_path / "first.html", METRES, "street:1")
    browser.find_element("id", "load").send_keys(str(saved))
    browser.until(lambda: "4 loaded." in browser.text())
    again = browser.execute_script("return measurements.map(item => record(item).value)")
    assert again == pytest.approx([each["value"] for each in first], rel=1e-4)

    # At a later visit, the corner of the area has moved by 0.1 m.
    later = make_street(tmp_path / "later")
    open_page(browser, later, tmp_path / "later.html", METRES, "street:2")
    browser.find_element("id", "load").send_keys(str(saved))
    browser.until(lambda: "Grey rings show where the points were" in browser.text())
    wider = [picked(later, point) for point in (A, (1.6, -0.3, 0.6), (1.5, -0.3, 2.4), D)]
    pick_on_page(browser, 3, wider)
    difference = browser.execute_script("return differenceOf(figureOf(measurements[3]), measurements[3].earlier)")
    now = in_python(later, "area", wider)
    assert difference["value"] == pytest.approx((now.value - first[3]["units"]) * UNIT**2, rel=1e-4)
    assert abs(difference["value"] - 0.19) < 3 * difference["error"]
    stretch = 2 * math.hypot(0.0005, 0.0005) * first[3]["units"]
    without_scale = math.hypot(now.error, first[3]["units_error"], stretch) * UNIT**2
    assert difference["error"] == pytest.approx(math.hypot(without_scale, 2 * 0.002 * difference["value"]), rel=1e-4)
    row = browser.find_elements("css selector", "#measurements tr")[3]
    assert "+0.1" in row.text or "+0.2" in row.text


def test_the_keyboard_picks_and_a_scene_without_scale_says_so(browser: Browser, tmp_path: Path) -> None:
    street = make_street(tmp_path / "dataset")
    browser.resize(1300, 900)
    open_page(browser, street, tmp_path / "page.html", None, "street:1")
    assert "The scene has no scale yet: lengths are in scene units" in browser.text()
    browser.click("Add a distance")
    for point, target in enumerate((A, C)):
        browser.execute_script("choose(measurements[0].points[arguments[0]])", point)
        for pane, number in enumerate((4, 8)):
            browser.execute_script("show(panes[arguments[0]], arguments[1])", pane, number)
            x, y, _ = street.cameras[number].project(np.array(target))
            middle = """const [n, x, y] = arguments, p = panes[n], c = p.canvas;
                p.zoom = 4; p.x = c.clientWidth / 2 - 4 * x + 40; p.y = c.clientHeight / 2 - 4 * y; c.focus();"""
            browser.execute_script(middle, pane, float(x), float(y))
            browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    units = browser.execute_script("return figureOf(measurements[0])")
    assert units["value"] * UNIT == pytest.approx(TRUE["distance"], abs=0.01)
    assert "scene units ±" in browser.find_element("css selector", "#measurements output").text
    browser.switch_to.active_element.send_keys(Keys.DELETE)
    assert (
        browser.find_element("css selector", "#measurements output").text
        == "point 2 is picked in 1 photo, 2 are needed"
    )
    browser.click("Add an area")
    browser.click("Add a corner")
    pick_on_page(browser, 1, [picked(street, corner) for corner in (A, B, C, D)])
    assert "Not flat" not in browser.text()
    pick_on_page(browser, 1, [picked(street, corner) for corner in (A, B, (1.4, -1.1, 2.4), D)])
    assert "Not flat: a corner is 0.0" in browser.text()  # 0.8 m off the others, in units of 7.3 m
    whole = {"scene": "street", "frame": "frame:1", "dataset": "street:1", "registration_error": 0, "measurements": []}
    bent = {"name": "<b>x</b>", "kind": "volume", "points": []}
    for content, why in (
        ("[[", "Unexpected end of JSON input"),
        ("null", "Cannot read properties of null"),
        (json.dumps({**whole, "scene": "other"}), "it is of the scene other"),
        (json.dumps({**whole, "measurements": "none"}), "it has no list of measurements"),
        (json.dumps({**whole, "registration_error": "0"}), "a value is no number"),
        (json.dumps({**whole, "measurements": [bent]}), "the kind or the points of <b>x</b> are not known"),
    ):
        (file := tmp_path / "hostile.json").write_text(content)
        browser.find_element("id", "load").send_keys(str(file))
        browser.until(lambda why=why: f"hostile.json is not used: {why}" in browser.text(), 10)  # type: ignore[misc]
    assert browser.execute_script("return measurements.length") == 2


def test_stated_errors_hold_as_often_as_they_say(tmp_path: Path) -> None:
    street = Street(tmp_path)
    cameras = Cameras(street.folder)
    level = Up(direction=(0.0, 0.0, 1.0), error=0.0)

    def found(rng: np.random.Generator | None = None) -> dict[tuple[float, float, float], Point]:
        return {corner: triangulated(street.picks(corner, rng), cameras, 0.5)[0] for corner in (A, B, C, D)}

    exact, trials = found(), [found(np.random.default_rng(seed)) for seed in range(100)]
    for quantity, corners in POINTS.items():
        value = figure(quantity, [exact[corner] for corner in corners], 0.0, level).value
        measured = [figure(quantity, [trial[corner] for corner in corners], 0.0, level) for trial in trials]
        off = [(each.value - value) / each.error for each in measured]
        # Of 100 intervals that hold in 95 % of cases, 88 to 99 do, in all but one run of a thousand.
        assert 88 <= np.sum(np.abs(off) <= 1.96) <= 99, quantity
        assert abs(np.mean(off)) < 0.33, quantity


def test_what_has_no_figure_says_why(tmp_path: Path) -> None:
    street = Street(tmp_path)
    cameras = Cameras(street.folder)
    a, b, c, d = (triangulated(street.picks(point), cameras, 0.5)[0] for point in (A, B, C, D))
    up = Up(direction=(0.0, 0.0, 1.0), error=1.0)
    with pytest.raises(Untriangulated, match="cross"):
        figure("area", [a, c, b, d], 0.0, up)
    with pytest.raises(Untriangulated, match="same"):
        figure("angle", [a, a, b], 0.0, up)
    assert figure("height", [d, a], 0.0, up).value < 0
