"""Measuring in the 3D view, in a real browser: clicks find triangulated points, and figures are those of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from jobs.errors import InvalidInput
from jobs.geometry import Floats
from jobs.metric.cameras import Cameras
from jobs.metric.picking import picking_page
from jobs.metric.ruler import figure
from jobs.metric.tracks import Track, read_tracks
from jobs.metric.triangulation import Point, triangulate
from tests.browser import Browser, browser
from tests.jobs.metric.street import HEIGHT, UNIT, WIDTH
from tests.jobs.metric.test_ruler import METRES, make_street

__all__ = ["browser"]

pycolmap = pytest.importorskip("pycolmap")
pytestmark = pytest.mark.timeout(300)

LEFT, RIGHT, BEHIND = (-2.0, -0.3, 1.5), (1.5, -0.3, 2.4), (1.5, 8.0, 2.4)


class Reconstructed(NamedTuple):
    """A dataset with a COLMAP model of three points, and the cameras."""

    folder: Path
    cameras: Cameras

    def point(self, track: Track) -> Point:
        """Triangulate a track in Python."""
        cameras = [self.cameras.all[number] for number, _ in track.seen]
        accuracy = [0.5 * camera.scale for camera in cameras]
        return triangulate(cameras, np.array([pixel for _, pixel in track.seen]), np.array(accuracy))


@pytest.fixture
def dataset(tmp_path: Path) -> Reconstructed:
    """Return the street, whose points were matched within 0.3 px. One photo shows the left point 40 px off."""
    folder, rng = make_street(tmp_path / "dataset").folder, np.random.default_rng(4)
    cameras = Cameras(folder)
    model = pycolmap.Reconstruction()
    first = cameras.all[0]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="PINHOLE", camera_id=1, width=WIDTH, height=HEIGHT, params=[*first.focal, *first.centre])
    )
    seen: dict[int, list[tuple[int, int]]] = {0: [], 1: [], 2: []}
    for number, camera in enumerate(cameras.all):
        pixels: list[Floats] = []
        for point, metres in enumerate((LEFT, RIGHT, BEHIND)):
            position: Floats = np.array(metres) / UNIT
            pixel = camera.project(position[None])[0] + rng.normal(0, 0.3, 2).clip(-0.6, 0.6)
            if camera.depth(position) > 0 and 0 < pixel[0] < WIDTH and 0 < pixel[1] < HEIGHT:
                seen[point].append((number + 1, len(pixels)))
                pixels.append(pixel + (40 if point == 0 and len(seen[0]) == 1 else 0))
        rotation = camera.pose[:, :3]
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation.T), -rotation.T @ camera.position)
        name = camera.file.rpartition("/")[2]
        image = pycolmap.Image(name=name, camera_id=1, image_id=number + 1, keypoints=np.array(pixels).reshape(-1, 2))
        model.add_image_with_trivial_frame(image, pose)
    for point, metres in enumerate((LEFT, RIGHT, BEHIND)):
        track = pycolmap.Track()
        for image_id, index in seen[point]:
            track.add_element(image_id, index)
        model.add_point3D(np.array(metres) / UNIT, track, np.array([200, 40, 10 * point], np.uint8))
    (folder / "colmap/sparse/0").mkdir(parents=True)
    model.write(folder / "colmap/sparse/0")
    return Reconstructed(folder, cameras)


def click(browser: Browser, track: int) -> None:
    """Click where the 3D view shows a track, 3 px beside it."""
    canvas = browser.find_elements("css selector", "canvas")[2]
    x, y, _ = browser.execute_script("return projection()(tracks[arguments[0]].at)", track)
    offset = round(x - canvas.size["width"] / 2) + 3, round(y - canvas.size["height"] / 2)
    ActionChains(browser).move_to_element_with_offset(canvas, *offset).click().perform()


def test_clicks_in_3d_measure_between_triangulated_points(
    browser: Browser, dataset: Reconstructed, tmp_path: Path
) -> None:
    left, right, _ = read_tracks(dataset.folder, dataset.cameras.all)
    assert left.colour == (200, 40, 0)
    assert all(
        np.abs(pixel - dataset.cameras.all[n].project(left.position[None])[0]).max() < 1 for n, pixel in left.seen
    )
    browser.resize(1300, 900)
    browser.download_to(tmp_path / "downloads")
    file = tmp_path / "page.html"
    file.write_text(picking_page("street", dataset.folder, METRES, "street:1", "frame:1"))
    browser.get(file.as_uri())
    click_first = "Add a measurement first"
    click(browser, 0)
    assert click_first in browser.text()
    browser.click("Add a distance")
    click(browser, 0)
    assert f"A point of {len(left.seen)} photos, ±" in browser.text() and click_first not in browser.text()
    click(browser, 1)
    picked = browser.execute_script("return measurements[0].points.map(point => [...point.picks.keys()])")
    assert picked == [[number for number, _ in track.seen] for track in (left, right)]
    here = browser.execute_script("return figureOf(measurements[0])")
    python = figure("distance", [dataset.point(left), dataset.point(right)], dataset.cameras.pose_error, METRES.up)
    assert [here["value"], here["error"]] == pytest.approx([python.value, python.error], rel=1e-3)
    assert abs(here["value"] * UNIT - np.linalg.norm(np.subtract(LEFT, RIGHT))) < 3 * here["error"] * UNIT
    assert browser.complaints() == []

    # The point in front is taken, even if the one behind it is nearer to the cursor.
    browser.execute_script(
        """const eye = position(photos[8]), d = minus(tracks[1].at, eye), near = length3(d);
        tracks[2].at = eye.map((v, k) => v + 2 * d[k]);
        space.target = tracks[1].at; space.distance = near;
        space.turn = Math.atan2(-d[0], d[1]); space.tilt = Math.asin(-d[2] / near);
        measurements[0].points.forEach(point => point.picks.clear());
        choose(measurements[0].points[0]);"""
    )
    click(browser, 2)
    front = browser.execute_script("return [...measurements[0].points[0].picks.values()]")
    assert front == [pytest.approx(pixel.tolist(), abs=0.01) for _, pixel in right.seen]

    # With the keyboard: the point in the middle, and the picks away again.
    browser.execute_script("space.canvas.focus()")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return measurements[0].points[1].picks.size") == len(right.seen)
    browser.switch_to.active_element.send_keys(Keys.DELETE)
    assert browser.execute_script("return current.picks.size") == 0
    before = browser.execute_script("return [space.turn, space.distance]")
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT, "-")
    turn, distance = browser.execute_script("return [space.turn, space.distance]")
    assert turn != before[0] and distance > before[1]
    browser.switch_to.active_element.send_keys(Keys.HOME)

    # Saved and loaded as points that were picked in photos.
    browser.execute_script("choose(measurements[0].points[0])")
    click(browser, 0)
    click(browser, 1)
    browser.click("Save measurements.json")
    saved = tmp_path / "downloads" / "measurements.json"
    browser.until(saved.is_file)
    [item] = json.loads(saved.read_text())["measurements"]
    assert item["units"] == pytest.approx(python.value, rel=1e-3)
    assert [pick["photo"] for pick in item["points"][0]["picks"]] == [
        dataset.cameras.all[number].name for number, _ in left.seen
    ]
    browser.get(file.as_uri())
    browser.find_element("id", "load").send_keys(str(saved))
    browser.until(lambda: "1 loaded." in browser.text())
    for look in browser.looks():
        assert browser.barriers() == [], look


def test_a_click_in_a_photo_takes_the_point_that_photos_agree_on(
    browser: Browser, dataset: Reconstructed, tmp_path: Path
) -> None:
    left, *_ = read_tracks(dataset.folder, dataset.cameras.all)
    number, pixel = left.seen[2]
    browser.resize(1300, 900)
    file = tmp_path / "page.html"
    file.write_text(picking_page("street", dataset.folder, METRES, "street:1", "frame:1"))
    browser.get(file.as_uri())
    browser.execute_script("show(panes[0], arguments[0])", number)
    browser.click("Add a distance")

    def at(beside: float) -> ActionChains:
        """Go to where the photo shows the point, but for px of the picture."""
        canvas = browser.find_elements("css selector", "canvas")[0]
        place = "const p = panes[0]; p.zoom = 6; p.x = 300 - 6 * arguments[0]; p.y = 200 - 6 * arguments[1]; draw(p)"
        browser.execute_script(place, *pixel.tolist())
        offset = round(300 + 6 * beside - canvas.size["width"] / 2), round(200 - canvas.size["height"] / 2)
        return ActionChains(browser).move_to_element_with_offset(canvas, *offset)

    def picks() -> list[list[int]]:
        found: list[list[int]] = browser.execute_script("return measurements[0].points.map(p => [...p.picks.keys()])")
        return found

    agreed = [each for each, _ in left.seen]
    at(1.5).perform()
    assert browser.execute_script("return panes[0].under.track === tracks[0]"), "a ring shows it"
    at(1.5).click().perform()
    assert picks() == [agreed, []] and f"A point of {len(agreed)} photos, ±" in browser.text()
    assert browser.execute_script("return current === measurements[0].points[1]"), "the next one follows"
    at(2.5).click().perform()  # too far beside it
    assert picks() == [agreed, [number]]
    [[x, y]] = browser.execute_script("return [...measurements[0].points[1].picks.values()]")
    assert [x, y] == pytest.approx([pixel[0] + 2.5, pixel[1]], abs=0.2)
    at(1.5).click().perform()  # a point with a pick is picked by hand
    assert picks() == [agreed, [number]]
    browser.execute_script("choose(measurements[0].points[0])")
    at(1.5).context_click().perform()
    assert picks() == [[], [number]], "what one click made is removed by one"
    at(1.5).key_down(Keys.SHIFT).click().key_up(Keys.SHIFT).perform()
    assert picks() == [[number], [number]]
    browser.execute_script("choose(measurements[0].points[1])")
    at(0).context_click().perform()
    browser.execute_script("panes[0].canvas.focus()")
    middle = "const c = panes[0].canvas; panes[0].x += c.clientWidth / 2 - 300; panes[0].y += c.clientHeight / 2 - 200"
    at(0).perform()
    browser.execute_script(middle)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert picks() == [[number], agreed]
    assert browser.complaints() == []


def test_damaged_and_missing_models(dataset: Reconstructed) -> None:
    folder = dataset.folder / "colmap/sparse/0"
    for name in ("images.bin", "points3D.bin"):
        whole = (folder / name).read_bytes()
        for part in (whole[:-9], b"\xff" * 80, b""):
            (folder / name).write_bytes(part)
            with pytest.raises(InvalidInput, match="scene street: .*damaged"):
                picking_page("street", dataset.folder)
        (folder / name).write_bytes(whole)
    (folder / "points3D.bin").unlink()
    assert read_tracks(dataset.folder, dataset.cameras.all) == []
