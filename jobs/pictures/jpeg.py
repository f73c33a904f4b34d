"""The number of scans of a JPEG file. Each costs the time to go over the whole picture, but as little as ten bytes."""

from __future__ import annotations

import re

__all__ = ["MOST_SCANS", "count_scans"]

MOST_SCANS = 200
"""More than any encoder writes: progressive JPEG has at most 64 steps of a coefficient, and usually ten scans."""

_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # without markers that have no length, and stuffed zeros


def count_scans(content: bytes) -> int:
    """Return the number of scans of the first picture in a JPEG file; those of its thumbnail do not count."""
    scans, at = 0, 2
    while (found := _MARKER.search(content, at)) and content[found.end() - 1] != _END:
        length = int.from_bytes(content[found.end() : found.end() + 2], "big")
        scans += content[found.end() - 1] == _START_OF_SCAN
        at = found.end() + length
    return scans
