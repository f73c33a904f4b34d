"""What a capture is made of: finding, checking and reading photos and videos.

Importing this costs nothing; Pillow, pillow-heif and PyAV are loaded by the functions that need them.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import memory, selection
from jobs.errors import InvalidInput
from jobs.selection import Header

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".bmp"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv"}
)
MAX_PIXELS = 1_000_000_000
"""Larger pictures are taken for decompression bombs and refused unread."""

MAX_FRAME_PIXELS = 80_000_000
"""Videos with larger frames are refused undecoded: 12K (11520 x 5760) has 66 megapixels."""

_PHOTO_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF", "BMP")  # by content: no decoder for anything else is let near
_KINDS = "photos (jpg, jpeg, png, tif, tiff, webp, heic) or a video (mp4, mov, mkv, webm, avi …)"
_OTHER_MEDIA = re.compile(
    r"3fr|arw|avif|cr[23w]|dng|exr|gif|gpr|hdr|iiq|ins[pv]|j(p2|xl)|lrv|nef|nrw|orf|pef|psd|raf|raw|rw2|srw", re.I
)
_POSES = frozenset({"transforms.json", "cameras.bin", "cameras.txt", "cameras.xml", "cameras.json", "images.bin"})
_NOT_TOLD = frozenset({"asset.json", "Thumbs.db", "desktop.ini"})  # a workspace's own file, and Windows'
_SHARPNESS_WIDTH = 640  # px; smaller hides slight motion blur, larger counts sensor noise as sharpness


@dataclass(frozen=True)
class Capture:
    """The media of a folder, or of one video file. Keys are paths relative to the folder, in natural order.

    Args:
        photos: the photos to use; empty where the videos are used.
        videos: the videos to use; empty where the photos are used.
        unreadable: each photo or video that cannot be read → why.
        duplicates: each file that repeats another's content → that other file.
        unused: videos beside enough photos, or a few photos beside a video: a dataset is made of one kind.
        denied: unreadable files that not even the file system hands out.
        left_out: each file that is made from others, hidden or deleted → its kind, e.g. "thumbnail".
        others: files of other formats.
    """

    photos: dict[str, Path] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """The files that a capture keeps: `photos`, `videos`, `duplicates`, and those `unreadable` that may be read."""

    @property
    def found(self) -> int:
        """The number of photos and videos, whatever became of them."""
        listed = (self.photos, self.videos, self.unreadable, self.duplicates, self.unused, self.left_out)
        return len(set().union(*listed))

    def without(self, kept: Collection[str] = ()) -> list[str]:
        """Tell what is left out and why, by kind: "16 thumbnails", "walk.mp4 (there are photos beside it …)".

        Args:
            kept: files not to tell of.
        """
        reasons = {name: reason.partition(":")[0] for name, reason in self.unreadable.items()}
        reasons |= dict.fromkeys(self.duplicates, "duplicate")
        reasons |= dict.fromkeys(self.unused, "video beside photos" if self.photos else "photo beside a video")
        reasons |= self.left_out
        for name in self.others:
            suffix = Path(name).suffix[1:].upper()
            reasons[name] = f"{suffix}, a format that is not read" if _OTHER_MEDIA.fullmatch(suffix) else "other file"
        groups: dict[str, list[str]] = defaultdict(list)
        for name, reason in reasons.items():
            if name not in kept:
                groups[reason].append(name)
        told = [selection.words(reason, names) for reason, names in groups.items()]
        if poses := next((name for name in self.others if Path(name).name in _POSES), None):
            told.append(f"the poses in {poses} (the photos are placed anew)")
        return told

    def tags(self, kept: Collection[str]) -> dict[str, str]:
        """Return the tag of a capture that is made of the files `kept`: what was left out of it, if anything."""
        told = ", ".join(self.without(kept))
        return {"left_out": f"{told[:499]}…" if len(told) > 500 else told} if told else {}

    def line(self, before: Collection[str] = ()) -> str:
        """One line: how many files were found and used, and what is left out and why.

        Args:
            before: what was left out before these files became a capture, as `without` tells it.
        """
        kind, used = ("photo", len(self.photos)) if self.photos else ("video", len(self.videos))
        told = [*before, *self.without()]
        rest = f"left out: {', '.join(told)}" if told else "nothing is left out"
        return f"{used} {kind}{'s' * (used != 1)} used; {rest}."


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Args:
        image: upright, 8-bit RGB.
        model: the camera's model as EXIF has it, or "".
        focal: the focal length as a multiple of the picture's diagonal, from EXIF; None if unknown.
        verbatim: the file itself is this picture: an upright 8-bit RGB JPEG, which needs no second encoding.
    """

    image: Image
    model: str
    focal: float | None
    verbatim: bool


