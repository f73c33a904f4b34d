from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from jobs import media
from jobs.errors import InvalidInput
from jobs.pictures import photo
from tests.pictures import picture, raw_photo, video


def write(folder: Path, *names: str, shrink: int = 1, mode: str = "RGB") -> None:
    """Write a picture to each path; pictures of one name show the same."""
    photo.pillow()
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        number = int("".join(filter(str.isdigit, file.stem.split(".")[0])) or 0)
        picture(64 // shrink, 48 // shrink, number).convert(mode).save(file)


SHOTS = [f"IMG_{i:04}" for i in range(1, 5)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write(tmp_path, *(f"{shot}.jpg" for shot in SHOTS))
    return tmp_path


def kinds(folder: Path) -> dict[str, str]:
    found = media.scan(folder)
    assert len(found.photos) == 4, found.line()
    assert not set(found.left_out) & set(found.files), "a capture does not keep what is left out"
    return found.left_out


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("@eaDir/{}.jpg/SYNOPHOTO_THUMB_XL.jpg", "thumbnail"),
        (".thumbnails/{}.jpg", "thumbnail"),
        (".@__thumb/default{}.jpg", "thumbnail"),
        ("sub/.thumbs/{}.png", "thumbnail"),
        ("__MACOSX/._{}.jpg", "hidden file"),
        (".cache/{}.jpg", "hidden file"),
        ("#recycle/{}.jpg", "deleted file"),
    ],
)
def test_faults_that_a_path_alone_shows(photos: Path, name: str, kind: str) -> None:
    names = [name.format(shot) for shot in SHOTS]
    write(photos, *names, shrink=2)
    assert kinds(photos) == dict.fromkeys(names, kind)
    assert not any(map(media.is_media, names))


