from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jobs.pictures import panorama
from tests.panorama import directions
from tests.pictures import picture


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
