"""Local files of a transfer: pieces, checksums, and the journal of an interrupted download."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blocks.azure.errors import StorageError
from blocks.azure.listing import Blob
from blocks.reading import changed, reading
from jobs.errors import InvalidInput

__all__ = [
    "BLOCK",
    "Piece",
    "base64",
    "file_below",
    "journal",
    "md5_of",
    "md5s",
    "part_of",
    "read_journal",
]

BLOCK = 1 << 18
"""Bytes of a request that are in memory during a transfer."""

_LONGEST_NAME = 255  # bytes of a file's name, on the usual file systems


def md5s(files: Mapping[str, Path]) -> dict[str, bytes]:
    """Return the MD5 of each file of a capture, read in parallel.

    Raises:
        InvalidInput: a file is gone, or is a link now.
    """

    def md5(file: Path) -> bytes:
        with reading(file) as stream:
            return hashlib.file_digest(stream, "md5").digest()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(files, pool.map(md5, files.values()), strict=True))


@dataclass(frozen=True)
class Piece:
    """The bytes of one request, from a place in a file. They are read twice, in blocks: for the MD5 and to send."""

    file: Path
    start: int
    size: int

    def md5(self) -> bytes:
        digest = hashlib.md5()
        for block in self._blocks():
            digest.update(block)
        return digest.digest()

    def send(self, put: Callable[[Iterable[bytes], int, bytes], None], md5: bytes) -> None:
        try:
            put(self._blocks(), self.size, md5)
        except StorageError as error:
            if error.status_code == 400 and self.md5() != md5:
                raise changed(self.file) from None
            raise

    def _blocks(self) -> Iterator[bytes]:
        left = self.size
        with reading(self.file) as stream:  # buffered: it reads on if a slow disk returns less at once
            stream.seek(self.start)
            while left:
                block = stream.read(min(BLOCK, left))
                if not block:
                    raise changed(self.file)
                yield block
                left -= len(block)


def base64(content: bytes) -> str:
    return b64encode(content).decode()


def file_below(folder: Path, path: str) -> Path:
    """Return the file for a blob. It is never outside the folder, whatever the blob's name."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or PurePosixPath(path).is_absolute():
        raise InvalidInput(f"a blob is named {path!r}, which is not a path below a folder. Rename or delete it.")
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
        raise InvalidInput(
            f"a blob is named {path!r}, and files here have names of at most {_LONGEST_NAME} bytes. Rename it."
        )
    return folder.joinpath(*parts)


def part_of(target: Path) -> Path:
    """Return the unfinished file of a download. A name that would become too long is replaced by its checksum."""
    name = os.fsencode(target.name)
    short = target.name if len(name) + len("..part") <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()
    return target.with_name(f".{short}.part")


def journal(part: Path) -> Path:
    return part.with_suffix(".done")


def read_journal(part: Path, blob: Blob) -> set[int]:
    """Return the pieces of this blob that an interrupted download has already written."""
    if not part.exists() or part.stat().st_size != blob.size:
        return set()
    try:
        lines = [line.rpartition(" ") for line in journal(part).read_text().splitlines(keepends=True)]
    except FileNotFoundError:
        return set()
    return {int(index) for etag, _, index in lines if etag == blob.etag and index.endswith("\n")}


def md5_of(file: Path) -> bytes:
    """Return the MD5 of a file that this program wrote."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").digest()