@pytest.mark.parametrize(
    ("folder", "shrink", "mode", "kind"),
    [
        ("depth/{}.png", 1, "I;16", "depth map"),
        ("depth_maps/{}.jpg", 1, "RGB", "depth map"),
        ("confidence/{}.png", 2, "L", "confidence map"),
        ("previews/{}.jpg", 2, "RGB", "smaller copy"),
        ("{}_thumb.jpg", 4, "RGB", "smaller copy"),
        ("{}-32x24.jpg", 2, "RGB", "smaller copy"),
        ("undistorted/{}.jpg.tif", 1, "RGB", "edited copy"),
        ("corrected_images/{}.jpg", 1, "RGB", "edited copy"),
        ("{}-edited.jpg", 1, "RGB", "edited copy"),
        ("{}~2.jpg", 1, "RGB", "edited copy"),
        ("{}-bearbeitet.jpg", 1, "RGB", "edited copy"),
        ("{}-modifie\u0301.jpg", 1, "RGB", "edited copy"),  # as macOS writes é
        ("{} (edited).jpg", 1, "RGB", "edited copy"),
        ("{}-Edit.tif", 1, "RGB", "edited copy"),
        ("{}_HDR.jpg", 1, "RGB", "edited copy"),
        ("normals/{}.png", 1, "RGB", "normal map"),
        ("semantics/{}.png", 1, "RGB", "segmentation"),
        ("disparity/{}.png", 1, "L", "depth map"),
        ("{}.depth.png", 1, "I;16", "depth map"),
        ("{}.png", 1, "RGB", "copy in another format"),
        ("{}.HEIC", 1, "RGB", "copy in another format"),
    ],
)
def test_copies_made_from_the_photos_are_recognized(
    photos: Path, folder: str, shrink: int, mode: str, kind: str
) -> None:
    names = [folder.format(shot) for shot in SHOTS]
    write(photos, *names, shrink=shrink, mode="RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        for name in names:
            Image.fromarray(np.full((48, 64), 700, np.uint16)).save(photos / name)
    assert kinds(photos) == dict.fromkeys(names, kind)


@pytest.mark.parametrize(("first", "second"), [("JPG", "HEIC"), ("trip/JPEG files", "trip"), ("a", "b")])
def test_a_shot_in_two_formats_and_folders_is_one_photo(tmp_path: Path, first: str, second: str) -> None:
    times = {first: 0, second: 0}
    _write_shots(tmp_path, times, exif=(first, second) == ("a", "b"))
    found = media.scan(tmp_path)
    assert found.line() == "4 photos used; left out: 4 copies in another format."
    assert all(name.startswith(f"{first}/IMG") for name in found.photos), "a JPEG needs no second encoding"


@pytest.mark.parametrize(("first", "second", "later"), [("JPG", "HEIC", 60), ("a", "b", 60), ("a", "b", None)])
def test_shots_of_one_name_on_two_days_are_two_photos(
    tmp_path: Path, first: str, second: str, later: int | None
) -> None:
    _write_shots(tmp_path, {first: 0, second: later or 0}, exif=later is not None)
    assert media.scan(tmp_path).line() == "8 photos used; nothing is left out."


def _write_shots(folder: Path, times: dict[str, int], *, exif: bool) -> None:
    """Write the shots into two folders, as JPEG and HEIC, with the minute at which each was taken."""
    photo.pillow()
    for (name, minute), suffix in zip(times.items(), ("jpg", "HEIC"), strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, shot in enumerate(SHOTS):
            tags = Image.Exif()
            if exif:
                when = f"2026:11:30 {10 + minute // 60}:{number:02}:07"
                tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = when
            picture(seed=number + 10 * len(suffix)).save(folder / name / f"{shot}.{suffix}", exif=tags)


def test_one_level_of_a_pyramid_is_used(tmp_path: Path) -> None:
    for level in (1, 2, 4, 8):
        folder = f"images_{level}" if level > 1 else "images"
        write(tmp_path, *(f"{folder}/{shot}.jpg" for shot in SHOTS), shrink=level)
    (tmp_path / "transforms.json").write_text("{}")
    assert set(kinds(tmp_path).values()) == {"smaller copy"}
    assert media.scan(tmp_path).line() == (
        "4 photos used; left out: 12 smaller copies, transforms.json (other file), "
        "the poses in transforms.json (the photos are registered again; to take these poses instead: "
        "--prepare.poses keep)."
    )


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["transforms.json", "sparse/0/cameras.bin", "sparse/0/images.bin"], ["transforms.json"]),
        (["sparse/1/cameras.txt", "sparse/1/images.txt", "a/b/c/transforms.json"], ["cameras.txt", "images.txt"]),
        (["keyframes/cameras/1.json", "keyframes/cameras/2.json", "keyframes/images/77.jpg"], ["1.json", "2.json"]),
        (["scan/metadata.json", "scan/rgb/88.jpg"], ["metadata.json"]),
        (["cameras.xml", "a/transforms.json"], ["cameras.xml"]),
        (["sparse/cameras.bin", "sparse/images.txt"], []),
        (["metadata.json", "cameras/1.json", "drawing.xml"], []),
    ],
)
def test_poses_to_keep_are_part_of_a_capture(photos: Path, names: list[str], chosen: list[str]) -> None:
    for name in names:
        if media.is_media(name):
            write(photos, name)
        else:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (photos / name).write_text("{}")
    assert all(media.is_media(name) for name in media.scan(photos).files), "by default, poses are no part of it"
    if not chosen:
        with pytest.raises(InvalidInput, match="has no poses to keep. Put nerfstudio's transforms.json or a COLMAP"):
            media.scan(photos, keep_poses=True)
        return
    found = media.scan(photos, keep_poses=True)
    assert [Path(name).name for name in found.poses] == chosen
    assert found.files.keys() == {*found.photos, *found.poses} and "registered again" not in found.line()


