from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from jobs.pictures.exif import Tags, camera, focal_length, is_panorama, read_tags, taken
from tests.pictures import apple_note

SENSOR = {"ExifImageWidth": 2220, "ExifImageHeight": 1480, "FocalPlaneResolutionUnit": 3}
RESOLUTION = {"FocalPlaneXResolution": 1000.0, "FocalPlaneYResolution": 1000.0}
"""An APS-C sensor of 22.2 x 14.8 mm."""


UPRIGHT = (3024, 4032)
"""A photo of a phone that is held upright."""


def focal(**values: Any) -> float | None:
    return focal_length({ExifTags.Base[name]: value for name, value in values.items()}, (4032, 3024))


def test_the_focal_length_comes_from_exif() -> None:
    assert focal() is None
    assert focal(FocalLengthIn35mmFilm=26) == pytest.approx(26 / 43.267, rel=1e-4)
    assert focal(FocalLength=50.0, **SENSOR, **RESOLUTION) == pytest.approx(50 / np.hypot(22.2, 14.8), rel=1e-4)
    assert focal(FocalLength=50.0) is None


@pytest.mark.parametrize(
    ("millimetres", "size", "pixels"),
    [
        (26, (4032, 3024), 3028),  # iPhone XR: 4.25 mm, 1.4 µm
        (26, (4032, 2268), 3028),
        (26, (2268, 4032), 3028),
        (26, (3024, 3024), 3028),
        (31, (4128, 2322), 3697),  # Galaxy Note 3: 4.13 mm, 1.12 µm
        (20, (4000, 2250), 2311),  # DJI FC300S: 3.61 mm, 1.54 µm
        (23, (4000, 1848), 2658),  # Galaxy S24 FE
        (26, (1008, 567), 757),  # made smaller
        (40, (1600, 1300), 1906),  # DJI FC6360: 5.74 mm, 3 µm
        (35, (6000, 4000), 5833),  # 35 mm film
        (38, (6000, 4500), 6587),
    ],
)
def test_pictures_that_are_cropped_have_the_focal_length_of_the_sensor(
    millimetres: int, size: tuple[int, int], pixels: float
) -> None:
    found = focal_length({ExifTags.Base.FocalLengthIn35mmFilm: millimetres}, size)
    assert found and found * np.hypot(*size) == pytest.approx(pixels, rel=1e-3)


@pytest.mark.parametrize("millimetres", [1, 3, 5000, -26, float("nan"), float("inf"), "x"])
def test_focal_lengths_that_no_lens_has_are_ignored(millimetres: Any) -> None:
    assert focal(FocalLengthIn35mmFilm=millimetres) is None


@pytest.mark.parametrize("width", [300, 24_000])
def test_sensors_that_no_camera_has_are_ignored(width: int) -> None:
    """As of photos that an editor made smaller without changing their focal-plane resolution."""
    size = {"ExifImageWidth": width, "ExifImageHeight": width * 2 // 3}
    assert focal(FocalLength=50.0, **{**SENSOR, **size}, **RESOLUTION) is None


def tags(xmp: bytes = b"", **gps: Any) -> Tags:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS[name]: value for name, value in gps.items()})
    again = Image.Exif()
    again.load(exif.tobytes())
    return read_tags(again, xmp, UPRIGHT)


def test_gps_position() -> None:
    where: dict[str, Any] = {"GPSLatitudeRef": "S", "GPSLatitude": (33.0, 51.0, 24.5), "GPSLongitudeRef": "E"}
    where |= {"GPSLongitude": (151.0, 12.0, 30.0), "GPSAltitudeRef": b"\1", "GPSAltitude": 12.5}
    found = tags(**where, GPSHPositioningError=4.7, GPSImgDirection=271.0)
    assert found.latitude == pytest.approx(-33.856806) and found.longitude == pytest.approx(151.208333)
    assert (found.altitude, found.direction) == (-12.5, 271) and found.accuracy == pytest.approx(4.7)
    assert found.up() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"GPSLatitude": (0.0, 0.0, 0.0), "GPSLongitude": (0.0, 0.0, 0.0)},
        {"GPSLatitude": (95.0, 0.0, 0.0), "GPSLongitude": (8.0, 0.0, 0.0)},
        {"GPSLatitude": (50.0, 0.0, 0.0)},
        {"GPSLatitude": (50.0, 0.0), "GPSLongitude": (8.0, 0.0, 0.0)},
        {"GPSLatitude": (IFDRational(1, 0), 0.0, 0.0), "GPSLongitude": (8.0, 0.0, 0.0)},
        {"GPSLatitude": (IFDRational(0, 0),) * 3, "GPSLongitude": (IFDRational(0, 0),) * 3},
        {"GPSLatitude": (50.0, 5.0, IFDRational(0, 0)), "GPSLongitude": (8.0, 0.5, 0.0)},
        {"GPSLatitude": (0.0, 0.0, 0.0), "GPSLongitude": (0.0, 0.0, 0.0), "GPSAltitude": 0.0},
    ],
)
def test_positions_that_cannot_be_are_ignored(wrong: dict[str, Any]) -> None:
    assert tags(**wrong).known() == {}


def test_seconds_may_be_missing_after_minutes_with_a_fraction() -> None:
    nothing = IFDRational(0, 0)
    where: dict[str, Any] = {
        "GPSLatitude": (48.0, IFDRational(5333, 100), nothing),
        "GPSLongitude": (21.0, 2.5, nothing),
    }
    found = tags(**where, GPSLatitudeRef="N", GPSLongitudeRef="W")
    assert (found.latitude, found.longitude) == pytest.approx((48.88883, -21.04167), abs=1e-5)


