"""The files of a capture: finding and checking photos and videos.

Importing this module costs nothing: Pillow, pillow-heif and PyAV load on use.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jobs import beside, selection
from jobs.errors import InvalidInput
from jobs.manifest import checksum_of
from jobs.opening import find_plain, open_plain
from jobs.pictures import copies, film, photo
from jobs.selection import Header
from jobs.text import printable

PHOTO_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp"),
        *(".heic", ".heif", ".hif", ".avif", ".bmp", ".dng"),
    }
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv"}
)
_KINDS = "photos (jpg, png, tif, webp, heic, avif, dng …) or a video (mp4, mov, mkv, webm, avi …)"
_MOST_BYTES = 1_000_000_000  # of a photo: Pillow reads HEIC, AVIF and WebP whole, twice
_TO_KEEP = "to take these poses instead: --prepare.poses keep"
# The workspace's own file, files of Windows, and measurements, which another stage reads
_NOT_LISTED = frozenset({"asset.json", "Thumbs.db", "desktop.ini", "scale.json", "gcp_list.txt"})


@dataclass(frozen=True)
class Capture:
    """The media of a folder, or of one video file. Keys are paths relative to the folder, in natural order.

    Args:
        photos: the photos to use; empty if the videos are used.
        videos: the videos to use; empty if the photos are used.
        unreadable: each photo or video that cannot be read → why.
        duplicates: each file that repeats another's content → that other file.
        unused: videos in a capture of photos, or photos in a capture of videos. A dataset is made of one kind.
        denied: files that cannot be opened, for example for lack of permission.
        left_out: each file that is made from others, hidden or deleted → its kind, e.g. "thumbnail".
        others: each file of another format → why it is not read.
        masks: the mask of each photo that has one. Its black pixels are not used.
        poses: the files with the poses of the photos, if these are kept.
        beside: likewise, if these are not kept.
    """

    photos: dict[str, Path] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    poses: dict[str, Path] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """What a capture keeps: `photos`, `videos`, `masks`, `poses`, `duplicates`, and `unreadable` that may be copied."""

    @property
    def found(self) -> int:
        """Return the number of photos and videos, used or not."""
        listed = (self.photos, self.videos, self.unreadable, self.duplicates, self.unused, self.left_out)
        return len(set().union(*listed))

    def without(self, kept: Collection[str] = ()) -> list[str]:
        """List what is left out and why, by kind: "16 thumbnails", "walk.mp4 (video beside photos)".

        Args:
            kept: files not to list.
        """
        reasons = {name: reason.partition(":")[0] for name, reason in self.unreadable.items()}
        reasons |= dict.fromkeys(self.duplicates, "duplicate")
        reasons |= dict.fromkeys(self.unused, "video beside photos" if self.photos else "photo beside a video")
        reasons |= self.left_out
        reasons |= self.others
        listed = _grouped({name: reason for name, reason in reasons.items() if name not in kept})
        if self.beside:
            listed.append(f"the poses in {printable(self.beside[0])} (the photos are registered again; {_TO_KEEP})")
        return listed

    def tags(self, kept: Collection[str]) -> dict[str, str]:
        """Return the tag of a capture made of the files `kept`: what was left out of it, if anything."""
        listed = ", ".join(self.without(kept))
        return {"left_out": f"{listed[:499]}…" if len(listed) > 500 else listed} if listed else {}

    def line(self, before: Collection[str] = ()) -> str:
        """Return one line: how many files are used, and what is left out and why.

        Args:
            before: what was left out before these files became a capture, as `without` lists it.
        """
        kind, used = ("photo", len(self.photos)) if self.photos else ("video", len(self.videos))
        masks = f", {len(self.masks)} with a mask" if self.masks else ""
        listed = [*before, *self.without()]
        rest = f"left out: {', '.join(listed)}" if listed else "nothing is left out"
        return f"{used} {kind}{'s' * (used != 1)} used{masks}; {rest}."


def _grouped(reasons: Mapping[str, str], *, named: bool = False) -> list[str]:
    """Return the reasons why files are not used, each with its file, or with the number of its files.

    Args:
        reasons: by file.
        named: whether the first of several files is named, too.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        groups[reason].append(name)
    return [
        f"{printable(names[0])} and {len(names) - 1} more ({reason})"
        if named and len(names) > 1
        else selection.describe(reason, names)
        for reason, names in groups.items()
    ]


class Listing(NamedTuple):
    """The files of a folder, judged by their paths alone.

    Args:
        media: the photos and videos by path relative to the folder, in natural order.
        others: other files that are not hidden, and folders that are not searched, which end in "/".
        left_out: each photo or video that is a thumbnail, hidden or deleted → that kind.
    """

    media: dict[str, Path]
    others: list[str]
    left_out: dict[str, str]


