"""Ground control points in OpenDroneMap's format, `gcp_list.txt`.

The first line names the coordinates: `EPSG:4326` or `WGS84` (longitude, latitude), UTM (`WGS84 UTM 32N`, `EPSG:32632`,
`+proj=utm +zone=32 …`), or `LOCAL` for metres in axes of one's own (east, north, up). Each further line is
`x y z column row photo [name]`. https://docs.opendronemap.org/gcp/
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path

from pydantic import ValidationError

from jobs.errors import InvalidInput
from jobs.metric.given import Control, Pick, read_text
from jobs.metric.utm import from_utm
from jobs.validation import first_complaint

__all__ = ["read_control"]

_UTM = (
    re.compile(r"WGS\s?84\s*/?\s*UTM\s*(?:zone\s*)?(?P<zone>\d{1,2})\s*(?P<half>[NS])", re.I),
    re.compile(r"EPSG:32(?P<half>[67])(?P<zone>\d{2})", re.I),
    re.compile(r"\+proj=utm\b.*\+zone=(?P<zone>\d{1,2})\b(?P<half>.*\+south)?.*", re.I),
)
_DEGREES = re.compile(r"EPSG:4326|WGS\s?84|.*\+proj=(longlat|latlong)\b.*", re.I)
_KNOWN = "EPSG:4326, WGS84 UTM 32N (and the like), EPSG:32632 (and the like), a +proj= line of these, or LOCAL"


def read_control(file: Path) -> tuple[Control, ...]:
    """Return the control points of a `gcp_list.txt`. Lines without a name are one point if their coordinates are.

    Raises:
        InvalidInput: the file is not valid; names the file and the line.
    """
    lines = [(number, text.strip()) for number, text in enumerate(read_text(file).splitlines(), 1)]
    lines = [(number, text) for number, text in lines if text and not text.startswith("#")]
    if not lines:
        raise InvalidInput(f"{file} is empty. Its first line names the coordinates: {_KNOWN}.")
    crs = _Coordinates(lines[0][1], file)
    positions: dict[str, tuple[float, float, float]] = {}
    picks: dict[str, list[Pick]] = defaultdict(list)
    for number, text in lines[1:]:
        where = f"{file}, line {number}"
        words = text.split("\t") if "\t" in text else text.split()
        if len(words) < 6:
            raise InvalidInput(f"{where}: expected x y z column row photo, found {len(words)} words.")
        try:
            x, y, z, column, row = map(float, words[:5])
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}. The first five words must be numbers.") from None
        if not all(map(math.isfinite, (x, y, z, column, row))):
            raise InvalidInput(f"{where}: a number is not finite.")
        name = words[6].strip() if len(words) > 6 else f"{words[0]} {words[1]} {words[2]}"
        if positions.setdefault(name, (x, y, z)) != (x, y, z):
            raise InvalidInput(f"{where}: control point {name!r} has other coordinates than in an earlier line.")
        try:
            picks[name].append(Pick(photo=words[5].strip(), x=column, y=row))
        except ValidationError as error:
            raise InvalidInput(f"{where}: {first_complaint(error)}.") from None
    if not positions:
        raise InvalidInput(
            f"{file} has no control points below its first line. Add lines such as: x y z column row photo name"
        )
    return tuple(crs.control(name, positions[name], tuple(picks[name])) for name in positions)


class _Coordinates:
    """The coordinates that the first line of a file names."""

    def __init__(self, line: str, file: Path) -> None:
        self._file = file
        self._utm = next((found for pattern in _UTM if (found := pattern.fullmatch(line))), None)
        self._local = line.upper() == "LOCAL"
        if not (self._utm or self._local or _DEGREES.fullmatch(line)):
            raise InvalidInput(f"{file}, line 1: the coordinates {line[:80]!r} are not supported. Use {_KNOWN}.")
        if self._utm and not 1 <= int(self._utm["zone"]) <= 60:
            raise InvalidInput(f"{file}, line 1: there is no UTM zone {self._utm['zone']}.")

    def control(self, name: str, position: tuple[float, float, float], picks: tuple[Pick, ...]) -> Control:
        """Return a control point that has a position in these coordinates."""
        x, y, z = position
        try:
            if self._local:
                return Control(name=name, position=position, picks=picks)
            if self._utm:
                south = (self._utm["half"] or "N").upper() not in ("N", "6")
                y, x = from_utm(x, y, int(self._utm["zone"]), south)
            return Control(name=name, longitude=x, latitude=y, height=z, picks=picks)
        except ValueError as error:
            wrong = first_complaint(error) if isinstance(error, ValidationError) else str(error)
            raise InvalidInput(f"{self._file}: control point {name!r}: {wrong}.") from None
