"""Scans of a JPEG file. Each costs the time to go over the whole picture, but as little as ten bytes."""

from __future__ import annotations

import re
from typing import BinaryIO

__all__ = ["has_endless_scans"]

_MOST_SCANS = 200  # progressive JPEG has usually ten
_MOST_SEGMENTS = 10_000  # a colour profile or XMP of 100 MB has 1,500
_BLOCK = 65_536  # bytes that are read at once
_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # without markers that have no length, and stuffed zeros


def has_endless_scans(stream: BinaryIO) -> bool:
    """Return whether the first picture of a JPEG file has more scans, or segments, than any encoder writes.

    Those of its thumbnail, which is inside a segment, and of what is behind the picture do not count.
    """
    scans, segments, at = 0, 0, 2
    while scans <= _MOST_SCANS and segments <= _MOST_SEGMENTS:
        stream.seek(at)
        block = stream.read(_BLOCK)
        found = _MARKER.search(block)
        if found is None:
            if len(block) < _BLOCK:
                return False
            at += _BLOCK - 1  # the last byte can be the first of a marker
            continue
        if block[found.end() - 1] == _END:
            return False
        at += found.end()
        stream.seek(at)
        at += int.from_bytes(stream.read(2), "big")
        scans += block[found.end() - 1] == _START_OF_SCAN
        segments += 1
    return True
