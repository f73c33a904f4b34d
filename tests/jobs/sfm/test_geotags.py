"""Places of which photos show only what is equal: GPS tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from jobs.errors import GateRefused
from jobs.facade import cameras, photograph
from jobs.facade import street as street_front
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from jobs.sfm import geotags
from tests.jobs.preparing import read
from tests.jobs.sfm.test_lookalikes import FRONT, reconstruction, wall

LATITUDE, LONGITUDE = 51.5, 7.5
METRE = 1 / 111_195

Places = dict[str, tuple[float, float] | None]


def equal_fronts(photos: tuple[int, int]) -> Any:
    """Return photos of two fronts that look the same."""
    front = wall(np.random.default_rng(1), 1500, FRONT)
    return reconstruction([(number, [front]) for number in photos])


def tagged(model: Any, metres: float, error: float = 4.0, seed: int = 0) -> Places:
    """Return GPS positions with an error. The second visit is that many metres to the north of the first."""
    rng, found = np.random.default_rng(seed), Places()
    for image in model.images.values():
        x, north = image.projection_center()[0], metres if image.name.startswith("1") else 0.0
        east, north = np.array([x, north]) + rng.normal(0, error / np.sqrt(2), 2)
        found[image.name] = (LATITUDE + METRE * north, LONGITUDE + METRE * east / np.cos(np.radians(LATITUDE)))
    return found


@pytest.mark.parametrize("photos", [(12, 4), (12, 3), (8, 8), (5, 14)])
@pytest.mark.parametrize("seed", range(5))
def test_equal_fronts_that_are_apart_by_gps_are_two_places(photos: tuple[int, int], seed: int) -> None:
    model = equal_fronts(photos)
    found = geotags.places(model, tagged(model, 60, seed=seed))
    assert [len(place) for place in found] == sorted(photos, reverse=True)
    assert all(len({name[0] for name in place}) == 1 for place in found)


@pytest.mark.parametrize("seed", range(5))
def test_the_back_of_a_house_that_equals_its_front_is_a_second_place(seed: int) -> None:
    """The house is 18 m deep, so that front and back were photographed from 36 m apart, from left to right each."""
    model = equal_fronts((10, 10))
    positions = tagged(model, 36, seed=seed)
    for name, place in positions.items():
        if place and name.startswith("1"):
            positions[name] = (place[0], 2 * LONGITUDE - place[1])
    assert [len(place) for place in geotags.places(model, positions)] == [10, 10]


@pytest.mark.parametrize("seed", range(20))
def test_positions_that_scatter_indoors_make_no_second_place(seed: int) -> None:
    model = equal_fronts((16, 16))
    assert geotags.places(model, tagged(model, 0, error=25, seed=seed)) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_error_of_gps_makes_no_second_place(seed: int) -> None:
    model = equal_fronts((12, 8))
    assert geotags.places(model, tagged(model, 0, error=8, seed=seed)) == []


def test_an_old_position_that_a_phone_repeats_makes_no_second_place() -> None:
    model = equal_fronts((12, 4))
    positions = tagged(model, 80)
    repeated = positions["1_013.pgm"]
    assert geotags.places(model, {**positions, **{n: repeated for n in positions if n.startswith("1")}}) == []


def test_too_few_positions_say_nothing() -> None:
    model = equal_fronts((12, 4))
    positions = tagged(model, 80)
    assert geotags.places(model, {name: positions[name] for name in sorted(positions)[10:]}) == []
    assert geotags.places(model, dict.fromkeys(positions)) == []


@pytest.mark.slow
@pytest.mark.parametrize("second", [4, 9])
def test_a_second_place_of_which_only_the_equal_front_is_seen_is_left_out(second: int, tmp_path: Path) -> None:
    scene, rng = street_front(480), np.random.default_rng(0)
    walks = {"a": cameras(12, 480, 270), "b": cameras(13, 480, 270)[2 : 2 + second]}
    (tmp_path / "photos").mkdir()
    for name, views in walks.items():
        photograph(scene, views, tmp_path / name, 1)
        for view, file in zip(views, sorted((tmp_path / name / "photos").iterdir()), strict=True):
            north, east = np.array([60.0 * (name == "b"), view.center[0]]) + rng.normal(0, 3, 2)
            with Image.open(file) as image:
                exif = image.getexif()
                gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
                gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "N", "E"
                gps[ExifTags.GPS.GPSLatitude] = (LATITUDE + METRE * north, 0.0, 0.0)
                gps[ExifTags.GPS.GPSLongitude] = (LONGITUDE + METRE * east / np.cos(np.radians(LATITUDE)), 0.0, 0.0)
                image.save(tmp_path / "photos" / f"{name}_{file.name}", quality="keep", exif=exif)
    options = PrepareOptions(max_features=1000)
    if second == 9:  # of 21 photos, too few are of one place
        with pytest.raises(GateRefused, match=r"apart by GPS.*b_facade_001.jpg"):
            prepare(tmp_path / "photos", tmp_path / "dataset", options)
        return
    prepare(tmp_path / "photos", tmp_path / "dataset", options)
    about = read(tmp_path / "dataset" / "dataset.json")
    assert {image["source"][0] for image in about["images"] if image["registered"]} == {"a"}
    assert about["registered"] == 12 and "apart by GPS" in about["selection"]
