"""Parse the pages of a listing of blobs."""

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
"""Bytes of one request. Most photos are smaller."""

_CHECKED_PIECE = 4 << 20  # the largest range of which the service returns the MD5:
# https://learn.microsoft.com/rest/api/storageservices/get-blob


@dataclass(frozen=True)
class Blob:
    """A blob, by its name below the prefix that was listed; `md5` is None if the uploader did not send it."""

    path: str
    size: int
    md5: bytes | None
    etag: str
    age: float
    """Seconds since it was last written, by the clock of the store."""
    committed: bool = True
    """False if only blocks have been uploaded: the upload is running, or was given up."""

    @property
    def piece(self) -> int:
        """Return the bytes of one request of a download. They may be more if the whole blob has an MD5 to check."""
        return PIECE if self.md5 else _CHECKED_PIECE

    @property
    def pieces(self) -> int:
        """Return how many requests a download takes."""
        return -(-self.size // self.piece)


def next_marker(page: bytes) -> str:
    """Return where the next page begins; "" after the last. The rest of the page is not parsed for that."""
    _, start, rest = page.rpartition(b"<NextMarker>")
    text, end, _ = rest.partition(b"</NextMarker>")
    return ElementTree.fromstring(start + text + end).text or "" if start else ""


def blobs_of_page(page: bytes, prefix: str, now: datetime) -> Iterator[Blob]:
    """Return the blobs of a page. Listings have a hundred thousand blobs, so each one takes few steps."""
    end = now.timestamp()
    for found in ElementTree.fromstring(page).iterfind("Blobs/Blob"):
        parts = {part.tag: part for part in found}
        metadata = parts.get("Metadata")
        if metadata is not None and metadata.findtext("hdi_isfolder") == "true":  # the placeholder of a mounted folder
            continue
        name, properties = parts["Name"], {part.tag: part.text or "" for part in parts["Properties"]}
        path = name.text or ""
        if name.get("Encoded") == "true":  # the name has characters that XML does not allow
            path = unquote(path)
        md5, modified = properties.get("Content-MD5"), properties.get("Last-Modified")
        yield Blob(
            path[len(prefix) :],
            int(properties.get("Content-Length") or 0),
            b64decode(md5) if md5 else None,
            properties.get("Etag", ""),
            end - _seconds(modified) if modified else 0.0,
            "Content-Type" in properties,  # all committed blobs have a type
        )


def _seconds(date: str) -> int:
    """Return the seconds since 1970 of "Tue, 24 Nov 2026 17:20:11 GMT"."""
    return _midnight(date[:16]) + 3600 * int(date[17:19]) + 60 * int(date[20:22]) + int(date[23:25])


@lru_cache(1024)
def _midnight(day: str) -> int:
    return int(parsedate_to_datetime(f"{day} 00:00:00 GMT").timestamp())