@dataclass(frozen=True)
class Frame:
    """A frame of a video: upright 8-bit RGB, its `time` in seconds from the start, and how sharp it is."""

    image: Image
    time: float
    sharpness: float


def scan(source: Path, minimum: int = 3) -> Capture:
    """Look at a capture without decoding it: file headers, and the first frame of each video.

    A folder is searched with all its subfolders. Thumbnails, masks, copies and the like are left out (see
    `jobs.selection`). Photos win over videos beside them, unless the readable photos are fewer than `minimum`.

    Args:
        source: a folder of photos or videos, or one video.
        minimum: the fewest photos that can become a dataset.

    Raises:
        InvalidInput: nothing here can become a dataset; the text names folder or file and the remedy.
    """
    if not source.exists():
        raise InvalidInput(f"{source} is not there. Give a folder of {_KINDS}.")
    if source.is_file() and source.suffix.lower() not in VIDEO_SUFFIXES:
        raise InvalidInput(f"{source} is one file and not a video. Give a folder of {_KINDS}.")
    found, others, left_out = ({source.name: source}, [], {}) if source.is_file() else find(source)
    if not found:
        there = [*others, *left_out]
        only = f"only {', '.join(there[:3])}{' …' if len(there) > 3 else ''}" if there else "nothing"
        raise InvalidInput(f"{source} holds no photos and no video ({only}). Put in {_KINDS}.")

    unreadable, denied = {}, set()
    headers: dict[str, Header] = {}
    for name, file in found.items():
        if problem := _not_ours(file, source):
            unreadable[name] = problem
            denied.add(name)
            continue
        try:
            headers[name] = _photo_header(file) if _is_photo(name) else _video_header(file)
        except InvalidInput as error:
            unreadable[name] = str(error)
        except PermissionError:
            unreadable[name] = "no permission to read it"
            denied.add(name)
    derived = selection.derived(headers, [name for name in headers if _is_photo(name)])
    duplicates = _duplicates({name: file for name, file in found.items() if name in headers and name not in derived})
    good = {name: file for name, file in found.items() if name in headers and name not in {**derived, **duplicates}}
    photos = {name: file for name, file in good.items() if _is_photo(name)}
    videos = {name: file for name, file in good.items() if not _is_photo(name)}
    unused: list[str] = []
    if videos and len(photos) >= minimum:
        unused, videos = list(videos), {}
    elif videos:
        unused, photos = list(photos), {}
    elif len(photos) < minimum:
        _refuse_few(source, len(photos), minimum, found, unreadable, {**duplicates, **derived})
    files = {name: file for name, file in found.items() if name not in {*denied, *unused, *derived}}
    return Capture(photos, videos, unreadable, duplicates, unused, denied, {**left_out, **derived}, others, files)


def is_media(path: str) -> bool:
    """Return whether a capture takes a file of this relative path: by its name a photo or video, and not hidden."""
    suffix = os.path.splitext(path)[1].lower()
    return (suffix in PHOTO_SUFFIXES or suffix in VIDEO_SUFFIXES) and selection.aside(path) is None


