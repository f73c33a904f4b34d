"""Dolby Vision's configuration record, which PyAV does not show."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

__all__ = ["has_own_colours"]

_RECORD = re.compile(rb"dv[cvw]C(?:\x41\xed.)?\x01.(..)(.)", re.DOTALL)
"""The record in MP4 and MOV, or in Matroska, where the element 41 ED has it: version, profile, level, compatibility."""

_BOXES = 1000  # of a file, in which the header is sought
_HEADER_BYTES = 50_000_000  # of a header, in which the record is sought


def has_own_colours(stream: BinaryIO) -> bool:
    """Return whether only Dolby's decoders can show a video: profile 5, and profile 10 without a compatible layer.

    The base layer of other profiles is HDR10, HLG or SDR, and its tags say which.
    """
    found = _RECORD.search(_header(stream))
    stream.seek(0)
    if not found:
        return False
    profile, compatible_with = found[1][0] >> 1, found[2][0] >> 4
    return profile == 5 or (profile == 10 and compatible_with == 0)


def _header(stream: BinaryIO) -> bytes:
    """Return the box `moov` of an MP4 or MOV (ISO 14496-12); the beginning of another file."""
    beginning = stream.read(64_000)
    at, end = 0, stream.seek(0, os.SEEK_END)
    for _ in range(_BOXES):
        if at >= end:  # a damaged size can be more than a file may have
            break
        stream.seek(at)
        head = stream.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:  # a longer one follows
            size = int.from_bytes(head[8:], "big")
        if kind == b"moov":
            stream.seek(at)
            return stream.read(min(size, _HEADER_BYTES))
        if size < 8 or len(head) < 8:
            break
        at += size
    return beginning
