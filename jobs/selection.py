"""Tell the photos of a capture from files that are made from photos: thumbnails, masks, copies.

A file is judged by its path and its header; nothing is decoded. A name alone excludes no photo that could be one: a
folder `walk_2` is left out only if its pictures are smaller copies of those in `walk`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median

from jobs.text import printable

__all__ = ["Header", "describe", "find_derived", "find_masks", "kind_by_path"]

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
    "normal map": "normal maps",
    "segmentation": "segmentations",
    "thermal photo": "thermal photos",
    "grey picture among colour photos": "grey pictures among colour photos",
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
_SMALLER = re.compile(r"((thumb(nail)?|preview|small|low[-_]?res|resized|web)s?|prox(y|ies))", re.I)
_SMALLER_NAME = re.compile(r"(.+?)[-_.](thumb(nail)?|preview|small|proxy|\d{2,4}x\d{2,4}|\d{3,4}p)", re.I)
_GOPRO_SMALL = re.compile(r"gl(\d{6})", re.I)  # beside GX010001 or GH010001
_MAPS = (
    ("mask", re.compile(r"masks?|.*_masks?", re.I)),
    ("depth map", re.compile(r"(depths?|disparit(y|ies))([-_].*|maps?)?", re.I)),
    ("confidence map", re.compile(r"(confidences?|conf)([-_].*|maps?)?", re.I)),
    ("normal map", re.compile(r"normals([-_].*)?|normal[-_]?maps?", re.I)),
    ("segmentation", re.compile(r"(semantic|segmentation|instance|label)s?([-_].*|maps?)?", re.I)),
)
_MAP_WORDS = {
    "mask": "mask",
    **dict.fromkeys(("depth", "disparity"), "depth map"),
    **dict.fromkeys(("confidence", "conf"), "confidence map"),
    **dict.fromkeys(("normal", "normals"), "normal map"),
    **dict.fromkeys(("semantic", "semantics", "segmentation", "instance", "label"), "segmentation"),
}
_MAP_NAME = re.compile(rf"(.+)([-_.])({'|'.join(_MAP_WORDS)})", re.I)
_COLOURS = ("color", "colour", "rgb")  # RGB-D cameras: frame-000001.color.jpg beside frame-000001.depth.png
_THERMAL = re.compile(r"(dji_.+_)t", re.I)  # beside the same drone's wide (W), zoom (Z) or visible (V) photo
_EDITED = re.compile(r"(corrected|undistorted|edited|rectified)([-_ ]?(images?|photos?))?", re.I)
# Google Photos: NAME-edited, in the user's language; Lightroom: NAME-Edit, -HDR; Android's editors: NAME~2
_EDITED_WORDS = (
    *("edit(ed)?", "corrected", "undistorted", "rectified", "hdr", "enhanced([-_].+)?"),
    *("bearbeitet", "modifi(é|e\u0301|cato)", "editad[ao]", "bewerkt", "edytowane", "редактировано", "編集済み"),
)
_EDITED_NAME = re.compile(rf"(.+?)(( ?\(|[-_])({'|'.join(_EDITED_WORDS)})\)?|~\d{{1,2}})", re.I)
_PIXEL_PORTRAIT = re.compile(r"(.+\.portrait)-01(\.mp)?\.cover", re.I)  # blurred, beside NAME.PORTRAIT-02.ORIGINAL
_PIXEL_RAW = re.compile(r"\.raw-\d\d(\.mp)?\.(cover|original)$", re.I)  # a JPEG and a DNG of one shot
_COPY_NAME = re.compile(r"(.+?)( ?\(\d+\)| \d| copy| - copy|[-_]\d{1,2})", re.I)  # Lightroom: NAME-2; Snapseed: -01
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

_GREY = "grey picture among colour photos"

_OPENDRONEMAP = re.compile(r"odm_(dem|georeferencing|meshing|orthophoto|report|texturing.*)", re.I)

_ICON = 0.01  # of the pixels of the usual photo: a picture with less of them, and less than any camera's, is an icon
_CAMERA_PIXELS = 60_000  # the first digital cameras had 320 x 240

_LIVE_SECONDS = 6.0  # a Live Photo lasts 3 s
_SAME_SECONDS = 0.5  # by which copies of a video can differ in length: containers count the last frame differently
_COLOUR_PHOTOS = 8  # beside which pictures of a single deep channel, such as an infrared band, are no photos


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Args:
        width, height: px, as stored.
        single: whether the picture has a single channel, as a mask or a depth map has.
        deep: whether its samples have more than 8 bits.
        seconds: length of a video; None for a photo, or if unknown.
        bytes_per_pixel: memory that decoding and writing a photo take.
        taken: when a photo was taken, as its camera wrote it; "" if unknown.
    """

    width: int
    height: int
    single: bool = False
    deep: bool = False
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
    found |= dict.fromkeys(_grey([path for path in left if path not in found], headers), _GREY)
    films = sorted(headers.keys() - set(photos))
    for path in films:
        seconds = headers[path].seconds
        if _place(path) in by_place and seconds is not None and seconds < _LIVE_SECONDS:
            found[path] = "Live Photo video"
    found |= _copied_films([path for path in films if path not in found], headers)
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
            stems = [_stem(path), *([named[1]] if named else [])]
            outside = [other for stem in stems for other in by_stem.get(stem, ()) if not _in(other, pattern)]
            if outside or headers[path].single:
                return kind, outside
    if named := _MAP_NAME.fullmatch(_stem(path)):
        stems = [named[1], *(f"{named[1]}{named[2]}{word}" for word in _COLOURS)]
        if photos := [photo for stem in stems for photo in _beside(path, stem, by_stem)]:
            return _MAP_WORDS[named[3].lower()], photos
    return None, []