def check_names(names: Collection[str], minimum: int = 3) -> None:
    """What `scan` refuses, as far as names tell: for files that are out of reach.

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
    reasons = [f"{name}: {reason}" for name, reason in unreadable.items()]
    reasons += [f"{name}: {f'the same as {reason}' if reason in found else reason}" for name, reason in others.items()]
    listed = f" Left out: {'; '.join(reasons[:5])}{' …' if len(reasons) > 5 else ''}." if reasons else ""
    if readable == 0 and len(found) == 1 and not _is_photo(next(iter(found))):
        name, problem = next(iter(unreadable.items()))
        raise InvalidInput(f"video {source if source.is_file() else source / name} cannot be used: {problem}.")
    raise InvalidInput(
        f"{source} holds {readable} readable photo{'' if readable == 1 else 's'}; at least {minimum} are needed, "
        f"30 to 200 that overlap are good.{listed} Add photos, or repair what was left out."
    )


def find(folder: Path) -> tuple[dict[str, Path], list[str], dict[str, str]]:
    """Find photos and videos.

    Args:
        folder: with subfolders.

    Returns:
        The photos and videos by relative name, in natural order; the names of other files that are not hidden; and the
        photos and videos that are thumbnails, hidden or deleted by their paths alone, with that kind.
    """
    names = []
    for directory, _, files in os.walk(folder):
        names += [(Path(directory) / name).relative_to(folder).as_posix() for name in files]
    names.sort(key=_natural)
    kinds = {name: kind for name in names if (kind := selection.aside(name))}
    media = {name: folder / name for name in names if is_media(name)}
    suffixes = PHOTO_SUFFIXES | VIDEO_SUFFIXES
    left_out = {name: kind for name, kind in kinds.items() if os.path.splitext(name)[1].lower() in suffixes}
    others = [name for name in names if name not in media and name not in kinds and Path(name).name not in _NOT_TOLD]
    return media, others, left_out


def may_be_read(file: Path, source: Path) -> bool:
    """Return whether a file of a capture is a regular file, and no link that leads out of the capture's folder.

    Anything else could hand out a private file of this machine, or never come to its end.
    """
    return _not_ours(file, source) is None


def _not_ours(file: Path, source: Path) -> str | None:
    try:
        mode = file.lstat().st_mode
        if stat.S_ISREG(mode):  # nearly always; no folder on the way is a link, as `find` follows none
            return None
        mode, target = file.stat().st_mode, file.resolve(strict=True)
    except PermissionError:
        return "no permission to read it"
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle, before Python 3.13
        return "a link to nowhere"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if source.is_dir() and not target.is_relative_to(source.resolve()):
        return "a link that leads out of the folder; copy the file instead"
    return None


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sorts IMG_9 before IMG_10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in PHOTO_SUFFIXES


def _duplicates(files: dict[str, Path]) -> dict[str, str]:
    """Files whose content an earlier one has → that earlier one. Only files of equal size are read."""
    by_size = defaultdict(list)
    for name, file in files.items():
        by_size[file.stat().st_size].append(name)
    first: dict[bytes, str] = {}
    duplicates = {}
    for name in chain.from_iterable(names for names in by_size.values() if len(names) > 1):
        with files[name].open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        if first.setdefault(digest.digest(), name) != name:
            duplicates[name] = first[digest.digest()]
    return duplicates


# photos


@functools.cache
def _pillow() -> Any:
    """`PIL.Image`, with HEIC registered and its limits of size set to ours (Pillow refuses at twice its figure)."""
    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    return Image


def _photo_header(file: Path) -> Header:
    """Read a photo's header; what is wrong with it is raised as InvalidInput with the reason alone."""
    try:
        with _pillow().open(file, formats=_PHOTO_FORMATS) as image:
            return Header(
                image.width,
                image.height,
                single=len(image.getbands()) == 1,
                # What is decoded, its RGB, that turned upright, and what is written; deep samples go through float64.
                bytes_per_pixel=40
                if image.mode == "F" or image.mode.startswith("I")
                else 4 * len(image.getbands()) + 8,
            )
    except PermissionError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a broken header makes them raise
        raise InvalidInput(_reason(file, error)) from error


def _reason(file: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if file.stat().st_size == 0:
        return "empty file"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} megapixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    return f"damaged: {error}"


def read_photo(file: Path) -> Photo:
    """Decode a photo of any accepted kind to upright 8-bit RGB.

    EXIF orientation is applied. 16-bit and floating-point samples are scaled to 8 bits, not clipped; grey, palette and
    CMYK are converted; transparency is laid over white.

    Raises:
        InvalidInput: the file is not a picture, damaged, cut off, or larger than the memory; the text is the reason.
    """
    from PIL import ExifTags, ImageOps

    needed, free = bytes_to_decode(file), memory.available()
    if needed > free:
        raise InvalidInput(
            f"too large to decode here: about {needed / 1e9:.1f} GB of memory are needed, {free / 1e9:.1f} GB are free"
        )
    try:
        with _pillow().open(file, formats=_PHOTO_FORMATS) as image:
            image.load()
            exif = image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            upright = orientation not in range(2, 9)
            rgb = _to_rgb(image)
            if not upright:
                rgb.getexif()[ExifTags.Base.Orientation] = orientation
                ImageOps.exif_transpose(rgb, in_place=True)
            return Photo(
                image=rgb,
                model=str(exif.get(ExifTags.Base.Model, "")).strip("\0 "),
                focal=_focal(exif.get_ifd(ExifTags.IFD.Exif)),
                verbatim=image.format in ("JPEG", "MPO") and image.mode == "RGB" and upright,
            )
    except MemoryError:
        raise
    except Exception as error:  # as above: decoders raise anything
        raise InvalidInput(_reason(file, error)) from error


def bytes_to_decode(file: Path) -> int:
    """Estimate from a photo's header how much memory `read_photo` and writing the photo take at most.

    Raises:
        InvalidInput: the header cannot be read; the text is the reason alone.
    """
    header = _photo_header(file)
    return header.width * header.height * header.bytes_per_pixel