def find_any(source: Path) -> Listing:
    """Return what `find` returns for a folder, or for one video.

    Raises:
        InvalidInput: there is no such folder or video, or it holds no photos and no video.
    """
    if not source.exists():
        hint = " Give the folder itself, without *." if "*" in source.name else _like(source)
        raise InvalidInput(f"{source} does not exist.{hint} Give a folder of {_KINDS}.")
    if source.is_file() and source.suffix.lower() not in VIDEO_SUFFIXES:
        why = beside.why_not_read(source.name, source.parent)
        known = "" if why == beside.OTHER else f": {why}"
        raise InvalidInput(f"{source} is a single file, and not a video{known}. Give a folder of {_KINDS}.")
    found = Listing({source.name: source.resolve()}, [], {}) if source.is_file() else find(source)
    if not found.media:
        there = [*found.others, *found.left_out]
        only = f"only {', '.join(there[:3])}{' …' if len(there) > 3 else ''}" if there else "it is empty"
        reasons = {name: beside.why_not_read(name, source) for name in found.others}
        hints = _grouped({name: why for name, why in reasons.items() if why != beside.OTHER}, named=True)
        hint = f" Not read: {', '.join(hints[:3])}." if hints else ""
        raise InvalidInput(f"{source} holds no photos and no video ({only}).{hint} Put in {_KINDS}.")
    return found


def _like(source: Path) -> str:
    """Return which folder or video beside a mistyped one may be meant, for people; "" if none is alike."""
    try:
        there = [
            each.name for each in source.parent.iterdir() if each.is_dir() or each.suffix.lower() in VIDEO_SUFFIXES
        ]
    except OSError:
        return ""
    near = difflib.get_close_matches(source.name, there, n=1)
    return f" Did you mean {source.parent / near[0]}?" if near else ""


def scan(source: Path, minimum: int = 3, *, keep_poses: bool = False) -> Capture:
    """Examine a capture, mostly without decoding it: file headers, and the first frame of each video.

    Only photos that may be copies of others are decoded, at a low resolution (see `jobs.pictures.copies`). A folder is
    searched with all its subfolders. Thumbnails, copies and the like are left out (see `jobs.selection`). Photos are
    preferred to videos, unless fewer than `minimum` photos can be read.

    Args:
        source: a folder of photos or videos, or one video.
        minimum: the fewest photos that can become a dataset.
        keep_poses: whether poses that are beside the photos belong to the capture.

    Raises:
        InvalidInput: nothing here can become a dataset, or there are no poses to keep; the text names folder or file
            and the remedy.
    """
    found, others, left_out = find_any(source)

    unreadable, denied = {}, set()
    headers: dict[str, Header] = {}
    for name, file in found.items():
        try:
            found[name] = find_plain(file, source.resolve())
            check_size(name, found[name].stat().st_size)
            stream = open_plain(found[name])
        except (InvalidInput, OSError) as error:
            unreadable[name] = _why_not(error)
            denied.add(name)
            continue
        try:
            with stream:
                headers[name] = _read_header(name, stream)
        except InvalidInput as error:
            unreadable[name] = str(error)
    pictures = [name for name in headers if _is_photo(name)]
    derived = selection.find_derived(headers, pictures)
    masks = selection.find_masks(headers, pictures, derived)
    derived = {name: kind for name, kind in derived.items() if name not in masks.values()}
    apart = {*derived, *masks.values()}
    duplicates = _duplicates({name: file for name, file in found.items() if name in headers and name not in apart})
    good = {name: file for name, file in found.items() if name in headers and name not in {*apart, *duplicates}}
    photos = {name: file for name, file in good.items() if _is_photo(name)}
    if not keep_poses:  # poses may be those of the copies
        derived |= (copied := copies.find_copies(photos, headers))
        photos = {name: file for name, file in photos.items() if name not in copied}
    videos = {name: file for name, file in good.items() if not _is_photo(name)}
    unused: list[str] = []
    if videos and len(photos) >= minimum:
        unused, videos = list(videos), {}
    elif videos:
        unused, photos = list(photos), {}
    elif len(photos) < minimum:
        unread = {name: why for name in others if (why := beside.why_not_read(name, source)) != beside.OTHER}
        _refuse_few(source, len(photos), minimum, found, unreadable, {**duplicates, **derived, **unread})
    poses_beside = beside.find_poses([*others, *photos], source) if photos else []
    poses = beside.poses_to_keep(source, poses_beside) if keep_poses else {}
    applied = {photo: found[mask] for photo, mask in masks.items() if photo in photos}
    derived |= {mask: "mask" for photo, mask in masks.items() if photo not in photos}
    files = {name: file for name, file in found.items() if name not in {*denied, *unused, *derived}} | poses
    left_out = {**left_out, **derived}
    return Capture(
        photos=photos,
        videos=videos,
        unreadable=unreadable,
        duplicates=duplicates,
        unused=unused,
        denied=denied,
        left_out=left_out,
        others={name: beside.why_not_read(name, source) for name in others if name not in poses},
        masks=applied,
        poses=poses,
        beside=[] if poses else poses_beside,
        files=files,
    )


