from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from jobs import media
from jobs.errors import InvalidInput
from jobs.pictures import photo, raw
from tests.colours import COLOURS, WHITE, display_p3, hlg, icc_profile, light, pq
from tests.pictures import apple_note, difference, picture, raw_photo, video


@pytest.mark.parametrize("suffix", ["jpg", "jfif", "mpo", "png", "tif", "webp", "heic", "avif", "bmp"])
def test_photos_of_every_format_are_read(tmp_path: Path, suffix: str) -> None:
    photo.pillow()
    picture().save(tmp_path / f"a.{suffix}", quality=95)
    found = photo.read(tmp_path / f"a.{suffix}")
    assert found.image.mode == "RGB"
    assert difference(found.image, picture()) < 4
    assert found.verbatim == (suffix in ("jpg", "jfif", "mpo"))


def test_a_raw_photo_is_developed(tmp_path: Path) -> None:
    file = raw_photo(tmp_path / "a.dng", picture(256, 192))
    with file.open("rb") as stream:
        header = photo.read_header(stream, file.suffix)
    assert (header.width, header.height) == (256, 192)
    found = photo.read(file)
    assert (found.image.mode, found.model, found.verbatim) == ("RGB", "Camera", False)
    inner = (8, 8, 248, 184)  # a mosaic has no neighbours at its edges
    assert difference(found.image.crop(inner), picture(256, 192).crop(inner)) < 12


def test_a_raw_photo_of_a_grey_camera_is_developed(tmp_path: Path) -> None:
    grey = picture(256, 192).convert("L").convert("RGB")
    found = photo.read(raw_photo(tmp_path / "a.dng", grey, grey=True)).image
    assert found.mode == "RGB" and difference(found, grey) < 12


def test_whatever_a_decoder_of_raw_photos_raises_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> Image.Image:
        raise TypeError("a decoder's own")

    file = raw_photo(tmp_path / "a.dng", picture())
    monkeypatch.setattr(raw, "develop", fail)
    with pytest.raises(InvalidInput, match="damaged: a decoder's own"):
        photo.read(file)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"II*\x00\x08\x00\x00\x00"])
def test_a_file_that_is_no_raw_photo_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dng").write_bytes(content)
    with (tmp_path / "a.dng").open("rb") as stream, pytest.raises(InvalidInput, match="raw" if content else "empty"):
        photo.read_header(stream, ".dng")


