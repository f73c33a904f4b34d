"""The tags of a photo: what EXIF and XMP say about the camera, where it was, and how it was held."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.pictures import apple

__all__ = ["LONGEST", "Tags", "camera", "focal_length", "is_panorama", "is_stitched", "read_tags", "taken"]

_FILM = math.hypot(36, 24)  # mm
_FOCALS = (8 / _FILM, 1200 / _FILM)  # in diagonals: from a fisheye's to the longest telephoto lenses that are sold
_WHOLE = (1.2, 1.65)  # proportions: pictures outside are cropped, those between can be all that a sensor sees
_SENSORS = (5.0, 75.0)  # mm diagonal: of the smallest cameras that write a focal-plane resolution, of medium format
_XMP_BYTES = 1_000_000  # of which the tags are sought
_NUMBER = rb"""\s*(?:=\s*["']|>)\s*([-+]?\d{1,6}(?:\.\d{1,12})?)"""
_GIMBAL = {
    angle: re.compile(rb":(?:Gimbal|Camera)" + angle.capitalize().encode() + rb"Degree" + _NUMBER)  # DJI, Parrot
    for angle in ("pitch", "roll", "yaw")
}
_STITCHED = re.compile(rb"""GPano:ProjectionType\s*(?:=\s*["']|>)\s*(equirectangular|cylindrical)""")
_SHOWN_WIDTH, _WHOLE_WIDTH = (
    re.compile(rb"GPano:" + name + _NUMBER) for name in (b"CroppedAreaImageWidthPixels", b"FullPanoWidthPixels")
)
_MOST_PIXELS = 1e6
_STITCHED_BY_APPLE = 6  # of the tag CustomRendered
_PANORAMA = re.compile(rb"""GPano:ProjectionType\s*(?:=\s*["']|>)\s*equirectangular""")


LONGEST = 3
"""The longer side of a photo in terms of the shorter, at most: the widest films and sensors have 2.76."""


@dataclass(frozen=True)
class Tags:
    """Where a photo was taken from, and how the camera was held; None if unknown.

    Args:
        latitude, longitude: degrees, WGS 84.
        altitude: metres.
        accuracy: of latitude and longitude, metres.
        direction: of the view, degrees clockwise from north.
        pitch: of the view above the horizon, degrees; -90 is straight down.
        roll: of the camera about the view, degrees clockwise; None if EXIF has the pitch alone.
    """

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    accuracy: float | None = None
    direction: float | None = None
    pitch: float | None = None
    roll: float | None = None

    def known(self) -> dict[str, float]:
        """Return the tags that are known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def up(self) -> tuple[float, float, float] | None:
        """Return the direction against gravity in the camera's frame: x right, y down, z forward; None if unknown."""
        if self.pitch is None:
            return None
        pitch, roll = math.radians(self.pitch), math.radians(self.roll or 0.0)
        return (-math.sin(roll) * math.cos(pitch), -math.cos(roll) * math.cos(pitch), math.sin(pitch))


def read_tags(exif: Any, xmp: bytes, size: tuple[int, int]) -> Tags:
    """Return the tags of a photo. Values that cannot be are ignored.

    Args:
        exif: Pillow's Exif.
        xmp: the XMP packet, or b"".
        size: width and height of the photo as it is shown.
    """
    from PIL.ExifTags import GPS, IFD, Base

    gps, details = exif.get_ifd(IFD.GPSInfo), exif.get_ifd(IFD.Exif)
    latitude = _degrees(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "S", 90)
    longitude = _degrees(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "W", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:  # zeros stand for "no fix"
        latitude = longitude = None
    below = gps.get(GPS.GPSAltitudeRef) in (1, b"\x01", 3, b"\x03")  # EXIF 3.0 has two kinds of height
    altitude = None if latitude is None else _number(gps.get(GPS.GPSAltitude), -1000, 20_000)
    angles = {name: _found(pattern, xmp) for name, pattern in _GIMBAL.items()}
    if angles["pitch"] is None:
        pitch, roll = _held(details, size) or (_number(details.get(Base.CameraElevationAngle), -90, 90), None)
        angles = {"pitch": pitch, "roll": roll, "yaw": None}
    yaw = angles["yaw"] if angles["yaw"] is not None else _number(gps.get(GPS.GPSImgDirection), 0, 360)
    return Tags(
        latitude=latitude,
        longitude=longitude,
        altitude=-altitude if altitude and below else altitude,
        accuracy=_number(gps.get(GPS.GPSHPositioningError), 0, 1e6),
        direction=None if yaw is None else yaw % 360,
        pitch=angles["pitch"],
        roll=angles["roll"],
    )


def camera(exif: Any) -> str:
    """Return the model of a photo's camera from Pillow's Exif; "" if unknown.

    Some cameras write other things behind the end of the text, even the time.
    """
    from PIL.ExifTags import Base

    return str(exif.get(Base.Model, "")).partition("\0")[0].strip()


def _held(details: Mapping[int, Any], size: tuple[int, int]) -> tuple[float, float] | None:
    from PIL.ExifTags import Base

    note, lens = details.get(Base.MakerNote), str(details.get(Base.LensModel, ""))
    return apple.held(note, size) if isinstance(note, bytes) and "front" not in lens else None


def taken(image: Any) -> str:
    """Return when a photo was taken, as its camera wrote it, with fractions of a second; "" if unknown.

    Args:
        image: opened by Pillow; it is not decoded.
    """
    from PIL.ExifTags import IFD, Base
    from PIL.Image import Image

    try:
        details = Image.getexif(image).get_ifd(IFD.Exif)  # a PNG's own method decodes the picture
        parts = [str(details.get(tag, "")).strip("\0 ") for tag in (Base.DateTimeOriginal, Base.SubsecTimeOriginal)]
    except Exception:  # Pillow's parser raises any exception on broken tags
        return ""
    known = any(digit in parts[0] for digit in "123456789")  # scanners write blanks or zeros
    return ".".join(parts)[:40] if known else ""


def is_panorama(xmp: bytes) -> bool:
    """Return whether XMP says that a photo is equirectangular and whole, as Google's spherical metadata define it."""
    return bool(_PANORAMA.search(xmp[:_XMP_BYTES])) and not _is_part(xmp)


def _is_part(xmp: bytes) -> bool:
    """Return whether XMP says that a photo shows only a part of the sphere, as the camera was not turned all round."""
    shown, whole = (_found(pattern, xmp, _MOST_PIXELS) for pattern in (_SHOWN_WIDTH, _WHOLE_WIDTH))
    return shown is not None and whole is not None and shown < whole


def is_stitched(image: Any, xmp: bytes) -> bool:
    """Return whether a camera put a photo together while it was turned, so that no lens has seen it.

    Photos of a whole sphere are not meant.

    Args:
        image: opened by Pillow; it is not decoded.
        xmp: the XMP packet, or b"".
    """
    from PIL.ExifTags import IFD, Base
    from PIL.Image import Image

    if _STITCHED.search(xmp[:_XMP_BYTES]) and (image.width != 2 * image.height or _is_part(xmp)):
        return True
    try:
        rendered = Image.getexif(image).get_ifd(IFD.Exif).get(Base.CustomRendered)
    except Exception:  # as in `taken`
        return False
    return bool(rendered == _STITCHED_BY_APPLE)


def focal_length(exif: Mapping[int, Any], size: tuple[int, int]) -> float | None:
    """Return the focal length as a multiple of the picture's diagonal; None if EXIF has none that a lens can have.

    Editors that make a photo smaller often keep the focal-plane resolution of the original, which then implies a sensor
    that is too small.

    Args:
        exif: the Exif IFD (EXIF 2.32, CIPA DC-008, section 4.6.5).
        size: width and height of the picture.
    """
    from PIL.ExifTags import Base

    try:
        if equivalent := float(exif.get(Base.FocalLengthIn35mmFilm, 0)):
            return _possible(equivalent / _FILM * _uncropped(size))
        unit = {2: 25.4, 3: 10.0}[exif[Base.FocalPlaneResolutionUnit]]  # mm in an inch, in a centimetre
        width = exif[Base.ExifImageWidth] / float(exif[Base.FocalPlaneXResolution]) * unit
        height = exif[Base.ExifImageHeight] / float(exif[Base.FocalPlaneYResolution]) * unit
        sensor = math.hypot(width, height)
        return _possible(float(exif[Base.FocalLength]) / sensor) if _SENSORS[0] <= sensor <= _SENSORS[1] else None
    except (KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None


def _uncropped(size: tuple[int, int]) -> float:
    """Return the diagonal of the sensor in terms of the picture's.

    Phones, drones and compact cameras crop wide and square pictures from sensors of 4:3. Their focal lengths in terms
    of film are those of the whole sensor.
    """
    shorter, longer = sorted(size)
    if _WHOLE[0] * shorter <= longer <= _WHOLE[1] * shorter:
        return 1.0
    return 5 / 4 * max(longer, shorter * 4 / 3) / math.hypot(*size)


def _possible(focal: float) -> float | None:
    return round(focal, 4) if _FOCALS[0] <= focal <= _FOCALS[1] else None


def _number(value: Any, least: float, most: float) -> float | None:
    try:
        number = float(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None
    return number if least <= number <= most else None  # not a number compares false


def _degrees(value: Any, reference: Any, negative: str, most: float) -> float | None:
    """Return an angle of degrees, minutes and seconds; seconds can be undefined (0/0) after minutes with a fraction."""
    try:
        degrees, minutes, seconds = (float(part) for part in value)
        seconds = 0.0 if math.isnan(seconds) and minutes % 1 else seconds
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None
    angle = _number(degrees + minutes / 60 + seconds / 3600, 0, most)
    return -angle if angle and str(reference).strip("\0 ").upper() == negative else angle


def _found(pattern: re.Pattern[bytes], xmp: bytes, most: float = 360) -> float | None:
    found = pattern.search(xmp[:_XMP_BYTES])
    return _number(found[1], -most, most) if found else None