def test_poses_behind_a_link_out_of_the_folder_are_refused(
    photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    private = tmp_path_factory.mktemp("private") / "transforms.json"
    private.write_text("{}")
    (photos / "transforms.json").symlink_to(private)
    with pytest.raises(InvalidInput, match="transforms.json: a link that leads out of the folder"):
        media.scan(photos, keep_poses=True)


def test_an_edited_photo_of_a_phone_is_left_out_beside_its_original(photos: Path) -> None:
    write(photos, "IMG_E0001.jpg")
    (photos / "IMG_E0001.jpg").write_bytes((photos / "IMG_E0001.jpg").read_bytes() + b"\0")  # no duplicate
    assert kinds(photos) == {"IMG_E0001.jpg": "edited copy"}


def test_the_larger_of_two_formats_is_used(tmp_path: Path) -> None:
    write(tmp_path, *(f"{shot}.heic" for shot in SHOTS))
    write(tmp_path, *(f"{shot}.jpg" for shot in SHOTS), shrink=2)
    assert set(kinds(tmp_path)) == {f"{shot}.jpg" for shot in SHOTS}


@pytest.mark.parametrize(
    "names",
    [
        ["walk/{}.jpg", "walk_2/1{}.jpg"],  # another walk
        ["depth_of_the_cave/{}.jpg", "entrance/1{}.jpg"],
        ["masks/{}.jpg"],  # an exhibition of masks
        ["a/{}.jpg", "b/1{}.jpg"],
        ["images_2/{}.jpg"],  # the originals are elsewhere
        ["thumbs/{}.jpg"],
    ],
)
def test_photos_of_their_own_are_used_whatever_their_folder_is_called(tmp_path: Path, names: list[str]) -> None:
    for index, name in enumerate(names):
        write(tmp_path, *(name.format(10 * index + i) for i in range(4)))
    found = media.scan(tmp_path)
    assert len(found.photos) == 4 * len(names) and not found.left_out


def test_a_second_walk_of_equally_large_photos_with_the_same_names_is_used(tmp_path: Path) -> None:
    write(tmp_path, *(f"walk/{shot}.jpg" for shot in SHOTS))
    for number, shot in enumerate(SHOTS):
        (tmp_path / "walk_2").mkdir(exist_ok=True)
        picture(seed=100 + number).save(tmp_path / "walk_2" / f"{shot}.jpg")
    assert len(media.scan(tmp_path).photos) == 8


def test_the_videos_of_live_photos_are_no_video_of_the_place(photos: Path) -> None:
    for shot in SHOTS:
        video(photos / f"{shot}.MOV", [picture()] * 10)
    assert set(kinds(photos).values()) == {"Live Photo video"}
    # They do not replace too few photos, either; a long video does.
    with pytest.raises(InvalidInput, match=r"4 .* 8 .*IMG_0001\.MOV and 3 more \(Live Photo video\)"):
        media.scan(photos, minimum=8)
    video(photos / f"{SHOTS[0]}.mov", [picture()] * 70)
    (photos / f"{SHOTS[0]}.MOV").unlink()
    assert list(media.scan(photos, minimum=8).videos) == [f"{SHOTS[0]}.mov"]


def test_one_line_summarizes_a_capture(photos: Path) -> None:
    write(photos, *(f"@eaDir/{shot}.jpg" for shot in SHOTS), shrink=2)
    video(photos / "walk.mp4", [picture()] * 10)
    for name in ("1.NEF", "2.nef", "3.jxl", "VID.insv", "notes.txt"):
        (photos / name).write_text(name)
    (photos / "text.jpg").write_text("not a picture")
    (photos / "copy.jpg").write_bytes((photos / "IMG_0002.jpg").read_bytes())
    found = media.scan(photos)
    assert found.line() == (
        "4 photos used; left out: text.jpg (not a picture of a known format), IMG_0002.jpg (duplicate), "
        "walk.mp4 (video beside photos; to use a video, give it alone), 4 thumbnails, "
        "2 files (NEF, a format that is not read: export it as JPEG), "
        "3.jxl (JXL, a format that is not read: export it as JPEG), notes.txt (other file), "
        "VID.insv (INSV, dual fisheye: export it as equirectangular with the camera's own program)."
    )
    assert found.found == 11
    # The job reports the files that the capture keeps. The others can only be reported now.
    assert found.tags(found.files)["left_out"].startswith("walk.mp4 (video beside photos")
    assert "IMG_0002" not in found.tags(found.files)["left_out"] and "thumbnails" in found.tags(found.files)["left_out"]
    assert media.Capture(photos=found.photos).line() == "4 photos used; nothing is left out."
    assert media.Capture(photos=found.photos).tags([]) == {}


@pytest.mark.parametrize(
    ("folder", "mode"),
    [
        ("masks/{}.jpg.png", "L"),
        ("masks/{}.png", "RGB"),
        ("masks/{}_mask.png", "L"),
        ("mask/sub/{}.jpg", "L"),
        ("{}_mask.png", "L"),
        ("{}.mask.png", "RGB"),
    ],
)
def test_masks_are_applied_to_their_photos(photos: Path, folder: str, mode: str) -> None:
    write(photos, *(folder.format(shot) for shot in SHOTS), mode=mode)
    found = media.scan(photos)
    assert found.masks == {f"{shot}.jpg": photos / folder.format(shot) for shot in SHOTS}
    assert len(found.photos) == 4 and set(found.files) == {*found.photos, *(folder.format(shot) for shot in SHOTS)}
    assert found.line() == "4 photos used, 4 with a mask; nothing is left out."


def test_a_mask_belongs_to_the_photo_of_its_own_folder(tmp_path: Path) -> None:
    for walk in ("one", "two"):
        write(tmp_path, *(f"{walk}/images/{shot}.jpg" for shot in SHOTS))
        for number, shot in enumerate(SHOTS):
            (tmp_path / walk / "images" / f"{shot}.jpg").write_bytes(
                (tmp_path / walk / "images" / f"{shot}.jpg").read_bytes() + f"{walk}{number}".encode()
            )
    write(tmp_path, f"one/masks/{SHOTS[0]}.png", f"masks/two/{SHOTS[1]}.png", f"masks/{SHOTS[2]}.png", mode="L")
    found = media.scan(tmp_path)
    assert found.masks == {
        f"one/images/{SHOTS[0]}.jpg": tmp_path / "one" / "masks" / f"{SHOTS[0]}.png",
        f"two/images/{SHOTS[1]}.jpg": tmp_path / "masks" / "two" / f"{SHOTS[1]}.png",
    }
    assert found.left_out == {f"masks/{SHOTS[2]}.png": "mask"}, "it could be either photo's"


def test_masks_of_photos_that_are_left_out_are_left_out(photos: Path) -> None:
    write(photos, *(f"masks/{shot}.png" for shot in SHOTS), mode="L")
    (photos / "z.jpg").write_bytes((photos / "IMG_0004.jpg").read_bytes())
    (photos / "IMG_0004.jpg").write_text("damaged")
    found = media.scan(photos)
    assert set(found.masks) == {f"{shot}.jpg" for shot in SHOTS[:3]}
    assert found.left_out == {"masks/IMG_0004.png": "mask"}


def test_a_jpeg_is_used_rather_than_the_raw_photo_of_the_same_shot(photos: Path) -> None:
    for number, shot in enumerate(SHOTS, 1):
        raw_photo(photos / f"{shot}.DNG", picture(68, 50, number))  # a sensor has a few more pixels
    assert kinds(photos) == dict.fromkeys((f"{shot}.DNG" for shot in SHOTS), "copy in another format")
    for shot in SHOTS:
        (photos / f"{shot}.jpg").unlink()
    assert set(media.scan(photos).photos) == {f"{shot}.DNG" for shot in SHOTS}


@pytest.mark.parametrize(
    ("used", "other", "kind"),
    [
        ("{}.RAW-01.COVER.jpg", "{}.RAW-02.ORIGINAL.dng", "copy in another format"),
        ("{}.RAW-01.MP.COVER.jpg", "{}.RAW-02.ORIGINAL.dng", "copy in another format"),
        ("{}.PORTRAIT-02.ORIGINAL.jpg", "{}.PORTRAIT-01.COVER.jpg", "edited copy"),
    ],
)
def test_a_pixel_phones_two_files_of_a_shot_are_one_photo(tmp_path: Path, used: str, other: str, kind: str) -> None:
    shots = [f"PXL_2026113{number}" for number in range(4)]
    for number, shot in enumerate(shots):
        for name in (used, other):
            file = tmp_path / name.format(shot)
            raw_photo(file, picture(seed=number)) if file.suffix == ".dng" else picture(seed=number).save(file)
    found = media.scan(tmp_path)
    assert found.left_out == {other.format(shot): kind for shot in shots}
    assert set(found.photos) == {used.format(shot) for shot in shots}


@pytest.mark.parametrize("name", ["{} (1).jpg", "{}(1).jpg", "{} 2.jpg", "{} copy.jpg", "{}-2.jpg", "{}-01.jpeg"])
@pytest.mark.parametrize(("fraction", "photos"), [("123", 4), ("456", 8), ("", 8)])
def test_a_second_download_of_a_photo_is_left_out(tmp_path: Path, name: str, fraction: str, photos: int) -> None:
    """It was encoded again; another shot of the same second may have such a name, too."""
    for number, shot in enumerate(SHOTS):
        for file, quality, part in ((f"{shot}.jpg", 90, "123" if fraction else ""), (name.format(shot), 80, fraction)):
            exif = Image.Exif()
            details = exif.get_ifd(ExifTags.IFD.Exif)
            details[ExifTags.Base.DateTimeOriginal] = f"2026:11:30 10:0{number}:07"
            if part:
                details[ExifTags.Base.SubsecTimeOriginal] = part
            picture(seed=number).save(tmp_path / file, exif=exif, quality=quality)
    found = media.scan(tmp_path)
    assert len(found.photos) == photos
    assert found.left_out == ({name.format(shot): "duplicate" for shot in SHOTS} if photos == 4 else {})


def test_a_linked_folder_is_named_and_not_followed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere, "IMG_0009.jpg")
    (photos / "more").symlink_to(elsewhere)
    found = media.scan(photos)
    assert len(found.photos) == 4 and not any(name.startswith("more") for name in found.files)
    assert "more/ (link to a folder, which is not followed: copy the folder, or give it alone)" in found.line()
    for shot in SHOTS:
        (photos / f"{shot}.jpg").unlink()
    with pytest.raises(InvalidInput, match=r"Not read: more/ \(link"):
        media.scan(photos)