def test_a_picture_that_is_named_as_a_raw_photo_is_refused_in_words(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.dng")
    with pytest.raises(InvalidInput, match="export it as JPEG: [A-Z][A-Za-z ]+$"):
        photo.read(tmp_path / "a.dng")


@pytest.mark.parametrize("suffix", ["jpg", "heic"])
def test_orientation_is_applied_once(tmp_path: Path, suffix: str) -> None:
    photo.pillow()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was held upright: turn by 90 degrees clockwise to show
    image = picture()
    image.info["exif"] = exif.tobytes()  # as such, and not as an argument, it makes a HEIC turn by its own property
    given: dict[str, Any] = {"exif": exif} if suffix == "jpg" else {}
    image.save(tmp_path / f"a.{suffix}", quality=95, **given)
    found = photo.read(tmp_path / f"a.{suffix}")
    assert not found.verbatim
    assert found.image.size == (48, 64)
    assert difference(found.image, picture().transpose(Image.Transpose.ROTATE_270)) < 4


@pytest.mark.parametrize("suffix", ["jpg", "heic"])
def test_gravity_belongs_to_the_photo_as_it_is_shown(tmp_path: Path, suffix: str) -> None:
    photo.pillow()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = apple_note(0.1736, -0.9848, 0)
    picture().save(tmp_path / f"a.{suffix}", exif=exif.tobytes())
    tags = photo.read(tmp_path / f"a.{suffix}").tags
    assert (tags.pitch, tags.roll) == pytest.approx((0, 10), abs=0.1)


def test_a_jpeg_of_endless_scans_is_refused(tmp_path: Path) -> None:
    """400 kB can take an hour: each scan goes over the whole picture."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"\xff\xda" * 300  # inside a segment, as a thumbnail is
    picture().save(tmp_path / "a.jpg", progressive=True, exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    assert photo.read(tmp_path / "a.jpg").verbatim
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    (tmp_path / "a.jpg").write_bytes(whole[:end] + whole[last:end] * 200 + whole[end:] + b"\xff\xda" * 300)
    with pytest.raises(InvalidInput, match="hundreds of scans"):
        photo.read(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(whole[:end] + b"\xff\xfe\0\2" * 20_000 + whole[last:])
    with pytest.raises(InvalidInput, match="hundreds of scans"):
        photo.read(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(whole + b"\0\2" + whole[last:end] * 300)
    assert photo.read(tmp_path / "a.jpg").verbatim, "what is behind the picture does not count"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    assert difference(photo.read(tmp_path / f"a.{suffix}").image.convert("L"), (ramp / 257).round()) < 1


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    import cv2

    deep = np.asarray(picture()).astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
        assert difference(photo.read(tmp_path / name).image, picture()) < 1


@pytest.mark.parametrize("peak", [1.0, 255.0, 40.0])
def test_floating_point_samples_are_scaled(tmp_path: Path, peak: float) -> None:
    limit = peak if peak != 40 else 255
    ramp = np.tile(np.linspace(0, peak, 64, dtype=np.float32), (48, 1))
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert difference(photo.read(tmp_path / "a.tif").image.convert("L"), ramp * 255 / limit) < 1


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("L", "png"), ("1", "png"), ("P", "png"), ("CMYK", "jpg")])
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = picture().convert(mode)
    image.save(tmp_path / f"a.{suffix}", quality=95)
    found = photo.read(tmp_path / f"a.{suffix}")
    assert found.image.mode == "RGB" and not found.verbatim
    assert difference(found.image, image.convert("RGB")) < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (32, 0, 64, 48))
    image.convert(mode).save(tmp_path / "a.png")
    result = np.asarray(photo.read(tmp_path / "a.png").image)
    assert (result[:, :32] == 0).all() and (result[:, 32:] == 255).all()


def test_a_truncated_photo_is_reported_with_the_reason(tmp_path: Path) -> None:
    picture(640, 480).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInput, match="truncated"):
        photo.read(tmp_path / "a.jpg")


def test_the_focal_length_and_the_model_come_with_the_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "a camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    picture().save(tmp_path / "a.jpg", exif=exif)
    found = photo.read(tmp_path / "a.jpg")
    assert found.model == "a camera" and found.focal == pytest.approx(26 / 43.267, rel=1e-4)


# masks


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_masked(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 255))
    image.convert(mode).save(tmp_path / "opaque.png")
    assert photo.read(tmp_path / "opaque.png").mask is None
    image.paste((0, 0, 0, 0), (32, 0, 64, 48))
    image.convert(mode).save(tmp_path / "a.png")
    mask = photo.read(tmp_path / "a.png").mask
    assert mask and mask.mode == "L"
    assert (np.asarray(mask)[:, :32] == 255).all() and (np.asarray(mask)[:, 32:] == 0).all()


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("size", [(64, 48), (32, 24)])
def test_a_mask_is_black_and_white_and_of_the_photos_size(tmp_path: Path, white: int, size: tuple[int, int]) -> None:
    mask = Image.new("L", size, white)
    mask.paste(0, (0, 0, size[0] // 2, size[1]))
    mask.save(tmp_path / "a.png")
    found = np.asarray(photo.read_mask(tmp_path / "a.png", photo.Photo(picture())))
    assert found.shape == (48, 64)
    assert (found[:, :32] == 0).all() and (found[:, 32:] == 255).all()


def test_a_mask_of_the_stored_photo_is_turned_with_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture().save(tmp_path / "a.jpg", exif=exif)
    mask = Image.new("L", (64, 48), 255)
    mask.paste(0, (0, 0, 20, 48))
    mask.save(tmp_path / "stored.png")
    mask.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    upright = photo.read(tmp_path / "a.jpg")
    stored, shown = (np.asarray(photo.read_mask(tmp_path / f"{n}.png", upright)) for n in ("stored", "upright"))
    assert stored.shape == (64, 48) and (stored == shown).all()
    assert (stored[:20] == 0).all() and (stored[20:] == 255).all()


def test_a_mask_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(InvalidInput, match=r"a\.png .*64 x 64.* 64 x 48"):
        photo.read_mask(tmp_path / "a.png", photo.Photo(picture()))
    with pytest.raises(InvalidInput, match=r"b\.png "):
        photo.read_mask(tmp_path / "b.png", photo.Photo(picture()))


def test_motion_blur_and_darkness_are_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (60, 80), dtype=np.uint8)
    sharp = Image.fromarray(coarse).resize((640, 480), Image.Resampling.NEAREST)
    values = np.asarray(sharp, float)
    moved = Image.fromarray(np.mean([np.roll(values, step, 1) for step in range(7)], axis=0).astype(np.uint8))
    dark = sharp.point([value // 12 for value in range(256)])
    (light, sharpness), (same, less), (little, kept) = (
        photo.light_and_sharpness(each, None) for each in (sharp, moved, dark)
    )
    assert light == pytest.approx(np.mean(values)) and same == pytest.approx(light, abs=1)
    assert less < 0.5 * sharpness
    assert little == pytest.approx(light / 12, abs=1) and kept == pytest.approx(sharpness, rel=0.1)
    half = Image.new("L", (640, 480), 255)
    half.paste(0, (0, 0, 320, 480))
    mixed = sharp.copy()
    mixed.paste(0, (0, 0, 320, 480))
    masked, _ = photo.light_and_sharpness(mixed, half)
    assert masked == pytest.approx(values[:, 320:].mean()), "what is masked does not count"


# colours


def stripes(signal: NDArray[Any]) -> NDArray[Any]:
    """Return a picture with a stripe of each colour, from the left: (h, w, 3)."""
    return np.repeat(np.tile(signal, (192, 1, 1)), 32, axis=1)


def shown(file: Path) -> NDArray[np.int_]:
    return np.asarray(photo.read(file).image).astype(int)[96, 16::32]


@pytest.mark.parametrize("suffix", ["jpg", "png", "heic"])
def test_the_colours_of_a_profile_are_converted(tmp_path: Path, suffix: str) -> None:
    """Phones write Display P3."""
    photo.pillow()
    file, colours = tmp_path / f"a.{suffix}", display_p3(COLOURS)
    assert np.abs(colours - COLOURS).max() > 10
    Image.fromarray(stripes(colours)).save(file, quality=98, icc_profile=icc_profile(p3=True))
    assert np.abs(shown(file) - COLOURS).max() <= 3
    assert not photo.read(file).verbatim and "icc_profile" not in photo.read(file).image.info


@pytest.mark.parametrize("profile", [icc_profile(p3=False), b"damaged" * 100])
def test_a_profile_that_changes_nothing_costs_no_second_encoding(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(stripes(COLOURS.astype(np.uint8))).save(tmp_path / "a.jpg", quality=98, icc_profile=profile)
    assert photo.read(tmp_path / "a.jpg").verbatim
    assert np.abs(shown(tmp_path / "a.jpg") - COLOURS).max() <= 3


def hdr_photo(file: Path, transfer: int) -> Path:
    """Write a HEIC of 10 bits with white at 203 cd/m², PQ (16) or HLG (18), as cameras do."""
    signal = stripes((hlg if transfer == 18 else pq)(WHITE * light(COLOURS)))
    pixels = np.rint(np.clip(signal, 0, 1) * 65535).astype(np.uint16)
    made = pillow_heif.from_bytes("RGB;16", pixels.shape[1::-1], pixels.tobytes())
    tags = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9}
    made.save(file, format="HEIF", quality=98, full_range_flag=1, **tags)
    return file


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_an_hdr_photo_has_white_where_white_was(tmp_path: Path, transfer: int) -> None:
    assert np.abs(shown(hdr_photo(tmp_path / "a.HIF", transfer)) - COLOURS).max() <= 4


# what phones put into a file beside the photo


def test_a_photo_with_a_gain_map_or_a_video_is_one_photo(tmp_path: Path) -> None:
    """Ultra HDR has a gain map as a second picture, a motion photo has an MP4 behind the JPEG."""
    main, other = picture(160, 120), picture(80, 60, seed=1)
    main.save(tmp_path / "gain.mpo", quality=95, save_all=True, append_images=[other.convert("L")])
    (tmp_path / "gain.mpo").rename(tmp_path / "gain.jpg")
    main.save(tmp_path / "motion.jpg", quality=95)
    motion = video(tmp_path / "motion.mp4", [other] * 3).read_bytes()
    (tmp_path / "motion.mp4").unlink()
    with (tmp_path / "motion.jpg").open("ab") as stream:
        stream.write(motion)
    heic = pillow_heif.from_pillow(main)
    heic.add_from_pillow(other)
    heic.save(tmp_path / "two.heic", primary_index=0, quality=95)
    with (tmp_path / "two.heic").open("ab") as stream:  # Samsung's motion photo
        stream.write((8 + len(motion)).to_bytes(4, "big") + b"mpvd" + motion)
    found = media.scan(tmp_path, minimum=3)
    assert found.line() == "3 photos used; nothing is left out."
    for file in found.photos.values():
        assert difference(photo.read(file).image, main) < 4


LONG = "more than 3 times as long as wide"
STITCHED = "a panorama that the camera stitched, which no lens can have seen"


def _gpano(projection: str) -> bytes:
    return f'<x:xmpmeta><rdf GPano:ProjectionType="{projection}"/></x:xmpmeta>'.encode()


@pytest.mark.parametrize(
    ("size", "projection", "rendered", "reason"),
    [
        ((640, 160), "", 0, LONG),
        ((160, 640), "", 0, LONG),  # a phone that was turned up a tower
        ((240, 160), "cylindrical", 0, STITCHED),
        ((240, 160), "equirectangular", 0, STITCHED),  # a part of the sphere
        ((240, 160), "", 6, STITCHED),  # Apple's
        ((320, 160), "equirectangular", 0, ""),
        ((436, 160), "", 0, ""),  # the widest film
        ((240, 160), "", 8, ""),  # Apple's portraits
    ],
)
def test_stitched_panoramas_are_left_out(
    tmp_path: Path, size: tuple[int, int], projection: str, rendered: int, reason: str
) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.CustomRendered] = rendered
    picture(*size).save(tmp_path / "a.jpg", exif=exif, xmp=_gpano(projection) if projection else b"")
    picture(seed=1).save(tmp_path / "b.jpg")
    found = media.scan(tmp_path, minimum=1)
    assert list(found.photos) == (["b.jpg"] if reason else ["a.jpg", "b.jpg"])
    assert found.line().endswith(f"left out: a.jpg ({reason})." if reason else "nothing is left out.")
