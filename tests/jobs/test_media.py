from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from blocks.local_captures import list_dropped
from jobs import media
from jobs.errors import InvalidInput


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Smooth colours, so that lossy formats keep them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def photos(folder: Path, number: int, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        picture(seed=i).save(folder / f"img_{i}{suffix}")
    return folder


def difference(image: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(image, dtype=float) - np.asarray(other, dtype=float)).mean())


def video(file: Path, frames: list[Image.Image], fps: int = 10, codec: str = "libx264") -> Path:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return file


def turned(file: Path) -> Path:
    """Write into an MP4's track header that it is shown turned by 90 degrees clockwise, as phones do (ISO 14496-12)."""
    content = bytearray(file.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    fixed = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    file.write_bytes(content)
    return file


# scan


def test_every_kind_is_found_in_any_case_and_any_folder_in_natural_order(tmp_path: Path) -> None:
    names = ["b/IMG_10.JPG", "b/IMG_9.jpeg", "a/x.PNG", "a/deep/y.tif", "z.TIFF", "w.WebP", "v.HEIC"]
    media._pillow()
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


def test_what_cannot_be_read_is_listed_with_the_reason_and_left_out(tmp_path: Path) -> None:
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
    # The capture keeps what came, so that the dataset can tell about it; a link to nowhere cannot be kept.
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
        (lambda folder: folder / "nowhere", "nowhere is not there"),
        (lambda folder: folder, "holds no photos and no video (nothing)"),
        (lambda folder: (folder / "a.txt").write_text("x") and folder, "(only a.txt)"),
        (lambda folder: photos(folder, 1), "holds 1 readable photo; at least 8"),
        (lambda folder: photos(folder, 7), "holds 7 readable photos; at least 8"),
        (lambda folder: photos(folder, 1) / "img_0.jpg", "img_0.jpg is one file and not a video"),
    ],
)
def test_captures_that_cannot_become_a_dataset(tmp_path: Path, make, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        media.scan(make(tmp_path), minimum=8)
    assert words in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert any(remedy in str(refused.value) for remedy in ("Give a folder", "Put in photos", "Add photos"))


def test_text_files_named_jpg_are_refused_by_name(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_text(f"text {i}")
    with pytest.raises(InvalidInput, match=r"0 readable photos.*0\.jpg: not a picture of a known format.*…"):
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
    with pytest.raises(InvalidInput, match=r"walk\.mp4 cannot be used: (empty file|not a video, or damaged)"):
        media.scan(tmp_path if inside else tmp_path / "walk.mp4")


def test_a_video_of_sound_alone_and_one_cut_off_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InvalidInput, match="only sound"):
        media.scan(tmp_path / "sound.mp4")
    whole = video(tmp_path / "cut.mkv", [picture(seed=i) for i in range(5)])
    whole.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(InvalidInput, match=r"cut\.mkv cannot be used"):
        media.scan(whole)


def test_sixty_megapixels_are_taken_and_a_bomb_is_not(tmp_path: Path) -> None:
    Image.new("L", (9000, 6700), 128).save(tmp_path / "large.png")
    assert media.scan(tmp_path, minimum=1).photos
    photo = media.read_photo(tmp_path / "large.png")
    assert photo.image.size == (9000, 6700)
    Image.new("1", (40_000, 30_000)).save(tmp_path / "bomb.png")
    assert media.scan(tmp_path, minimum=1).unreadable == {"bomb.png": "more than 1000 megapixels"}
    with pytest.raises(InvalidInput, match="more than 1000 megapixels"):
        media.read_photo(tmp_path / "bomb.png")


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


# read_photo


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "heic"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    media._pillow()
    picture().save(tmp_path / f"a.{suffix}", quality=95)
    photo = media.read_photo(tmp_path / f"a.{suffix}")
    assert photo.image.mode == "RGB"
    assert difference(photo.image, picture()) < 4
    assert photo.verbatim == (suffix == "jpg")


@pytest.mark.parametrize("suffix", ["jpg", "heic"])
def test_orientation_is_applied_once(tmp_path: Path, suffix: str) -> None:
    media._pillow()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was held upright: turn by 90 degrees clockwise to show
    image = picture()
    image.info["exif"] = exif.tobytes()  # as such, and not as an argument, it makes a HEIC turn by its own property
    image.save(tmp_path / f"a.{suffix}", quality=95, **({"exif": exif} if suffix == "jpg" else {}))
    photo = media.read_photo(tmp_path / f"a.{suffix}")
    assert not photo.verbatim
    assert photo.image.size == (48, 64)
    assert difference(photo.image, picture().transpose(Image.Transpose.ROTATE_270)) < 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    assert difference(media.read_photo(tmp_path / f"a.{suffix}").image.convert("L"), (ramp / 257).round()) < 1


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    import cv2

    deep = np.asarray(picture()).astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
        assert difference(media.read_photo(tmp_path / name).image, picture()) < 1


@pytest.mark.parametrize("peak", [1.0, 255.0, 40.0])
def test_floating_point_samples_are_scaled(tmp_path: Path, peak: float) -> None:
    limit = peak if peak != 40 else 255
    ramp = np.tile(np.linspace(0, peak, 64, dtype=np.float32), (48, 1))
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert difference(media.read_photo(tmp_path / "a.tif").image.convert("L"), ramp * 255 / limit) < 1


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("L", "png"), ("1", "png"), ("P", "png"), ("CMYK", "jpg")])
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = picture().convert(mode)
    image.save(tmp_path / f"a.{suffix}", quality=95)
    photo = media.read_photo(tmp_path / f"a.{suffix}")
    assert photo.image.mode == "RGB" and not photo.verbatim
    assert difference(photo.image, image.convert("RGB")) < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (32, 0, 64, 48))
    image.convert(mode).save(tmp_path / "a.png")
    result = np.asarray(media.read_photo(tmp_path / "a.png").image)
    assert (result[:, :32] == 0).all() and (result[:, 32:] == 255).all()