@pytest.mark.parametrize(("width", "height", "icon"), [(240, 240, True), (300, 200, False)])
def test_icons_among_photos_are_left_out(tmp_path: Path, width: int, height: int, icon: bool) -> None:
    """As of a web page that was saved with its photos. Small photos alone are used."""
    for number, size in enumerate([(3200, 2400)] * 4 + [(width, height)] * 6):
        picture(*size, number).save(tmp_path / f"{number}.jpg")
    found = media.scan(tmp_path)
    assert len(found.photos) == (4 if icon else 10)
    assert found.line().endswith("left out: 6 icons." if icon else "nothing is left out.")
    for number in range(4):
        (tmp_path / f"{number}.jpg").unlink()
    assert len(media.scan(tmp_path).photos) == 6


def test_the_depths_of_an_rgbd_camera_are_no_photos(tmp_path: Path) -> None:
    """Names as of Microsoft's 7-Scenes."""
    write(tmp_path, *(f"frame-{number:06}.color.png" for number in range(4)))
    for number in range(4):
        Image.fromarray(np.full((48, 64), 900 + number, np.uint16)).save(tmp_path / f"frame-{number:06}.depth.png")
    assert set(kinds(tmp_path).values()) == {"depth map"}


def test_the_thermal_photos_of_a_drone_are_left_out_beside_its_others(tmp_path: Path) -> None:
    shots = [f"DJI_20261130100000_{number:04}" for number in range(1, 5)]
    for number, shot in enumerate(shots):
        picture(seed=number).save(tmp_path / f"{shot}_W.JPG")
        picture(40, 32, number).save(tmp_path / f"{shot}_T.JPG")
    assert kinds(tmp_path) == {f"{shot}_T.JPG": "thermal photo" for shot in shots}
    for shot in shots:
        (tmp_path / f"{shot}_W.JPG").unlink()
    assert len(media.scan(tmp_path).photos) == 4, "alone, they are a capture"


