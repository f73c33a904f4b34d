from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.errors import InvalidInput
from jobs.pictures import film, panorama, photo
from tests.panorama import XMP, directions
from tests.pictures import picture, video


def test_each_view_shows_what_is_in_its_direction() -> None:
    """The colour of each pixel is its direction; a view must have those of a 90° camera, turned."""
    views = panorama.cut(Image.fromarray((127.5 * directions(512) + 128).astype(np.uint8)))
    assert len(views) == len(panorama.ROTATIONS) == len(panorama.TAGS)
    for view, rotation in zip(views, panorama.ROTATIONS, strict=True):
        assert view.size == (162, 162)
        middle = (np.arange(162) + 0.5) / 81 - 1
        x, y = np.meshgrid(middle, middle)
        rays = np.stack([x, y, np.ones_like(x)], axis=-1)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        shown = (np.asarray(view, float) - 127.5) / 127.5
        assert np.abs(shown - rays @ np.array(rotation).T).max() < 0.03
        assert np.linalg.det(rotation) == pytest.approx(1)


def test_how_the_views_are_held() -> None:
    for rotation, tags in zip(panorama.ROTATIONS, panorama.TAGS, strict=True):
        assert np.array(rotation) @ tags.up() == pytest.approx([0, -1, 0], abs=1e-9)


def test_a_mask_stays_black_and_white() -> None:
    mask = Image.fromarray(np.where(directions(512)[..., 0] > 0.3, 255, 0).astype(np.uint8))
    views = panorama.cut(mask)
    assert all(set(np.unique(np.asarray(view))) <= {0, 255} for view in views)
    assert np.asarray(views[1]).mean() > 200 > 5 > np.asarray(views[3]).mean()


def test_only_what_joins_at_its_sides_is_taken_for_a_panorama() -> None:
    rng = np.random.default_rng(0)
    texture = sum(np.sin(k * directions(512) @ rng.normal(size=3) + k) for k in range(2, 9))
    whole = Image.fromarray((30 * texture + 128).clip(0, 255).astype(np.uint8))
    assert panorama.wraps(whole)
    assert not panorama.wraps(whole.crop((0, 0, 510, 255)).resize((512, 256)))
    assert not panorama.wraps(whole.resize((640, 256)))
    assert not any(panorama.wraps(picture(512, 256, seed)) for seed in range(5))


def _circles(width: int, height: int, beside: int = 0) -> Image.Image:
    """Return two circles of a texture side by side, with a grey value beside them."""
    x, y = np.meshgrid(np.arange(width) % (width // 2) + 0.5 - width / 4, np.arange(height) + 0.5 - height / 2)
    texture = np.asarray(picture(width, height))
    inside = np.hypot(x, y)[..., None] < min(height, width / 2) / 2
    return Image.fromarray(np.where(inside, texture, beside).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(512, 256), (480, 270), (2048, 1024)])
def test_two_fisheyes_side_by_side_are_refused_in_words(width: int, height: int, tmp_path: Path) -> None:
    """They are black at their sides, as the sides of an equirectangular picture would join."""
    _circles(width, height).save(tmp_path / "360.jpg")
    with pytest.raises(InvalidInput, match="dual fisheye: export it as equirectangular"):
        photo.read(tmp_path / "360.jpg")
    file = video(tmp_path / "VID.mp4", [_circles(width, height)] * 3)
    with file.open("rb") as stream, pytest.raises(InvalidInput, match="dual fisheye: export it as equirectangular"):
        film.read_header(stream)


def test_dark_and_bright_pictures_are_no_fisheyes() -> None:
    assert not panorama.is_dual_fisheye(_circles(512, 256, beside=90))
    assert not panorama.is_dual_fisheye(_circles(512, 384))
    assert not panorama.is_dual_fisheye(Image.new("RGB", (512, 256)))
    assert not any(panorama.is_dual_fisheye(picture(512, 256, seed)) for seed in range(5))


@pytest.mark.parametrize(("shown", "whole"), [(1000, True), (400, False)])
def test_a_part_of_a_sphere_is_a_stitched_panorama(shown: int, whole: bool, tmp_path: Path) -> None:
    xmp = XMP.replace(
        b'GPano:ProjectionType="equirectangular"',
        b'GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="1000" '
        b'GPano:CroppedAreaImageWidthPixels="%d"' % shown,
    )
    picture(512, 256).save(tmp_path / "PANO.jpg", xmp=xmp)
    if whole:
        assert photo.read(tmp_path / "PANO.jpg").panorama
        return
    with (tmp_path / "PANO.jpg").open("rb") as stream, pytest.raises(InvalidInput, match="that the camera stitched"):
        photo.read_header(stream, ".jpg")