def test_a_truncated_photo_tells_why(tmp_path: Path) -> None:
    picture(640, 480).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInput, match=r"damaged: .*truncated"):
        media.read_photo(tmp_path / "a.jpg")


def test_focal_length_from_exif(tmp_path: Path) -> None:
    def focal(**values: object) -> float | None:
        exif = Image.Exif()
        for name, value in values.items():
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
        picture().save(tmp_path / "a.jpg", exif=exif)
        return media.read_photo(tmp_path / "a.jpg").focal

    assert focal() is None
    assert focal(FocalLengthIn35mmFilm=26) == pytest.approx(26 / 43.267, rel=1e-4)
    # An APS-C sensor of 22.2 x 14.8 mm.
    sensor = {"ExifImageWidth": 2220, "ExifImageHeight": 1480, "FocalPlaneResolutionUnit": 3}
    resolution = {"FocalPlaneXResolution": 1000.0, "FocalPlaneYResolution": 1000.0}
    assert focal(FocalLength=50.0, **sensor, **resolution) == pytest.approx(50 / np.hypot(22.2, 14.8), rel=1e-4)
    assert focal(FocalLength=50.0) is None


# videos


def test_the_sharpest_frame_of_each_window_is_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1))
    sharp = {3, 9, 12, 18, 27}
    frames = [scene if i in sharp else scene.filter(ImageFilter.GaussianBlur(4)) for i in range(30)]
    file = video(tmp_path / "walk.mp4", frames)
    times = media.frame_times(file)
    assert times == pytest.approx([i / 10 for i in range(30)])
    taken = list(media.sharpest_frames(file, times, 5))
    assert [round(frame.time * 10) for frame in taken] == sorted(sharp)
    assert all(difference(frame.image, scene) < 15 for frame in taken)
    assert len(list(media.sharpest_frames(file, times, 100))) == 30


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx"), ("mov", "mpeg4")]
)
def test_containers(tmp_path: Path, suffix: str, codec: str) -> None:
    file = video(tmp_path / f"a.{suffix}", [picture(seed=i) for i in range(10)], codec=codec)
    assert list(media.scan(file).videos) == [file.name]
    times = media.frame_times(file)
    assert len(times) == 10 and times[-1] == pytest.approx(0.9, abs=0.02)
    assert len(list(media.sharpest_frames(file, times, 5))) == 5


def test_a_videos_rotation_is_applied(tmp_path: Path) -> None:
    file = turned(video(tmp_path / "a.mp4", [picture()] * 3))
    first = next(media.sharpest_frames(file, media.frame_times(file), 1))
    assert first.image.size == (48, 64)
    assert difference(first.image, picture().transpose(Image.Transpose.ROTATE_270)) < 6


def test_damage_in_the_middle_of_a_video_costs_a_few_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for _ in range(40)]
    file = video(tmp_path / "a.mkv", frames)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = bytes(500)
    file.write_bytes(content)
    assert 5 <= len(list(media.sharpest_frames(file, media.frame_times(file), 10))) <= 10
