from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from blocks.local_captures import list_dropped
from jobs import media
from jobs.errors import InvalidInput
from jobs.pictures import photo
from tests.pictures import photos, picture, video

# scan


def test_every_kind_is_found_in_any_case_and_any_folder_in_natural_order(tmp_path: Path) -> None:
    names = ["b/IMG_10.JPG", "b/IMG_9.jpeg", "a/x.PNG", "a/deep/y.tif", "z.TIFF", "w.WebP", "v.HEIC"]
    photo.pillow()
    for seed, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed=seed).save(tmp_path / name)
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    found = media.scan(tmp_path)
    assert list(found.photos) == [
        "a/deep/y.tif",
        "a/x.PNG",
        "b/IMG_9.jpeg",
        "b/IMG_10.JPG",
        "v.HEIC",
        "w.WebP",
        "z.TIFF",
    ]
    assert found.files == found.photos
    assert not found.unreadable and not found.duplicates


def test_unreadable_files_are_listed_with_the_reason_and_left_out(tmp_path: Path) -> None:
    photos(tmp_path, 4)
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "img_2.jpg").read_bytes())
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = media.scan(tmp_path)
    assert list(found.photos) == ["copy.jpg", "img_0.jpg", "img_1.jpg", "img_3.jpg"]
    assert found.unreadable == {
        "text.jpg": "not a picture of a known format",
        "empty.png": "empty file",
        "gone.jpg": "a link to nowhere",
    }
    assert found.duplicates == {"img_2.jpg": "copy.jpg"}
    # The capture keeps unusable files, so that the dataset can report them; a broken link cannot be kept.
    assert set(found.files) == {*found.photos, "text.jpg", "empty.png", "img_2.jpg"}


def test_only_regular_files_of_the_folder_are_read(tmp_path: Path) -> None:
    """A link could hand out a private file; a pipe or a device would never come to its end."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        picture(seed=index).save(folder / f"{index}.jpg")
    (tmp_path / "id_rsa").write_text("secret")
    (folder / "key.png").symlink_to(tmp_path / "id_rsa")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "same.jpg").symlink_to("0.jpg")
    os.mkfifo(folder / "pipe.jpg")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    for source in (folder, linked):
        found = media.scan(source)
        assert set(found.photos) == {"0.jpg", "1.jpg", "2.jpg"}
        assert found.duplicates == {"same.jpg": "0.jpg"}
        assert found.unreadable == {
            "key.png": "a link that leads out of the folder; copy the file instead",
            "endless.jpg": "not a regular file",
            "circle.jpg": "a link to nowhere",
            "pipe.jpg": "not a regular file",
        }
        assert found.denied == set(found.unreadable), "none of them becomes part of the capture"
    [dropped] = list_dropped(tmp_path, tmp_path / "checksums.json", "photos")
    assert set(dropped.files) == {"0.jpg", "1.jpg", "2.jpg", "same.jpg"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nowhere", "nowhere does not exist"),
        (lambda folder: folder / "*.jpg", "*.jpg does not exist. Give the folder itself, without *."),
        (lambda folder: (folder / "mill").mkdir() or folder / "mlil", "/mill? Give a folder"),
        (lambda folder: (folder / "mill.mov").touch() or folder / "mil.mov", "/mill.mov? Give a folder"),
        (lambda folder: folder, "holds no photos and no video (it is empty)"),
        (lambda folder: (folder / "a.txt").write_text("x") and folder, "(only a.txt)"),
        (lambda folder: photos(folder, 1), "holds 1 readable photo; at least 8"),
        (lambda folder: photos(folder, 7), "holds 7 readable photos; at least 8"),
        (lambda folder: photos(folder, 1) / "img_0.jpg", "img_0.jpg is a single file, and not a video"),
    ],
)
def test_captures_that_cannot_become_a_dataset(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        media.scan(make(tmp_path), minimum=8)
    assert words in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert any(remedy in str(refused.value) for remedy in ("Give a folder", "Put in photos", "Add photos"))


def test_text_files_named_jpg_are_refused_by_name(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_text(f"text {i}")
    with pytest.raises(InvalidInput, match=r"0\.jpg and 8 more \(not a picture"):
        media.scan(tmp_path, minimum=8)


def test_photos_win_over_videos_beside_them_unless_they_are_too_few(tmp_path: Path) -> None:
    photos(tmp_path, 3)
    video(tmp_path / "live.mov", [picture(seed=i) for i in range(3)])
    found = media.scan(tmp_path, minimum=3)
    assert len(found.photos) == 3 and not found.videos and found.unused == ["live.mov"]
    found = media.scan(tmp_path, minimum=4)
    assert list(found.videos) == ["live.mov"] and not found.photos
    assert set(found.unused) == {"img_0.jpg", "img_1.jpg", "img_2.jpg"}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("content", [b"", b"not a video" * 100])
def test_a_video_without_frames_is_refused(tmp_path: Path, content: bytes, inside: bool) -> None:
    (tmp_path / "walk.mp4").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"walk\.mp4 "):
        media.scan(tmp_path if inside else tmp_path / "walk.mp4")


def test_a_video_of_sound_alone_and_one_cut_off_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InvalidInput, match="sound"):
        media.scan(tmp_path / "sound.mp4")
    whole = video(tmp_path / "cut.mkv", [picture(seed=i) for i in range(5)])
    whole.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(InvalidInput, match=r"cut\.mkv "):
        media.scan(whole)


def test_sixty_megapixels_are_taken_and_a_bomb_is_not(tmp_path: Path) -> None:
    Image.new("L", (9000, 6700), 128).save(tmp_path / "large.png")
    assert media.scan(tmp_path, minimum=1).photos
    found = photo.read(tmp_path / "large.png")
    assert found.image.size == (9000, 6700)
    Image.new("1", (40_000, 30_000)).save(tmp_path / "bomb.png")
    assert media.scan(tmp_path, minimum=1).unreadable == {"bomb.png": "more than 1000 megapixels"}
    with pytest.raises(InvalidInput, match="1000 megapixels"):
        photo.read(tmp_path / "bomb.png")


def test_a_folder_of_a_thousand_levels_is_named_and_hides_nothing(tmp_path: Path) -> None:
    photos(tmp_path / "captures" / "street", 3)
    here = os.open(tmp_path / "captures" / "street", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    try:
        found = media.scan(tmp_path / "captures" / "street")
        assert len(found.photos) == 3 and "more than 40 folders deep" in found.line()
        [dropped] = list_dropped(tmp_path / "captures", tmp_path / "checksums.json", None)
        assert len(dropped.files) == 3
    finally:  # pytest could not remove so deep a folder
        (tmp_path / "captures" / "street" / "/".join("d" * 550)).rename(tmp_path / "rest")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_no_part_of_the_capture(tmp_path: Path) -> None:
    photos(tmp_path, 4)
    (tmp_path / "img_0.jpg").chmod(0)
    found = media.scan(tmp_path)
    assert found.unreadable == {"img_0.jpg": "no permission to read it"}
    assert "img_0.jpg" not in found.files


def test_importing_is_light() -> None:
    code = "import sys, jobs.media; print({'PIL', 'av', 'numpy', 'pillow_heif'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