def _read_header(name: str, stream: BinaryIO) -> Header:
    return photo.read_header(stream, Path(name).suffix.lower()) if _is_photo(name) else film.read_header(stream)


def _why_not(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return f"cannot be opened: {error.strerror}" if isinstance(error, OSError) else str(error)


def check_size(name: str, size: int) -> None:
    """Refuse a photo with more bytes than any camera writes. It can be full of holes, so that it takes no space.

    Raises:
        InvalidInput: it is too large; the message is the reason alone.
    """
    if size > _MOST_BYTES and _is_photo(name):
        raise InvalidInput(f"a file of {size / 1e9:.1f} GB, more than a photo has")


def is_media(path: str) -> bool:
    """Return whether a capture includes a file, judged by its relative path: photos and videos that are not hidden."""
    suffix = os.path.splitext(path)[1].lower()
    return (suffix in PHOTO_SUFFIXES or suffix in VIDEO_SUFFIXES) and selection.kind_by_path(path) is None


def check_names(names: Collection[str], minimum: int = 3) -> None:
    """Refuse what `scan` would refuse, as far as names alone can tell. For files on another machine.

    Args:
        names: of photos and videos, one for each content.
        minimum: the fewest photos that can become a dataset.

    Raises:
        InvalidInput: these cannot become a dataset.
    """
    if not names:
        raise InvalidInput(f"there are no photos and no video. Put in {_KINDS}.")
    photos = sum(map(_is_photo, names))
    if photos == len(names) and photos < minimum:
        raise InvalidInput(
            f"there {'is 1 photo' if photos == 1 else f'are {photos} photos'}; at least {minimum} are needed, "
            "30 to 200 that overlap are good."
        )


def _refuse_few(
    source: Path,
    readable: int,
    minimum: int,
    found: dict[str, Path],
    unreadable: dict[str, str],
    others: dict[str, str],
) -> None:
    why_others = {name: "duplicate" if why in found else why for name, why in others.items()}
    reasons = _grouped({**unreadable, **why_others}, named=True)
    listed = f" Left out: {', '.join(reasons[:5])}{' …' if len(reasons) > 5 else ''}." if reasons else ""
    if readable == 0 and len(found) == 1 and not _is_photo(next(iter(found))):
        name, problem = next(iter(unreadable.items()))
        raise InvalidInput(f"video {source if source.is_file() else source / name} cannot be used: {problem}.")
    raise InvalidInput(
        f"{source} holds {readable} readable photo{'' if readable == 1 else 's'}; at least {minimum} are needed, "
        f"30 to 200 that overlap are good.{listed} Add photos, or repair what was left out."
    )


def find(folder: Path) -> Listing:
    """List the files of a folder and its subfolders. Links to folders are not followed, so only files can be links."""
    folder, names = folder.resolve(), []
    for directory, left, files in walk(folder):
        names += [(Path(directory) / name).relative_to(folder).as_posix() for name in files]
        names += [f"{(Path(directory) / name).relative_to(folder).as_posix()}/" for name in left]
    names.sort(key=_natural)
    kinds = {name: kind for name in names if (kind := selection.kind_by_path(name))}
    media = {name: folder / name for name in names if is_media(name)}
    suffixes = PHOTO_SUFFIXES | VIDEO_SUFFIXES
    left_out = {name: kind for name, kind in kinds.items() if os.path.splitext(name)[1].lower() in suffixes}
    hidden = {name for name in kinds if not beside.is_in_icloud(name)}
    others = [name for name in names if name not in media and name not in hidden and Path(name).name not in _NOT_LISTED]
    return Listing(media, others, left_out)


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder with the folders in it that are not searched, and its files.

    Links are not, and what is deeper than any capture: Python 3.11 cannot walk a thousand levels.
    """
    for directory, folders, files in os.walk(folder):
        too_deep = len(Path(directory).parts) - len(folder.parts) >= beside.DEEPEST
        yield directory, [name for name in folders if too_deep or os.path.islink(os.path.join(directory, name))], files
        if too_deep:
            folders.clear()


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that puts IMG_9 before IMG_10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in PHOTO_SUFFIXES


def _duplicates(files: dict[str, Path]) -> dict[str, str]:
    """Return each file that repeats an earlier one's content, with that one. Only files of equal size are read."""
    by_size = defaultdict(list)
    for name, file in files.items():
        by_size[file.stat().st_size].append(name)
    first: dict[str, str] = {}
    duplicates = {}
    for name in chain.from_iterable(names for names in by_size.values() if len(names) > 1):
        with open_plain(files[name]) as stream:
            content = checksum_of(stream)
        if first.setdefault(content, name) != name:
            duplicates[name] = first[content]
    return duplicates
