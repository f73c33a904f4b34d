"""What people measured in a scene: `scale.json` and `gcp_list.txt`. docs/metres.md describes both formats.

The scheduler reads these files before a job is submitted, so nothing but pydantic is imported here.

Pixels are those of the photo as a viewer shows it, upright and in full size: x to the right, y down, and (0.5, 0.5) is
the centre of the first pixel. Lengths and accuracies (one standard deviation) are in metres.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import InvalidInput
from jobs.metric.accuracy import PICK_ACCURACY
from jobs.opening import open_plain
from jobs.text import printable

__all__ = [
    "CONTROL_FILE",
    "SCALE_FILE",
    "Area",
    "Control",
    "Family",
    "Given",
    "Length",
    "Markers",
    "Pick",
    "read_scale",
]

Family = Literal[
    "DICT_4X4_50", "DICT_4X4_100", "DICT_5X5_50", "DICT_5X5_100", "DICT_6X6_50", "DICT_6X6_250",
    "DICT_APRILTAG_16h5", "DICT_APRILTAG_25h9", "DICT_APRILTAG_36h10", "DICT_APRILTAG_36h11",
]  # fmt: skip
"""OpenCV's names of the dictionaries whose markers are found."""

SCALE_FILE = "scale.json"
CONTROL_FILE = "gcp_list.txt"

_MOST_BYTES = 4_000_000
_MOST = 1000  # lengths, and control points
_MOST_PHOTOS = 200  # in which one point is picked
_MOST_PIXELS = 100_000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def _check_text(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError("must not contain control characters")
    return printable(text)


def _check_photo(name: str) -> str:
    name = _check_text(name).replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError("must be the name of a photo, or its path within the folder of the photos")
    return name


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_check_text)]
Metres = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
Pixels = Annotated[float, Field(ge=0, le=_MOST_PIXELS, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Pick(_Record):
    """Where a photo shows a point, in pixels."""

    photo: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_photo)]
    x: Pixels
    y: Pixels


def _check_picks(picks: tuple[Pick, ...]) -> tuple[Pick, ...]:
    if twice := [photo for photo, times in Counter(pick.photo for pick in picks).items() if times > 1]:
        raise ValueError(f"{twice[0]} is listed twice; a photo shows a point once")
    return picks


Picks = Annotated[tuple[Pick, ...], Field(min_length=2, max_length=_MOST_PHOTOS), AfterValidator(_check_picks)]
"""A point, picked in two photos or more."""


class Length(_Record):
    """A known distance between two points.

    Args:
        name: what was measured, for people.
        metres: the distance.
        accuracy: of the distance.
        start, end: the two points.
    """

    name: Name
    metres: Metres
    accuracy: Metres = 0.002
    start: Picks = Field(alias="from")
    end: Picks = Field(alias="to")


class Area(_Record):
    """A part of the scene that has a name, such as a shop's front. Changes in it are listed by that name.

    Args:
        name: for people.
        corners: of a flat polygon, in order.
    """

    name: Name
    corners: Annotated[tuple[Picks, ...], Field(min_length=3, max_length=40)]


class Control(_Record):
    """A ground control point.

    Args:
        name: of the point.
        latitude, longitude: degrees, WGS 84; None for local coordinates.
        position: local east, north and up in metres; None for a point on the earth.
        height: metres above the ellipsoid, or any other level that all points share.
        picks: where photos show it. A single photo is allowed, because `gcp_list.txt` may list such points; the point
            is then not used.
    """

    name: Name
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)] | None = None
    height: Finite = 0.0
    position: tuple[Finite, Finite, Finite] | None = None
    picks: Annotated[tuple[Pick, ...], Field(min_length=1, max_length=_MOST_PHOTOS)]


class Markers(_Record):
    """Printed square markers, all of one size.

    Args:
        family: OpenCV's name of a dictionary, such as DICT_4X4_50 or DICT_APRILTAG_36h11.
        metres: the side of the black square.
        accuracy: of the side.
    """

    family: Family = "DICT_APRILTAG_36h11"
    metres: Metres
    accuracy: Metres = 0.0005


