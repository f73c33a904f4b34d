"""The boxes of MP4 and MOV (ISO 14496-12) that are read before FFmpeg reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["check_tables", "header", "read_boxes"]

_MOST = 1000  # boxes of a file
_LARGEST = 50_000_000  # bytes that are read of a box
_BEGINNING = 64_000
_TABLE = re.compile(rb"stsz.{4}(.{4})(.{4})|trun.{4}(.{4})", re.DOTALL)
"""What needs no bytes for each sample: a table with one size for all, and a fragment without sizes."""


def read_boxes(stream: BinaryIO, *kinds: bytes) -> Iterator[bytes]:
    """Yield the outermost boxes of some kinds, and leave the stream at its beginning."""
    at, end = 0, stream.seek(0, os.SEEK_END)
    for _ in range(_MOST):
        if at >= end:  # a damaged size can be more than a file may have
            break
        stream.seek(at)
        head = stream.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:  # a longer one follows
            size = int.from_bytes(head[8:], "big")
        if size == 0:  # up to the end
            size = end - at
        if kind in kinds:
            stream.seek(at)
            yield stream.read(min(size, _LARGEST))
        if size < 8 or len(head) < 8:
            break
        at += size
    stream.seek(0)


def header(stream: BinaryIO) -> bytes:
    """Return the box `moov` of an MP4 or MOV; the beginning of another file. The stream is at its beginning then."""
    found = b"".join(read_boxes(stream, b"moov")) or stream.read(_BEGINNING)
    stream.seek(0)
    return found


def check_tables(stream: BinaryIO) -> None:
    """Refuse a video with more samples than bytes: FFmpeg takes 40 bytes of memory for each, up to 4 GB.

    Raises:
        ValueError: it is such a video, or its header is compressed, which hides that.
    """
    whole = stream.seek(0, os.SEEK_END)
    for box in read_boxes(stream, b"moov", b"moof"):
        if b"dcomzlib" in box:
            raise ValueError("its header is compressed")
        for table in _TABLE.finditer(box):
            size, number, of_fragment = (int.from_bytes(part or b"", "big") for part in table.groups())
            if max(size * number, of_fragment) > whole:
                raise ValueError("it has fewer bytes than frames")