@pytest.mark.parametrize(("reference", "altitude"), [(0, 30), (1, -30), (2, 30), (3, -30)])
def test_altitudes_are_above_or_below_the_sea_or_the_ellipsoid(reference: int, altitude: float) -> None:
    """EXIF 3.0, GPSAltitudeRef."""
    where: dict[str, Any] = {"GPSLatitude": (50.0, 0.5, 0.0), "GPSLongitude": (8.0, 0.5, 0.0), "GPSAltitude": 30.0}
    assert tags(**where, GPSAltitudeRef=bytes([reference])).altitude == altitude


@pytest.mark.parametrize(
    ("gravity", "size", "expected"),
    [
        ((-1, 0, 0), (4032, 3024), (0, 0)),  # the button to the right
        ((1, 0, 0), (4032, 3024), (0, 0)),  # the button to the left
        ((0, -1, 0), UPRIGHT, (0, 0)),
        ((0, 1, 0), UPRIGHT, (0, 0)),
        ((0, -0.8, -0.6), UPRIGHT, (-36.87, 0)),  # the phone lies on its back when it looks straight down
        ((-0.8, 0, 0.6), (4032, 3024), (36.87, 0)),
        ((0.1736, -0.9848, 0), UPRIGHT, (0, 10)),  # clockwise: the right side of the phone is lower
        ((-0.9848, -0.1736, 0), (4032, 3024), (0, 10)),  # clockwise: the bottom of the phone is lower
        ((-0.9848, 0.1736, 0), (4032, 3024), (0, -10)),
        ((0.1, 0, -0.995), UPRIGHT, (-84.3, 90)),
    ],
)
def test_an_iphone_tells_how_it_was_held(gravity: Any, size: tuple[int, int], expected: tuple[float, float]) -> None:
    found = read_tags(_iphone(apple_note(*gravity)), b"", size)
    assert (found.pitch, found.roll) == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize(
    ("note", "size"),
    [
        (apple_note(-1, 0, 0), UPRIGHT),  # turned by hand
        (apple_note(-1, 0, 0), (3024, 3024)),
        (apple_note(-1.2, 0.2, 0), (4032, 3024)),  # moved
        (apple_note(-1, 0, 0, denominator=0), (4032, 3024)),
        (apple_note(-1, 0, 0)[:60], (4032, 3024)),
        (apple_note(-1, 0, 0).replace(b"Apple", b"Apply"), (4032, 3024)),
        (b"Apple iOS\0", (4032, 3024)),
        (b"Apple iOS\0" + b"\xff" * 40, (4032, 3024)),
    ],
)
def test_gravity_that_does_not_fit_the_photo_is_ignored(note: bytes, size: tuple[int, int]) -> None:
    assert read_tags(_iphone(note), b"", size).known() == {}
    front = _iphone(apple_note(-1, 0, 0), "iPhone 11 front camera 2.71mm f/2.2")
    assert read_tags(front, b"", (4032, 3024)).known() == {}


def _iphone(note: bytes, lens: str = "iPhone 11 back camera 4.25mm f/1.8") -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.MakerNote: note, ExifTags.Base.LensModel: lens})
    again = Image.Exif()
    again.load(exif.tobytes())
    return again


@pytest.mark.parametrize(
    "packet",
    [
        b'<rdf:Description drone-dji:GimbalRollDegree="+0.00" drone-dji:GimbalYawDegree="-92.5" '
        b'drone-dji:GimbalPitchDegree="-89.90"/>',
        b"<drone-dji:GimbalPitchDegree>-89.90</drone-dji:GimbalPitchDegree><drone-dji:GimbalRollDegree>0</x>"
        b"<drone-dji:GimbalYawDegree>267.5</x>",
        b"drone-parrot:CameraPitchDegree='-89.9' drone-parrot:CameraRollDegree='0' "
        b"drone-parrot:CameraYawDegree='267.5'",
    ],
)
def test_the_gimbal_tells_how_the_camera_was_held(packet: bytes) -> None:
    found = tags(packet)
    assert (found.pitch, found.roll, found.direction) == (-89.9, 0, 267.5)
    assert found.up() == pytest.approx((0, 0, -1), abs=0.01)
    assert tags(packet.replace(b"89.9", b"899.9")).pitch is None


def test_only_equirectangular_photos_are_panoramas() -> None:
    assert is_panorama(b'<x GPano:ProjectionType="equirectangular"/>')
    assert is_panorama(b"<GPano:ProjectionType>equirectangular</GPano:ProjectionType>")
    assert not is_panorama(b'<x GPano:ProjectionType="cylindrical"/>')
    assert not is_panorama(b"")


def test_a_model_ends_where_its_text_ends() -> None:
    """Some cameras write their memory behind it, and the time with it."""
    exif = Image.Exif()
    assert camera(exif) == ""
    exif[ExifTags.Base.Model] = " Gemini11 \0H\0\x01 2003:08:15"
    assert camera(exif) == "Gemini11"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024:05:30 14:20:55", "2024:05:30 14:20:55.12"),
        ("    :  :     :  :  ", ""),
        ("0000:00:00 00:00:00", ""),
        ("", ""),
    ],
)
def test_a_time_that_is_blank_is_unknown(written: str, read: str) -> None:
    image = Image.new("RGB", (8, 8))
    details = image.getexif().get_ifd(ExifTags.IFD.Exif)
    details.update({ExifTags.Base.DateTimeOriginal: written, ExifTags.Base.SubsecTimeOriginal: "12"})
    assert taken(image) == read
