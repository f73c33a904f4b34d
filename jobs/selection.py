"""Tell the photos of a capture from files that are made from photos: thumbnails, masks, copies.

A file is judged by its path and its header; nothing is decoded. A name alone excludes no photo that could be one: a
folder `walk_2` is left out only if its pictures are smaller copies of those in `walk`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median

from jobs.text import printable

__all__ = ["Header", "describe", "find_derived", "find_masks", "find_poses", "kind_by_path"]

_PLURALS = {
    "thumbnail": "thumbnails",
    "hidden file": "hidden files",
    "deleted file": "deleted files",
    "smaller copy": "smaller copies",
    "edited copy": "edited copies",
    "copy in another format": "copies in another format",
    "mask": "masks",
    "depth map": "depth maps",
    "map or texture": "maps and textures",
    "icon": "icons",
    "confidence map": "confidence maps",
    "Live Photo video": "Live Photo videos",
    "duplicate": "duplicates",
    "video beside photos": "videos beside photos",
    "photo beside a video": "photos beside a video",
    "other file": "other files",
}
"""Why a file is left out, with its plural."""

_HINTS = {
    "video beside photos": "; to use a video, give it alone",
    "photo beside a video": "; too few without the video",
}

_SET_ASIDE = (
    ("thumbnail", re.compile(r"@eadir|\.(@__)?thumb.*", re.I)),  # Synology, QNAP, phones and Linux desktops
    ("deleted file", re.compile(r"#recycle|@recycle|\$recycle\.bin|\.trash.*", re.I)),
    ("hidden file", re.compile(r"\..*|__macosx", re.I)),
)
_PYRAMID = re.compile(r"(.+)_(2|4|8|16)")  # nerfstudio's and mip-NeRF 360's folders
_SMALLER = re.compile(r"(thumb(nail)?|preview|small|low[-_]?res|resized|web)s?", re.I)
_SMALLER_NAME = re.compile(r"(.+?)[-_.](thumb(nail)?|preview|small|\d{2,4}x\d{2,4})", re.I)
_MAPS = (
    ("mask", re.compile(r"masks?|.*_masks?", re.I)),
    ("depth map", re.compile(r"depths?([-_].*|maps?)?", re.I)),
    ("confidence map", re.compile(r"(confidences?|conf)([-_].*|maps?)?", re.I)),
)
_MAP_NAME = re.compile(r"(.+)[-_.](mask|depth|confidence|conf)", re.I)
_EDITED = re.compile(r"(corrected|undistorted|edited|rectified)([-_ ]?(images?|photos?))?", re.I)
# Google Photos: NAME-edited; Android's editors: NAME~2
_EDITED_NAME = re.compile(r"(.+?)([-_](edited|corrected|undistorted|rectified)|~\d{1,2})", re.I)
_PIXEL_PORTRAIT = re.compile(r"(.+\.portrait)-01(\.mp)?\.cover", re.I)  # blurred, beside NAME.PORTRAIT-02.ORIGINAL
_PIXEL_RAW = re.compile(r"\.raw-\d\d(\.mp)?\.(cover|original)$", re.I)  # a JPEG and a DNG of one shot
_COPY_NAME = re.compile(r"(.+?)( ?\(\d+\)| \d| copy| - copy)", re.I)
_APPLE_EDIT = re.compile(r"(IMG_)E(\d{4,})", re.I)
_FORMATS = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".mpo",
    ".heic",
    ".heif",
    ".hif",
    ".tif",
    ".tiff",
    ".avif",
    ".png",
    ".webp",
    ".bmp",
    ".dng",
)
"""If a shot exists in two formats of the same size, the earlier one here is used: a JPEG need not be encoded again."""

_FORMAT_FOLDER = re.compile(
    r"(avif|dng|hei[cf]|hif|jpe?g|live|mov|mp4|png|raw|tiff?|webp)s?([-_ ]?(files?|photos?))?", re.I
)

_POSES = (("transforms.json",), ("cameras.bin", "images.bin"), ("cameras.txt", "images.txt"))
"""The files that hold the poses of a dataset: nerfstudio's, and those of a COLMAP model."""
_METASHAPE = re.compile(r"(.*cameras?|metashape.*)\.xml", re.I)
_OPENDRONEMAP = re.compile(r"odm_(dem|georeferencing|meshing|orthophoto|report|texturing.*)", re.I)