def grey(image: Image, longest: int) -> Image:
    """A photo as features are found in it: grey, its longer side at most `longest` px."""
    from PIL.Image import Resampling

    scale = min(1.0, longest / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shades = image.convert("L")
    return shades if size == image.size else shades.resize(size, Resampling.LANCZOS, reducing_gap=2.0)


def _to_rgb(image: Image) -> Image:
    """8-bit RGB of the same size."""
    if image.mode == "F" or image.mode.startswith("I"):  # one channel of more than 8 bits
        import numpy as np

        samples = np.asarray(image, dtype=np.float64)
        peak = float(samples.max(initial=0.0))
        limit = 65535.0 if image.mode.startswith("I;16") else next((m for m in (1, 255, 65535) if peak <= m), peak)
        image = _pillow().fromarray(np.clip(samples * (255 / limit) + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        opaque = _pillow().new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert("RGB")


def _focal(exif: dict[int, Any]) -> float | None:
    """Focal length over the picture's diagonal, or None. EXIF 2.32 (CIPA DC-008), section 4.6.5."""
    from PIL.ExifTags import Base

    try:
        if equivalent := float(exif.get(Base.FocalLengthIn35mmFilm, 0)):
            return round(equivalent / math.hypot(36, 24), 4)
        unit = {2: 25.4, 3: 10.0}[exif[Base.FocalPlaneResolutionUnit]]  # mm in an inch, in a centimetre
        width = exif[Base.ExifImageWidth] / float(exif[Base.FocalPlaneXResolution]) * unit
        height = exif[Base.ExifImageHeight] / float(exif[Base.FocalPlaneYResolution]) * unit
        return round(float(exif[Base.FocalLength]) / math.hypot(width, height), 4) or None
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None


# videos


def _video_header(file: Path) -> Header:
    """Read a video's header and decode its first frame; what is wrong is raised as InvalidInput, the reason alone."""
    import av

    if file.stat().st_size == 0:
        raise InvalidInput("empty file")
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise InvalidInput("it has no picture, only sound")
            frame_size = container.streams.video[0].codec_context
            if frame_size.width * frame_size.height > MAX_FRAME_PIXELS:
                raise InvalidInput(f"its frames have more than {MAX_FRAME_PIXELS // 10**6} megapixels")
            seconds = container.duration / av.time_base if container.duration else None
            for frame in _decode(container):
                if frame.width * frame.height:
                    return Header(frame.width, frame.height, seconds=seconds)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # all of FFmpeg's errors are one of these
        raise InvalidInput(f"not a video, or damaged: {error}") from error
    raise InvalidInput("it has no frames")


def _decode(container: Any) -> Iterator[VideoFrame]:
    """The frames of the first video stream in order of presentation; damaged packets are passed over."""
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            continue


def frame_times(video: Path) -> list[float]:
    """The time of each frame of a video in seconds from its first, from the packets alone: nothing is decoded."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stamps = [p.pts if p.pts is not None else p.dts for p in container.demux(stream) if p.size]
        base = stream.time_base
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if base is None or len(known) < len(stamps) or not known or known[0] == known[-1]:
        return [i / 30 for i in range(len(stamps))]  # no clock: frames at an even pace
    return [float((stamp - known[0]) * base) for stamp in known]


def sharpest_frames(video: Path, times: list[float], count: int) -> Iterator[Frame]:
    """The sharpest frame of each of `count` equal windows of time; one frame is held at a time.

    Sharpness is the variance of the Laplacian of the luminance at 640 px width (Pech-Pacheco et al., ICPR 2000).

    Args:
        video: the file.
        times: `frame_times` of it.
        count: number of windows; where there are fewer frames than that, each frame comes.
    """
    import av

    count = min(count, len(times))
    span = times[-1] * len(times) / max(1, len(times) - 1) if times else 0.0

    def window(i: int) -> int:
        return i if count == len(times) else min(count - 1, int(times[min(i, len(times) - 1)] / span * count + 1e-9))

    best: VideoFrame | None = None
    best_sharpness, best_index, current = -1.0, 0, 0
    with av.open(str(video)) as container:
        for index, frame in enumerate(_decode(container)):
            if window(index) != current and best is not None:
                yield Frame(_upright(best), times[best_index], best_sharpness)
                best, best_sharpness = None, -1.0
            current = window(index)
            # Where every frame is taken anyway there is nothing to choose.
            sharpness = 0.0 if count == len(times) else _sharpness(frame)
            if sharpness > best_sharpness:
                best, best_sharpness, best_index = frame, sharpness, min(index, len(times) - 1)
        if best is not None:
            yield Frame(_upright(best), times[best_index], best_sharpness)


def _sharpness(frame: VideoFrame) -> float:
    import numpy as np

    width = min(_SHARPNESS_WIDTH, frame.width)
    grey = frame.to_ndarray(format="gray", width=width, height=max(3, frame.height * width // frame.width))
    luminance = grey.astype(np.float32)
    inner = luminance[1:-1, 1:-1]
    laplacian = luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def _upright(frame: VideoFrame) -> Image:
    """RGB picture of the frame, turned as the video's display matrix says."""
    image: Image = frame.to_image()  # type: ignore[no-untyped-call]
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
