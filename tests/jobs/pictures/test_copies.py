"""Copies of photos that only their pixels show, such as a messenger's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from jobs import media
from jobs.geometry import Floats
from jobs.pictures import photo

SMALL = (320, 180)


def originals(street: Path, folder: Path, number: int = 14) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(file, folder)) for file in sorted((street / "photos").iterdir())[:number]]


def shrink(
    file: Path, target: Path, size: tuple[int, int] = SMALL, quality: int = 60, exif: Image.Exif | bytes = b""
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as image:
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(target, quality=quality, exif=exif)


def taken(time: str) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = time
    return exif


def test_a_messengers_copies_are_left_out_and_said(street: Path, tmp_path: Path) -> None:
    for number, file in enumerate(originals(street, tmp_path)):
        shrink(file, tmp_path / "WhatsApp" / "Sent" / f"IMG-20261130-WA{number:04}.jpg")
    found = media.scan(tmp_path)
    assert sorted(found.photos) == [f"facade_{number:03}.jpg" for number in range(1, 15)]
    assert found.line() == "14 photos used; left out: 14 smaller copies."
    assert not set(found.left_out) & set(found.files), "a capture does not keep what is left out"


def test_copies_without_an_original_are_used(street: Path, tmp_path: Path) -> None:
    files = originals(street, tmp_path)
    for number, file in enumerate(files):
        shrink(file, tmp_path / f"IMG-WA{number:04}.jpg")
        if number % 2:
            file.unlink()
    found = media.scan(tmp_path)
    assert set(found.left_out) == {f"IMG-WA{number:04}.jpg" for number in range(0, 14, 2)}
    assert len(found.photos) == 14


def test_copies_of_copies_and_of_photos_held_upright_are_found(street: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number, file in enumerate(originals(street, tmp_path, 5)):
        with Image.open(file) as image:
            stored = image.convert("RGB")
        stored.save(file, quality=92, exif=exif)
        stored.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
        shrink(tmp_path / "upright.png", tmp_path / f"a{number}.jpg", (180, 320))
        shrink(tmp_path / "upright.png", tmp_path / f"b{number}.webp", (203, 360))
        (tmp_path / "upright.png").unlink()
    found = media.scan(tmp_path)
    assert len(found.photos) == 5 and set(found.left_out.values()) == {"smaller copy"}


def test_photos_of_one_size_are_never_copies_unless_one_lost_its_time(street: Path, tmp_path: Path) -> None:
    file = originals(street, tmp_path, 1)[0]
    for number in range(4):  # a burst of a tripod
        shrink(
            file, tmp_path / f"burst{number}.jpg", (480, 270), 80 + number, exif=taken(f"2026:11:30 10:00:0{number}")
        )
    file.unlink()
    assert len(media.scan(tmp_path).photos) == 4
    shrink(tmp_path / "burst0.jpg", tmp_path / "sent.jpg", (480, 270), 50)
    found = media.scan(tmp_path)
    assert found.left_out == {"sent.jpg": "duplicate"} and len(found.photos) == 4


def test_photos_that_differ_only_in_their_tags_are_duplicates(street: Path, tmp_path: Path) -> None:
    files = originals(street, tmp_path, 6)
    content, comment = files[2].read_bytes(), b"a title"
    tagged = content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]
    (tmp_path / "titled.jpg").write_bytes(tagged)
    found = media.scan(tmp_path)
    assert found.left_out == {"titled.jpg": "duplicate"} and len(found.photos) == 6
    for number, file in enumerate(files):  # as cameras fill their files
        file.write_bytes(file.read_bytes() + (b"\0" * 4000 if number % 2 else b"padded" * 1000))
    assert len(media.scan(tmp_path).photos) == 7, "they end in the same bytes, but show other things"


def test_smaller_photos_of_another_time_are_used(street: Path, tmp_path: Path) -> None:
    file = originals(street, tmp_path, 1)[0]
    shrink(file, tmp_path / "large.jpg", (480, 270), exif=taken("2026:11:30 10:00:00"))
    for number in (1, 2):
        shrink(file, tmp_path / f"small{number}.jpg", quality=60 + number, exif=taken(f"2026:11:30 10:00:0{number}"))
    file.unlink()
    assert len(media.scan(tmp_path).photos) == 3


def test_smaller_photos_of_a_dense_walk_are_used(street: Path, tmp_path: Path) -> None:
    """Neighbours differ by little: the camera moves 1 % of the picture's width."""
    with Image.open(originals(street, tmp_path, 1)[0]) as image:
        whole = image.convert("RGB")
    (tmp_path / "facade_001.jpg").unlink()
    for number in range(20):
        frame = whole.crop((5 * number, 0, 5 * number + 320, 180))
        frame.save(tmp_path / f"{number:02}.jpg", quality=95)
        if number % 2:
            shrink(tmp_path / f"{number:02}.jpg", tmp_path / f"{number:02}.jpg", (240, 135))
    found = media.scan(tmp_path)
    assert len(found.photos) == 20, found.line()


def test_photos_are_decoded_only_if_they_may_be_copies(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    look = photo.look

    def counted(file: Path, side: int) -> Floats | None:
        decoded.append(file.name)
        return look(file, side)

    monkeypatch.setattr(photo, "look", counted)
    files = originals(street, tmp_path)
    media.scan(tmp_path)
    shrink(files[0], tmp_path / "square.jpg", (200, 200))
    media.scan(tmp_path)
    assert decoded == []
    shrink(files[0], tmp_path / "small.jpg")
    assert set(media.scan(tmp_path).left_out) == {"small.jpg"} and len(decoded) == 15
