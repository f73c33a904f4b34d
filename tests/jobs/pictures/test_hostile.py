from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import InvalidInput
from jobs.pictures import film, photo
from tests.pictures import picture, raw_photo, video

VALUES = (0, 1, 0x7F, 0x80, 0xFF)
WORDS = (b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\0\1\0\0")


def written(file: Path) -> bytes:
    """Return a small photo or video of the kind that the name says."""
    photo.pillow()
    if file.suffix == ".dng":
        raw_photo(file, picture())
    elif file.suffix in (".mp4", ".mov", ".mkv", ".avi"):
        video(file, [picture(seed=seed) for seed in range(3)])
    else:
        picture().save(file)
    return file.read_bytes()


def damaged(whole: bytes, chance: np.random.Generator) -> bytes:
    """Return a file with a few bytes changed, removed or repeated, mostly near its beginning, as fuzzers do it."""
    content = bytearray(whole)
    reach = min(int(chance.choice([60, 300, len(whole)])), len(whole))
    for _ in range(chance.choice([1, 2, 8])):
        at, kind = int(chance.integers(reach)), chance.integers(5)
        length = int(chance.integers(1, 40))
        if kind < 2:
            content[at : at + 1] = bytes([chance.choice(VALUES)])
        elif kind == 2:
            content[at : at + 4] = WORDS[chance.integers(len(WORDS))]
        elif kind == 3:
            del content[at : at + length]
        else:
            content[at:at] = content[at : at + length]
    return bytes(content)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "heic", "avif", "bmp", "dng", "mp4", "mkv", "avi"])
def test_damaged_files_are_read_or_refused_in_words(tmp_path: Path, suffix: str) -> None:
    """Any other error would end the run, and a crash of a library the process."""
    file = tmp_path / f"a.{suffix}"
    whole, chance = written(file), np.random.default_rng(7)
    read = 0
    for _ in range(60):
        file.write_bytes(damaged(whole, chance))
        with suppress(InvalidInput):
            if suffix in ("mp4", "mkv", "avi"):
                with file.open("rb") as stream:
                    film.read_header(stream)
                times = film.frame_times(file)
                list(film.sharpest_frames(file, times, 2))
            else:
                photo.read(file)
            read += 1
    assert read < 60, "some are refused"
