"""Files of a local workspace: written durably, and checked for damage."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.marks import Marks
from blocks.records import Asset, AssetKind
from jobs.errors import InvalidInput
from jobs.program import typed
from jobs.validation import first_complaint

__all__ = [
    "Manifest",
    "copy",
    "damage",
    "files_below",
    "link_or_copy",
    "numbered",
    "read_manifest",
    "replace_durably",
    "sync",
    "sync_folder",
    "write_durably",
    "write_marks",
    "writing",
]

_IF_FULL = "If the disk is full, free some space or choose another root (REBEL_NERF_HOME)."
"""What to do about a file that could not be written."""

_MARKS = "marks.json"
_EMPTY = hashlib.sha256().hexdigest()
_BLOCK = 1 << 20  # bytes
_SYNCS_AT_ONCE = 16  # a journaling file system commits simultaneous syncs together


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder, in the order of their paths."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink())


def write_durably(file: Path, text: str) -> None:
    """Write a text file, and make its folder if it is missing. The content survives a power loss."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def replace_durably(file: Path, text: str) -> None:
    """Write a text file as `write_durably` does, in one step: others read the old content or the new."""
    part = file.with_name(f".{uuid.uuid4().hex}.part")
    try:
        write_durably(part, text)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def sync(folder: Path) -> None:
    """Flush a folder and everything below it to the disk, so that it survives a power loss."""
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir() or path.is_file())]
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        list(pool.map(sync_folder, places))


def sync_folder(path: Path) -> None:
    """Flush one folder's list of names, or one file, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Say in one sentence what could not be written in this context, why, and what to do.

    Args:
        what: a path, or words.

    Raises:
        InvalidInput: something could not be written.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror
        if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of all files, each with its reason
            why = error.args[0][0][2]
        raise InvalidInput(f"{what} could not be written ({why or error}). {_IF_FULL}") from error


def copy(source: BinaryIO, target: Path) -> None:
    """Copy an open file with its times.

    Raises:
        InvalidInput: it could not be copied; says why.
    """
    try:
        with target.open("wb") as stream:
            shutil.copyfileobj(source, stream, _BLOCK)
        times = os.fstat(source.fileno())
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    except OSError as error:
        raise InvalidInput(
            f"{target.name} could not be copied to {target.parent} ({error.strerror}). {_IF_FULL}"
        ) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as stream:
            copy(stream, target)


class Manifest(NamedTuple):
    """What an `asset.json` says.

    Args:
        asset: the asset.
        checksums: SHA-256 by path.
        sizes: bytes by path, for `damage`; -1 for a file of unknown size that is not empty.
    """

    asset: Asset
    checksums: Mapping[str, str]
    sizes: Mapping[str, int]


class _Content(BaseModel):
    """The content of an `asset.json`; further members are those of `Asset`."""

    model_config = ConfigDict(extra="allow")

    kind: str
    created: datetime
    checksums: dict[str, str]
    sizes: dict[str, int] = {}


def read_manifest(file: Path) -> Manifest | None:
    """Read an `asset.json`. Return None for an asset of a kind that a later version of this program has added.

    Other members that a later version has added are ignored.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        InvalidInput: it cannot be read at the moment; names it.
        ValueError: it is damaged; says how.
    """
    try:
        # pydantic's own parser refuses names of files that are not UTF-8
        content = _Content.model_validate(json.loads(file.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except ValidationError as error:
        raise ValueError(first_complaint(error)) from None
    except RecursionError as error:
        raise ValueError(str(error)) from None
    except IsADirectoryError:
        raise ValueError("it is a folder") from None
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read ({error.strerror}). If its disk is damaged, "
            f"`{typed('doctor --assets --repair')}` sets the asset aside."
        ) from error
    if content.kind not in get_args(AssetKind):
        return None
    members = {**(content.model_extra or {}), "kind": content.kind, "created": content.created}
    known = {name: value for name, value in members.items() if name in Asset.model_fields}
    try:
        asset = Asset(**known | {"uri": str(file.parent), "marks": _read_marks(file.parent)})
    except ValidationError as error:
        raise ValueError(first_complaint(error)) from None
    sizes = content.sizes or {path: 0 if sum_ == _EMPTY else -1 for path, sum_ in content.checksums.items()}
    return Manifest(asset, content.checksums, sizes)


def write_marks(folder: Path, marks: Marks) -> None:
    """Keep marks in `marks.json`, beside the files of the asset, which stay as they are."""
    with writing(folder / _MARKS):
        replace_durably(folder / _MARKS, marks.model_dump_json(indent=2))


def _read_marks(folder: Path) -> Marks:
    """Read an asset's marks. A file that a person has damaged counts as none: the asset itself is intact."""
    try:
        return Marks.model_validate_json((folder / _MARKS).read_bytes())
    except (OSError, ValueError):
        return Marks()


def damage(folder: Path, sizes: Mapping[str, int]) -> str:
    """Return what is wrong with an asset's files, judged by their sizes; "" if nothing is.

    Args:
        folder: the asset's folder.
        sizes: bytes by path; -1 for a file of unknown size that is not empty.
    """
    for path, size in sizes.items():
        try:
            found = (folder / path).stat().st_size
        except OSError:
            return f"{path} is missing"
        if size < 0 and found == 0:
            return f"{path} is empty"
        if 0 <= size != found:
            return f"{path} has {found} bytes instead of {size}"
    return ""


def numbered(assets: list[Asset]) -> list[Asset]:
    """Give the lowest free numbers to models that earlier versions of this program registered without a number."""
    taken = {asset.number for asset in assets}
    free = (number for number in itertools.count(1) if number not in taken)
    return [
        asset.model_copy(update={"number": next(free)}) if asset.kind == "model" and asset.number is None else asset
        for asset in assets
    ]
