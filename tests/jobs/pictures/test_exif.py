from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from jobs.pictures.exif import Tags, focal_length, is_panorama, read_tags

SENSOR = {"ExifImageWidth": 2220, "ExifImageHeight": 1480, "FocalPlaneResolutionUnit": 3}
RESOLUTION = {"FocalPlaneXResolution": 1000.0, "FocalPlaneYResolution": 1000.0}
"""An APS-C sensor of 22.2 x 14.8 mm."""


def focal(**values: Any) -> float | None:
    return focal_length({ExifTags.Base[name]: value for name, value in values.items()})


def test_the_focal_length_comes_from_exif() -> None:
    assert focal() is None
    assert focal(FocalLengthIn35mmFilm=26) == pytest.approx(26 / 43.267, rel=1e-4)
    assert focal(FocalLength=50.0, **SENSOR, **RESOLUTION) == pytest.approx(50 / np.hypot(22.2, 14.8), rel=1e-4)
    assert focal(FocalLength=50.0) is None


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
    return read_tags(again, xmp)


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
    ],
)
def test_positions_that_cannot_be_are_ignored(wrong: dict[str, Any]) -> None:
    assert tags(**wrong).known() == {}


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