_ICON = 0.01  # of the pixels of the usual photo: a picture with less of them, and less than any camera's, is an icon
_CAMERA_PIXELS = 60_000  # the first digital cameras had 320 x 240

_LIVE_SECONDS = 6.0  # a Live Photo lasts 3 s


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Args:
        width, height: px, as stored.
        single: whether the picture has a single channel, as a mask or a depth map has.
        seconds: length of a video; None for a photo, or if unknown.
        bytes_per_pixel: memory that decoding and writing a photo take.
        taken: when a photo was taken, as its camera wrote it; "" if unknown.
    """

    width: int
    height: int
    single: bool = False
    seconds: float | None = None
    bytes_per_pixel: int = 0
    taken: str = ""

    def like(self, other: Header) -> bool:
        """Return whether both have the same proportions, turned or not, within the rounding of sides."""
        mine, its = sorted((self.width, self.height)), sorted((other.width, other.height))
        return abs(mine[0] * its[1] - its[0] * mine[1]) <= max(mine[1], its[1]) + 0.01 * mine[1] * its[1]


def kind_by_path(path: str) -> str | None:
    """Return the kind of a file that its path alone excludes from a capture; None for any other."""
    parts = path.split("/")
    return next((kind for kind, pattern in _SET_ASIDE if any(map(pattern.fullmatch, parts))), None)


def find_derived(headers: Mapping[str, Header], photos: Collection[str]) -> dict[str, str]:
    """Return the files that are made from others, with their kinds.

    Args:
        headers: of the readable photos and videos, by relative path.
        photos: those among them that are photos.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for path in photos:
        by_stem[_stem(path)].append(path)
    found: dict[str, str] = {}
    for path in photos:
        kind, _ = _map(path, headers, by_stem)
        if kind := kind or _copy(path, headers, by_stem):
            found[path] = kind
    for path in photos:
        if _in(path, _OPENDRONEMAP):
            found[path] = "map or texture"
    left = [path for path in photos if path not in found]
    pixels = {path: headers[path].width * headers[path].height for path in left}
    if photographed := [number for number in pixels.values() if number >= _CAMERA_PIXELS]:
        limit = min(_CAMERA_PIXELS, _ICON * median(photographed))
        found |= {path: "icon" for path, number in pixels.items() if number < limit}
    by_place: dict[str, list[str]] = defaultdict(list)
    by_time: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in left:
        by_place[_place(path)].append(path)
        if taken := headers[path].taken:
            by_time[_stem(path), taken].append(path)
    for shots in (*by_place.values(), *by_time.values()):
        shots = [path for path in shots if path not in found]
        shots.sort(key=lambda path: (-_worth(path, headers[path]), _rank(path)))
        for number, path in enumerate(shots):
            if any(_same_shot(path, first, headers) for first in shots[:number]):
                found[path] = "copy in another format"
    for path in headers.keys() - set(photos):
        seconds = headers[path].seconds
        if _place(path) in by_place and seconds is not None and seconds < _LIVE_SECONDS:
            found[path] = "Live Photo video"
    # Pictures are photos, whatever their names, if no other file could be their original.
    return found if len(found) < len(headers) else {}


