"""Dolby Vision's configuration record, which PyAV does not show."""

from __future__ import annotations

import re
from typing import BinaryIO

from jobs.pictures import boxes

__all__ = ["has_own_colours"]

_RECORD = re.compile(rb"dv[cvw]C(?:\x41\xed.)?\x01.(..)(.)", re.DOTALL)
"""The record in MP4 and MOV, or in Matroska, where the element 41 ED has it: version, profile, level, compatibility."""


def has_own_colours(stream: BinaryIO) -> bool:
    """Return whether only Dolby's decoders can show a video: profile 5, and profile 10 without a compatible layer.

    The base layer of other profiles is HDR10, HLG or SDR, and its tags say which.
    """
    found = _RECORD.search(boxes.header(stream))
    if not found:
        return False
    profile, compatible_with = found[1][0] >> 1, found[2][0] >> 4
    return profile == 5 or (profile == 10 and compatible_with == 0)