def test_the_infrared_bands_of_a_drone_are_left_out(tmp_path: Path) -> None:
    for number in range(8):
        picture(seed=number).save(tmp_path / f"DJI_{10 * number:04}.JPG")
        for band in range(1, 5):
            grey = np.asarray(picture(seed=number).convert("L")).astype(np.uint16) * 200 + band
            Image.fromarray(grey).save(tmp_path / f"DJI_{10 * number + band:04}.TIF")
    assert media.scan(tmp_path).line() == "8 photos used; left out: 32 grey pictures among colour photos."


@pytest.mark.parametrize(("colour", "grey", "used"), [(4, 3, 4), (3, 4, 7), (0, 4, 4)])
def test_black_and_white_photos_are_used_where_most_are(tmp_path: Path, colour: int, grey: int, used: int) -> None:
    write(tmp_path, *(f"{number}.jpg" for number in range(colour)))
    write(tmp_path, *(f"{10 + number}.jpg" for number in range(grey)), mode="L")
    assert len(media.scan(tmp_path).photos) == used


def test_copies_of_a_video_are_left_out(tmp_path: Path) -> None:
    frames = [picture(64, 48, number) for number in range(70)]
    smaller = [frame.resize((32, 24)) for frame in frames]
    video(tmp_path / "walk.mp4", frames)
    video(tmp_path / "walk.avi", frames, codec="mpeg4")
    video(tmp_path / "walk_proxy.mp4", smaller)
    video(tmp_path / "GX010001.mp4", frames[:40])
    video(tmp_path / "GL010001.mp4", smaller[:40])
    video(tmp_path / "walk_2.mp4", frames[10:])
    found = media.scan(tmp_path)
    assert found.left_out == {
        "walk.mp4": "copy in another format",
        "walk_proxy.mp4": "smaller copy",
        "GL010001.mp4": "smaller copy",
    }
    assert set(found.videos) == {"walk.avi", "GX010001.mp4", "walk_2.mp4"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".IMG_0009.HEIC.icloud", "still in iCloud: download it in Finder first"),
        ("IMG_0009.jpg.crdownload", "unfinished download or copy"),
        ("Takeout.zip", "ZIP archive: unpack it first"),
        ("GL010001.LRV", "LRV, a video's smaller copy: use the video itself"),
        ("IMG_0009", "photo whose name has no known ending: rename it to end in .jpg, .png or .heic, as it is"),
        (
            "IMG_0009.jpg_large",
            "photo whose name has no known ending: rename it to end in .jpg, .png or .heic, as it is",
        ),
        ("IMG_0009.jpg_original", "other file"),  # exiftool's backup
    ],
)
def test_files_that_are_not_read_are_named_with_the_remedy(photos: Path, name: str, words: str) -> None:
    (photos / name).write_bytes((photos / "IMG_0001.jpg").read_bytes())
    assert media.scan(photos).line() == f"4 photos used; left out: {name} ({words})."
    with pytest.raises(InvalidInput, match=re.escape(f"{name} ({words})") if words != "other file" else "Add photos"):
        media.scan(photos, minimum=5)
    for shot in SHOTS:
        (photos / f"{shot}.jpg").unlink()
    with pytest.raises(InvalidInput, match=re.escape(f"{name} ({words})") if words != "other file" else "only IMG"):
        media.scan(photos)


def test_an_archive_alone_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(InvalidInput, match="single file, and not a video: ZIP archive: unpack it first"):
        media.scan(tmp_path / "photos.zip")