def _grey(photos: Collection[str], headers: Mapping[str, Header]) -> list[str]:
    """Return the pictures of a single channel beside colour photos: bands of infrared, depths, black-and-white copies.

    If most photos are grey, as scans are, only those with more than 8 bits are returned.
    """
    single = [path for path in photos if headers[path].single]
    colour = len(photos) - len(single)
    return [path for path in single if colour >= len(single) or (headers[path].deep and colour >= _COLOUR_PHOTOS)]


def _copied_films(films: Sequence[str], headers: Mapping[str, Header]) -> dict[str, str]:
    """Return the videos that are copies of others, in another format or smaller, with their kinds."""
    found: dict[str, str] = {}
    by_stem: dict[str, list[str]] = defaultdict(list)
    for path in films:
        by_stem[PurePosixPath(path).stem.casefold()].append(path)

    def same(path: str, other: str) -> bool:
        mine, its = headers[path], headers[other]
        if path == other or mine.seconds is None or its.seconds is None:
            return False
        return mine.like(its) and abs(mine.seconds - its.seconds) <= _SAME_SECONDS

    for path in films:
        own, pixels = PurePosixPath(path), headers[path].width * headers[path].height
        stem = own.stem.casefold()
        larger = [each for each in films if headers[each].width * headers[each].height > pixels and same(path, each)]
        named, gopro = _SMALLER_NAME.fullmatch(stem), _GOPRO_SMALL.fullmatch(stem)
        stems = {named[1]} if named else {f"gx{gopro[1]}", f"gh{gopro[1]}"} if gopro else set()
        stems |= {stem} if _in(path, _SMALLER) else set()
        equal = [each for each in by_stem[stem] if same(path, each) and _place(each) == _place(path)]
        if any(PurePosixPath(each).stem.casefold() in stems for each in larger):
            found[path] = "smaller copy"
        elif any(each in larger or (each < path and each not in found) for each in equal):
            found[path] = "copy in another format"
    return found


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
    if (named := _THERMAL.fullmatch(stem)) and any(_beside(path, f"{named[1]}{kind}", by_stem) for kind in "wzv"):
        return "thermal photo"
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
