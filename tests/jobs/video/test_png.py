from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.video.png import png_writer


def test_all_files_are_complete_when_the_writer_ends(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 90, 160, 3), np.uint8)
    with png_writer(tmp_path / "frames") as save:
        for number, picture in enumerate(pictures):
            save(f"{number:05d}.png", picture)
    for number, picture in enumerate(pictures):
        with Image.open(tmp_path / "frames" / f"{number:05d}.png") as found:
            assert np.array_equal(np.asarray(found), picture)


@pytest.mark.parametrize("number", [1, 12], ids=["the last file", "an earlier file"])
def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path, number: int) -> None:
    def write() -> None:
        with png_writer(tmp_path / "frames") as save:
            (tmp_path / "frames" / "00000.png").mkdir()
            for each in range(number):
                save(f"{each:05d}.png", np.zeros((8, 8, 3), np.uint8))

    with pytest.raises(IsADirectoryError):
        write()
