"""Find photos that are copies of others by what they show: a messenger's are smaller, with other names and no EXIF."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from jobs import memory
from jobs.errors import InvalidInput
from jobs.opening import open_plain
from jobs.pictures import photo
from jobs.selection import Header

if TYPE_CHECKING:
    from jobs.geometry import Floats

__all__ = ["find_copies"]

_TAIL = 2048  # bytes at the end of a file, which only photos with the same pixels share
_SIDE = 64  # px: the longer side of the pictures that are compared
# 1 - correlation of pictures that show different things, at least. Measured: up to 0.0007 for copies of a quarter to
# four fifths of the size, and 0.019 or more for neighbours of two real captures
_DIFFERENT = 0.0025


def find_copies(photos: Mapping[str, Path], headers: Mapping[str, Header]) -> dict[str, str]:
    """Return the photos that repeat a larger one, or one of their size that has more EXIF, with their kinds.

    Photos of a burst or from a tripod show nearly the same, too. So photos are compared only if their times, as far as
    they are known, agree; and those of one size only if one has lost its time, or if both have one time and one name.
    Photos that differ only in their tags, as after a change of EXIF, end in the same bytes, and are duplicates if all
    their pixels are the same. No photo is decoded unless there is another that it may be a copy of.

    Args:
        photos: the photos to use, by relative path.
        headers: of all these.
    """
    originals = _originals(photos, headers)
    looks = _looks({*originals, *chain.from_iterable(originals.values())}, photos, headers)
    found = dict.fromkeys(_same_pixels(photos, headers), "duplicate")
    for copy, candidates in originals.items():
        alike = [name for name in candidates if _show_the_same(looks.get(copy), looks.get(name))]
        if alike:
            larger = any(_pixels(headers[name]) > _pixels(headers[copy]) for name in alike)
            found[copy] = "smaller copy" if larger else "duplicate"
    return found


def _originals(names: Collection[str], headers: Mapping[str, Header]) -> dict[str, list[str]]:
    """Return the photos that each photo may be a copy of, by its size and time. Photos without any are left out."""
    by_size: dict[tuple[int, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        shorter, longer = sorted((headers[name].width, headers[name].height))
        by_size[shorter, longer][headers[name].taken].append(name)
    found = {}
    for size, by_time in by_size.items():
        larger = [other for its, other in by_size.items() if its[0] * its[1] > size[0] * size[1] and _like(size, its)]
        for taken, own in by_time.items():
            others = [other[time] for other in larger for time in other if not taken or time in ("", taken)]
            others += [by_time[time] for time in by_time if time and not taken]
            exact = bool(taken.partition(".")[2])  # with a fraction of a second
            for name in own:
                same = [other for other in own if exact and other < name and _stem(other) == _stem(name)]
                if candidates := [*chain.from_iterable(others), *same]:
                    found[name] = candidates
    return found


def _same_pixels(photos: Mapping[str, Path], headers: Mapping[str, Header]) -> list[str]:
    """Return the photos whose pixels are those of another one that is kept."""
    groups: dict[tuple[int, int, bytes], list[str]] = defaultdict(list)
    for name, file in photos.items():
        with open_plain(file) as stream:
            stream.seek(-min(_TAIL, stream.seek(0, os.SEEK_END)), os.SEEK_END)
            groups[headers[name].width, headers[name].height, stream.read()].append(name)
    found = []
    for (*_, tail), names in groups.items():
        if len(names) > 1 and len(set(tail)) > 1:  # some cameras fill files with zeros
            first, *others = sorted(names, key=lambda name: not headers[name].taken)
            found += [other for other in others if _equal(photos[first], photos[other])]
    return found


def _equal(file: Path, other: Path) -> bool:
    try:
        return photo.read(file).image.tobytes() == photo.read(other).image.tobytes()
    except InvalidInput:
        return False


def _looks(names: Collection[str], photos: Mapping[str, Path], headers: Mapping[str, Header]) -> dict[str, Floats]:
    """Return what `photo.look` returns for photos, without those that cannot be compared."""
    room = memory.Room(memory.available() // 2)

    def look(name: str) -> Floats | None:
        header = headers[name]
        with room.take(header.width * header.height * header.bytes_per_pixel):
            return photo.look(photos[name], _SIDE)

    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        found = zip(names, pool.map(look, names), strict=True)
        return {name: small for name, small in found if small is not None}


def _show_the_same(look: Floats | None, other: Floats | None) -> bool:
    if look is None or other is None or look.shape != other.shape:
        return False
    return bool(1 - (look * other).sum() < _DIFFERENT)


def _like(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return Header(*size).like(Header(*other))


def _pixels(header: Header) -> int:
    return header.width * header.height


def _stem(path: str) -> str:
    return PurePosixPath(path).stem.casefold()
