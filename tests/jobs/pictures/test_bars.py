"""Black bars of letterboxed photos are masked."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import media
from jobs.options import PrepareOptions
from jobs.pictures import bars, reading
from jobs.sfm import verdict
from tests.pictures import picture, video

WIDE, TALL = (480, 350), (640, 270)


def boxed(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    whole = Image.new("RGB", size)
    whole.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return whole


def read(folder: Path, dataset: Path) -> list[reading.Picture]:
    (dataset / "grey").mkdir(parents=True)
    pictures, unreadable, _ = reading.read(media.scan(folder), dataset, dataset / "grey", PrepareOptions(num_frames=8))
    assert not unreadable
    return pictures


@pytest.mark.parametrize(
    ("size", "words"), [(WIDE, r"4\d px above, 4\d px below"), (TALL, r"8\d px left, 8\d px right")]
)
def test_bars_are_masked_in_features_and_training_and_said(
    street: Path, tmp_path: Path, size: tuple[int, int], words: str
) -> None:
    (tmp_path / "photos").mkdir()
    for photo in (street / "photos").iterdir():
        with Image.open(photo) as image:
            boxed(image, size).save(tmp_path / "photos" / photo.name, quality=75)
    pictures = read(tmp_path / "photos", tmp_path / "dataset")
    assert re.fullmatch(rf"The black bars of 14 pictures \({words}\) are masked\.", verdict.of_bars(pictures))
    assert verdict.of_masks(pictures) == "" and all(each.masked for each in pictures)
    for each in pictures:
        for file in (tmp_path / "dataset/masks" / each.mask, tmp_path / f"dataset/grey/masks/{each.features}.png"):
            mask = np.asarray(Image.open(file))
            inside = np.asarray(boxed(Image.new("RGB", (480, 270), "white"), size).convert("L"))
            assert not mask[inside == 0].any(), "no bar is used"
            assert (mask[inside > 0] > 0).mean() > 0.98, "nearly all of the picture is"


def test_bars_of_a_video_are_masked(tmp_path: Path) -> None:
    frames = [boxed(picture(320, 180, seed), (320, 240)) for seed in range(8)]
    video(tmp_path / "walk.mp4", frames)
    assert all(each.bars[1] and each.masked for each in read(tmp_path / "walk.mp4", tmp_path / "dataset"))


def test_ordinary_photos_have_no_bars(street: Path, tmp_path: Path) -> None:
    pictures = read(street / "photos", tmp_path / "dataset")
    assert not any(any(each.bars) or each.masked for each in pictures)
    assert not (tmp_path / "dataset" / "masks").exists()


def test_a_night_sky_and_a_few_black_edges_are_no_bars() -> None:
    rng = np.random.default_rng(0)
    fading = np.clip(np.linspace(-40, 120, 270), 2, None)[:, None] * rng.uniform(0.6, 1, (270, 480))
    assert bars.measure(Image.fromarray(fading.astype(np.uint8))) == (0, 0, 0, 0)
    assert bars.common([(0, 40, 0, 40)] * 7 + [(0, 0, 0, 0)] * 3, WIDE) == (0, 0, 0, 0)
    assert bars.common([(0, 40, 0, 41)] * 9 + [(0, 90, 0, 41)], WIDE) == (0, 42, 0, 43)