def find_masks(headers: Mapping[str, Header], photos: Collection[str], left_out: Mapping[str, str]) -> dict[str, str]:
    """Return the mask of each photo that has one.

    Args:
        headers: of the readable photos and videos, by relative path.
        photos: those among them that are photos.
        left_out: what `find_derived` returned for them.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for path in photos:
        by_stem[_stem(path)].append(path)
    found: dict[str, str] = {}
    for path in sorted(path for path, kind in left_out.items() if kind == "mask"):
        _, candidates = _map(path, headers, by_stem)
        used = [photo for photo in candidates if photo not in left_out and photo not in found]
        if photo := _nearest(path, used):
            found[photo] = path
    return found


def find_poses(paths: Collection[str]) -> list[str]:
    """Return the files with the camera poses that a folder has: transforms.json, or COLMAP's cameras and images.

    Polycam's cameras, Record3D's metadata, Metashape's XML, OpenDroneMap's shots and what RealityCapture exports count,
    too. The ones nearest to the top are taken.

    Args:
        paths: of all files, photos as well; .csv and .xmp files only if RealityCapture wrote them.
    """
    there, found = set(paths), []
    folders = {parent for path in paths for parent in PurePosixPath(path).parents}
    polycams: dict[PurePosixPath, list[str]] = defaultdict(list)
    sidecars: list[str] = []
    for path in paths:
        own = PurePosixPath(path)
        kind = next((kind for kind, names in enumerate(_POSES) if own.name == names[0]), None)
        if kind is not None and there.issuperset(files := [str(own.with_name(each)) for each in _POSES[kind]]):
            found.append((len(own.parts), kind, files))
        elif own.parent.name == "cameras" and own.suffix == ".json" and own.parent.with_name("images") in folders:
            polycams[own.parent].append(path)
        elif own.name == "reconstruction.json" or own.suffix.lower() == ".csv":
            found.append((len(own.parts), len(_POSES), [path]))
        elif own.name == "shots.geojson":
            lenses = [str(each) for each in (own.parent.parent / "cameras.json",) if str(each) in there]
            found.append((len(own.parts), len(_POSES) + 1, [path, *lenses]))
        elif own.suffix.lower() == ".xmp":
            sidecars.append(path)
        elif (own.name == "metadata.json" and own.parent / "rgb" in folders) or _METASHAPE.fullmatch(own.name):
            found.append((len(own.parts), len(_POSES), [path]))
    found += [(len(folder.parts) + 1, len(_POSES), sorted(files)) for folder, files in polycams.items()]
    if sidecars:
        nearest = min(len(PurePosixPath(path).parts) for path in sidecars)
        found.append((nearest, len(_POSES) + 1, sorted(sidecars)))
    return min(found)[2] if found else []


def _nearest(path: str, photos: Collection[str]) -> str | None:
    """Return the photo whose folders have most names in common with a path; None if several have as many."""
    parents = set(PurePosixPath(path).parent.parts)

    def distance(photo: str) -> tuple[int, int]:
        folders = set(PurePosixPath(photo).parent.parts)
        return -len(folders & parents), len(folders - parents)

    ranked = sorted(photos, key=distance)
    return ranked[0] if ranked and (len(ranked) == 1 or distance(ranked[0]) < distance(ranked[1])) else None


def describe(reason: str, names: Collection[str]) -> str:
    """Describe files that are left out for one reason: one file by its name, several by their number."""
    hint = _HINTS.get(reason, "")
    if len(names) == 1:
        return f"{printable(next(iter(names)))} ({reason}{hint})"
    if reason in _PLURALS:
        return f"{len(names)} {_PLURALS[reason]}{hint}"
    return f"{len(names)} files ({reason})"


def _map(path: str, headers: Mapping[str, Header], by_stem: Mapping[str, list[str]]) -> tuple[str | None, list[str]]:
    """Return whether a file is a mask, depth or confidence map, and the photos that it can belong to.

    It is one if it is named as one, and either has a single channel or belongs to a photo.
    """
    own = PurePosixPath(path)
    for kind, pattern in _MAPS:
        if any(pattern.fullmatch(part) for part in own.parent.parts):
            named = _MAP_NAME.fullmatch(_stem(path))
            stems = [_stem(path), *([named[1].casefold()] if named else [])]
            outside = [other for stem in stems for other in by_stem.get(stem, ()) if not _in(other, pattern)]
            if outside or headers[path].single:
                return kind, outside
    if (named := _MAP_NAME.fullmatch(_stem(path))) and (photos := _beside(path, named[1], by_stem)):
        word = named[2].lower()
        return next(kind for kind, _ in _MAPS if kind.startswith(word[:4])), photos
    return None, []


def _copy(path: str, headers: Mapping[str, Header], by_stem: Mapping[str, list[str]]) -> str | None:
    """Return the kind of a smaller or edited copy whose original is there, too."""
    own, header = PurePosixPath(path), headers[path]
    stem = _stem(path)

    def smaller(originals: Iterable[str], factor: float) -> bool:
        side = max(header.width, header.height)  # a copy's sides may be rounded by a pixel
        return any(
            header.like(headers[o]) and max(headers[o].width, headers[o].height) >= factor * (side - 1)
            for o in originals
        )

    same = [other for other in by_stem[_stem(path)] if other != path]
    for depth, part in enumerate(own.parent.parts):
        if pyramid := _PYRAMID.fullmatch(part):
            originals = [o for o in same if _folder(o, depth) == (*own.parts[:depth], pyramid[1])]
            if smaller(originals, int(pyramid[2])):
                return "smaller copy"
        if _SMALLER.fullmatch(part) and smaller([o for o in same if not _in(o, _SMALLER)], 1.2):
            return "smaller copy"
        if _EDITED.fullmatch(part) and any(not _in(o, _EDITED) for o in same):
            return "edited copy"
    if (named := _SMALLER_NAME.fullmatch(stem)) and smaller(_beside(path, named[1], by_stem), 1.2):
        return "smaller copy"
    if (named := _EDITED_NAME.fullmatch(stem)) and _beside(path, named[1], by_stem):
        return "edited copy"
    if (named := _COPY_NAME.fullmatch(stem)) and header.taken.partition(".")[2]:  # with a fraction of a second
        whole = [headers[o] for o in _beside(path, named[1], by_stem)]
        if any(header.taken == first.taken and header.like(first) for first in whole):
            return "duplicate"
    if (named := _APPLE_EDIT.fullmatch(stem)) and _beside(path, named[1] + named[2], by_stem):
        return "edited copy"
    if (named := _PIXEL_PORTRAIT.fullmatch(stem)) and _beside(path, f"{named[1]}-02.original", by_stem):
        return "edited copy"
    return None


def _stem(path: str) -> str:
    """Return the name before all endings, in lower case: `img_1` for `masks/IMG_1.jpg.png`."""
    name = PurePosixPath(path).name.casefold()
    while name.endswith(_FORMATS):
        name = name[: name.rindex(".")]
    return name


def _place(path: str) -> str:
    """Return a path without its ending, and without folders that are named after a format.

    The files of one shot have the same: `HEIC/IMG_1.HEIC`, `JPG/IMG_1.jpg` and `IMG_1.MOV`.
    """
    own = PurePosixPath(path)
    folders = [part for part in own.parent.parts if not _FORMAT_FOLDER.fullmatch(part)]
    return str(PurePosixPath(*folders, _PIXEL_RAW.sub("", own.stem))).casefold()


def _same_shot(path: str, other: str, headers: Mapping[str, Header]) -> bool:
    """Return whether two photos of one name, or of one place, are the same shot in two formats."""
    mine, its = headers[path], headers[other]
    same_time = not (mine.taken and its.taken) or mine.taken == its.taken
    return _suffix(path) != _suffix(other) and mine.like(its) and same_time


def _suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return {".jpeg": ".jpg", ".tiff": ".tif", ".heif": ".heic", ".hif": ".heic"}.get(suffix, suffix)


def _rank(path: str) -> int:
    return _FORMATS.index(PurePosixPath(path).suffix.lower())


def _worth(path: str, header: Header) -> float:
    """Return how much a file of a shot shows: a raw photo counts half, as the camera develops it better than we do."""
    return header.width * header.height * (0.5 if path.lower().endswith(".dng") else 1.0)


def _folder(path: str, depth: int) -> tuple[str, ...]:
    return PurePosixPath(path).parent.parts[: depth + 1]


def _in(path: str, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(part) for part in PurePosixPath(path).parent.parts)


def _beside(path: str, stem: str, by_stem: Mapping[str, list[str]]) -> list[str]:
    folder = PurePosixPath(path).parent
    return [other for other in by_stem.get(stem.casefold(), ()) if PurePosixPath(other).parent == folder]