class Given(_Record):
    """Everything that people measured in a scene.

    Args:
        lengths: known distances.
        areas: parts of the scene that have names.
        markers: printed markers that photos show; None if there are none.
        control: ground control points, from `gcp_list.txt`.
        control_accuracy: of the coordinates of control points, per axis.
        pick_accuracy: of a pick in pixels, per axis.
        gps: whether the positions in the photos' EXIF are used.
    """

    lengths: Annotated[tuple[Length, ...], Field(max_length=_MOST)] = ()
    areas: Annotated[tuple[Area, ...], Field(max_length=_MOST)] = ()
    markers: Markers | None = None
    control: Annotated[tuple[Control, ...], Field(max_length=_MOST)] = ()
    control_accuracy: Metres = 0.02
    pick_accuracy: Annotated[float, Field(ge=0.05, le=100, allow_inf_nan=False)] = PICK_ACCURACY
    gps: bool = True

    @model_validator(mode="after")
    def _check_names(self) -> Given:
        for entries in (self.lengths, self.areas, self.control):
            if twice := [name for name, times in Counter(each.name for each in entries).items() if times > 1]:
                raise ValueError(f"two entries have the name {twice[0]!r}; each needs its own")
        return self

    def check_photos(self, photos: Sequence[str], file: str) -> None:
        """Refuse a name that is no photo of the capture.

        Args:
            photos: the capture's photos, by path within its folder.
            file: where the measurements come from, for the error.

        Raises:
            InvalidInput: a photo is not in the capture, or its name alone fits several.
        """
        known = Counter(part for photo in photos for part in {photo, photo.rpartition("/")[2]})
        for entry, picks in self.points():
            for pick in picks:
                if (times := known[pick.photo.partition("#t=")[0]]) != 1:  # frames of a video: walk.mp4#t=1.250
                    why = "fits several photos: give its folder, too" if times else "is not in the capture"
                    raise InvalidInput(f"{file}: {entry}: photo {pick.photo!r} {why}.")

    def points(self) -> list[tuple[str, tuple[Pick, ...]]]:
        """Return the picks of every point, with words for the entry that it belongs to."""
        ends = [(f"length {length.name!r}", picks) for length in self.lengths for picks in (length.start, length.end)]
        ends += [(f"area {area.name!r}", picks) for area in self.areas for picks in area.corners]
        return ends + [(f"control point {each.name!r}", each.picks) for each in self.control]


def read_scale(file: Path) -> Given:
    """Read a `scale.json`.

    Raises:
        InvalidInput: the file is not valid; names the file and the entry.
    """
    try:
        content = json.loads(read_text(file), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is not valid JSON: {error}.") from None
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name != "control"}
    try:
        return Given.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wrong = first["msg"].removeprefix("Value error, ").removesuffix(".")
        raise InvalidInput(f"{file}: {_place(first['loc'], content)}{wrong}.") from None


def read_text(file: Path) -> str:
    """Return the text of a file of measurements.

    Args:
        file: an absolute path without links. Somebody else may have put the file beside photos.

    Raises:
        InvalidInput: the file cannot be read, is too large, or is no text.
    """
    try:
        with open_plain(file) as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}.") from None
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"{file} is larger than {_MOST_BYTES // 1_000_000} MB. Is it a file of measurements?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not a text in UTF-8. Save it in that encoding.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _place(location: tuple[int | str, ...], content: Any) -> str:
    """Return words for the place of an error: "lengths, entry 2 ('door'), from, entry 1, x: "."""
    words, here = [], content
    for step in location:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, dict) else None
            words.append(f"entry {step + 1}" + (f" ({name!r:.80})" if isinstance(name, str) else ""))
        else:
            words.append(printable(step))
    return ", ".join(words) + ": " if words else ""
