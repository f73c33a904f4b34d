"""Pages of a listing of blobs, parsed."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import unquote
from xml.etree import ElementTree

__all__ = ["PIECE", "Blob", "blobs_of_page", "next_marker"]

PIECE = 8 << 20
"""Bytes of one request; most photos are less, and travel in one."""

_CHECKED_PIECE = 4 << 20  # the largest range of a blob of which the service tells the MD5:
# https://learn.microsoft.com/rest/api/storageservices/get-blob


@dataclass(frozen=True)
class Blob:
    """A blob, by its name below the prefix that was listed; `md5` is None where storage was never told it."""

    path: str
    size: int
    md5: bytes | None
    etag: str
    age: float
    """Seconds since it was last written, by the store's clock."""
    committed: bool = True
    """False for one of which only blocks have come yet: its upload is under way, or was given up."""

    @property
    def piece(self) -> int:
        """Bytes of one request of a download: more where the whole blob's MD5 makes up for that of ranges."""
        return PIECE if self.md5 else _CHECKED_PIECE

    @property
    def pieces(self) -> int:
        """How many requests that takes."""
        return -(-self.size // self.piece)


def next_marker(page: bytes) -> str:
    """Where the page after this one begins; "" after the last. Found without reading what is before it."""
    _, start, rest = page.rpartition(b"<NextMarker>")
    text, end, _ = rest.partition(b"</NextMarker>")
    return ElementTree.fromstring(start + text + end).text or "" if start else ""


def blobs_of_page(page: bytes, prefix: str, now: datetime) -> Iterator[Blob]:
    """The blobs of a page; what is to be done a hundred thousand times is done in few steps."""
    end = now.timestamp()
    for found in ElementTree.fromstring(page).iterfind("Blobs/Blob"):
        parts = {part.tag: part for part in found}
        metadata = parts.get("Metadata")
        if metadata is not None and metadata.findtext("hdi_isfolder") == "true":  # how mounted folders leave traces
            continue
        name, told = parts["Name"], {part.tag: part.text or "" for part in parts["Properties"]}
        path = name.text or ""
        if name.get("Encoded") == "true":  # it has characters that XML does not take
            path = unquote(path)
        md5, modified = told.get("Content-MD5"), told.get("Last-Modified")
        yield Blob(
            path[len(prefix) :],
            int(told.get("Content-Length") or 0),
            b64decode(md5) if md5 else None,
            told.get("Etag", ""),
            end - _seconds(modified) if modified else 0.0,
            "Content-Type" in told,  # all committed ones have a type
        )


def _seconds(date: str) -> int:
    """Since 1970, of "Tue, 24 Nov 2026 17:20:11 GMT"."""
    return _midnight(date[:16]) + 3600 * int(date[17:19]) + 60 * int(date[20:22]) + int(date[23:25])


@lru_cache(1024)
def _midnight(day: str) -> int:
    return int(parsedate_to_datetime(f"{day} 00:00:00 GMT").timestamp())
