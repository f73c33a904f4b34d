"""Tell what lies beside the photos of a capture: files with camera poses, and files that are not read, with the reason.

The files come from strangers: only their beginnings are read, and no link is followed out of the folder.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from jobs.errors import InvalidInput
from jobs.opening import find_plain, open_plain
from jobs.pictures.photo import DUAL_FISHEYE

__all__ = ["DEEPEST", "OTHER", "find_poses", "is_in_icloud", "poses_to_keep", "why_not_read"]

DEEPEST = 40
"""Folders in each other, beyond which nothing is searched."""
OTHER = "other file"

_BEGINNING = 20_000  # bytes
_OTHER_PHOTOS = re.compile(r"3fr|arw|cr[23w]|exr|gif|gpr|hdr|iiq|j(p2|xl)|nef|nrw|orf|pef|psd|raf|raw|rw2|srw", re.I)
_SMALL_VIDEOS = re.compile(r"l(rv|rf)", re.I)  # GoPro's and DJI's
_DUAL_FISHEYE = re.compile(r"ins[pv]|360", re.I)
_ARCHIVES = re.compile(r"zip|tar|t?gz|tgz|7z|rar", re.I)
_INCOMPLETE = re.compile(r"crdownload|part(ial)?|download|opdownload|!ut|tmp", re.I)
_IN_ICLOUD = re.compile(r"\..+\.icloud", re.I)
_PICTURES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|....ftyp(hei[cfx]|avif|mif1)|RIFF....WEBP", re.S)
_BACKUP = "_original"  # exiftool's, beside the file that it changed

_POSES = (("transforms.json",), ("cameras.bin", "images.bin"), ("cameras.txt", "images.txt"))
"""The files that hold the poses of a dataset: nerfstudio's, and those of a COLMAP model."""
_METASHAPE = re.compile(r"(.*cameras?|metashape.*)\.xml", re.I)
_REALITY_CAPTURE = {".csv": b"#name,", ".xmp": b"xcr:Rotation"}
"""What files with poses from RealityCapture have near their beginning."""


def is_in_icloud(path: str) -> bool:
    """Return whether a file stands for one that macOS has not downloaded yet."""
    return bool(_IN_ICLOUD.fullmatch(PurePosixPath(path).name))


def why_not_read(name: str, folder: Path) -> str:
    """Return why a file, or a link to a folder ("name/"), is not read, in words that several files can share.

    Args:
        name: its path below the folder.
        folder: the capture's.
    """
    own = PurePosixPath(name)
    suffix = own.suffix[1:].upper()
    if name.count("/") > DEEPEST:
        return f"more than {DEEPEST} folders deep"
    if name.endswith("/"):
        return "link to a folder, which is not followed: copy the folder, or give it alone"
    if is_in_icloud(name):
        return "still in iCloud: download it in Finder first"
    if _INCOMPLETE.fullmatch(suffix):
        return "unfinished download or copy"
    if _ARCHIVES.fullmatch(suffix):
        return f"{suffix} archive: unpack it first"
    if _DUAL_FISHEYE.fullmatch(suffix):
        return f"{suffix}, {DUAL_FISHEYE}"
    if _SMALL_VIDEOS.fullmatch(suffix):
        return f"{suffix}, a video's smaller copy: use the video itself"
    if _OTHER_PHOTOS.fullmatch(suffix):
        return f"{suffix}, a format that is not read: export it as JPEG"
    if not name.endswith(_BACKUP) and _PICTURES.match(_beginning(folder, name, 12)):
        return "photo whose name has no known ending: rename it to end in .jpg, .png or .heic, as it is"
    return OTHER


def _beginning(folder: Path, name: str, number: int) -> bytes:
    folder = folder.resolve()
    try:
        with open_plain(find_plain(folder / name, folder)) as stream:
            return stream.read(number)
    except (InvalidInput, OSError):
        return b""


def find_poses(paths: Collection[str], folder: Path) -> list[str]:
    """Return the files with the camera poses that a folder has: transforms.json, or COLMAP's cameras and images.

    Polycam's cameras, Record3D's metadata, Metashape's XML, OpenDroneMap's shots and what RealityCapture exports count,
    too. The ones nearest to the top are taken.

    Args:
        paths: of all files, photos as well.
        folder: the capture's.
    """
    there, found = {path for path in paths if _may_hold_poses(path, folder)}, []
    folders = {parent for path in paths for parent in PurePosixPath(path).parents}
    polycams: dict[PurePosixPath, list[str]] = defaultdict(list)
    sidecars: list[str] = []
    for path in there:
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


def _may_hold_poses(name: str, folder: Path) -> bool:
    """Return whether a file is no table or XMP file without poses."""
    mark = _REALITY_CAPTURE.get(PurePosixPath(name).suffix.lower())
    return mark is None or mark in _beginning(folder, name, _BEGINNING)


def poses_to_keep(source: Path, names: Collection[str]) -> dict[str, Path]:
    """Return the files with the poses that are to be kept.

    Raises:
        InvalidInput: there are none, or they may not be read.
    """
    if not names:
        raise InvalidInput(
            f"{source} has no poses to keep. Put nerfstudio's transforms.json or a COLMAP model (cameras and images, "
            "both .bin or both .txt) beside the photos, or give the folder that Polycam (keyframes/), Record3D, "
            "Metashape (cameras.xml), RealityCapture (.csv or .xmp) or OpenDroneMap (opensfm/reconstruction.json) "
            "wrote; or leave out prepare.poses keep."
        )
    folder, files = source.resolve(), {}
    for name in names:
        try:
            files[name] = find_plain(folder / name, folder)
        except InvalidInput as error:
            raise InvalidInput(f"{source}: the poses cannot be read: {name}: {error}.") from None
    return files
