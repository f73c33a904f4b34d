"""What is in the same place of all photos, such as a logo, is masked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from jobs.facade import cameras, photograph
from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.pictures.reading import Picture, upright
from jobs.prepare import prepare
from jobs.sfm.overlays import find_overlays
from jobs.sfm.reconstruction import begin
from jobs.sfm.search import Search
from jobs.sfm.views import View
from tests.made_once import scene
from tests.true_poses import compare_poses

LOGO, BONNET = (330, 10, 460, 80), (0, 210, 480, 270)
"""Where they are: left, top, right and bottom in px."""


def with_logo(street: Path, folder: Path, count: int = 14, box: tuple[int, int, int, int] = LOGO) -> Path:
    """Write the street's photos with a logo of much texture; the first `count` have it."""
    folder.mkdir()
    size = box[2] - box[0], box[3] - box[1]
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 2, size[0] // 2, 3), dtype=np.uint8)
    logo = Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)
    for number, photo in enumerate(sorted((street / "photos").iterdir())):
        with Image.open(photo) as image:
            if number < count:
                image.paste(logo, box)
            image.save(folder / photo.name, quality=92, exif=image.getexif())
    return folder


@pytest.mark.parametrize("box", [LOGO, pytest.param(BONNET, marks=pytest.mark.slow)], ids=["logo", "bonnet"])
def test_a_logo_is_masked_in_features_and_training_and_said(
    street: Path, tmp_path: Path, box: tuple[int, int, int, int]
) -> None:
    photos, dataset = with_logo(street, tmp_path / "photos", box=box), tmp_path / "dataset"
    prepare(photos, dataset, PrepareOptions(max_features=2000))
    about = json.loads((dataset / "dataset.json").read_text())
    assert (about["registered"], about["masked"]) == (14, 14)
    assert "such as a logo, is the same in all 14 pictures while the camera moves. It is masked" in about["selection"]
    sources = {Path(image["file"]).name: image["source"] for image in about["images"]}
    found = compare_poses(street / "truth.json", dataset / "transforms.json", sources)
    assert found.positions.max() < 0.004 and found.rotations.max() < 0.3, "without masks, 0.046 and 13°"
    frames = json.loads((dataset / "transforms.json").read_text())["frames"]
    for frame in frames:
        mask = np.asarray(Image.open(dataset / frame["mask_path"]))
        hidden = mask[box[1] + 3 : box[3] - 3, box[0] + 3 : box[2] - 3] == 0
        assert hidden.mean() > 0.98 and (mask == 0).sum() < 1.5 * hidden.size
    model = pycolmap.Reconstruction(dataset / "colmap/sparse/0")
    for image in model.images.values():
        at = np.array([point.xy for point in image.points2D])
        assert not ((at > box[:2]) & (at < box[2:])).all(axis=1).mean() > 0.01


def matched(folder: Path, work: Path) -> tuple[Search, list[View]]:
    """Return a search with features and matches of the photos of a folder, and its pictures."""
    grey = work / "grey"
    grey.mkdir(parents=True)
    views = []
    for file in sorted(folder.iterdir()):
        with Image.open(file) as image:
            image.convert("L").save(grey / f"{file.stem}.pgm")
            views.append(View(f"{file.stem}.pgm", *image.size, "camera"))
    search = Search(grey, views, work, PrepareOptions(max_features=1000), Timer())
    begin(search, sequence=False)
    return search, views


def test_ordinary_photos_have_no_overlay(street: Path, tmp_path: Path) -> None:
    assert matched(street / "photos", tmp_path)[0].overlays == {}


def test_photos_from_one_spot_have_no_overlay(street: Path, tmp_path: Path) -> None:
    """A tripod: all is in the same place, except for noise and what passes by."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    files = sorted((street / "photos").iterdir())
    with Image.open(files[0]) as still, Image.open(files[7]) as other:
        car = other.crop((100, 60, 260, 200))
        for number in range(10):
            picture = still.convert("RGB")
            picture.paste(car, (32 * number, 120))
            noisy = np.asarray(picture, float) + rng.normal(0, 3, (270, 480, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    assert matched(tmp_path / "photos", tmp_path / "work")[0].overlays == {}


@pytest.mark.slow
def test_cameras_that_look_at_one_point_have_no_overlay(tmp_path: Path) -> None:
    """The point is in the same place of all photos; around it, things hardly move."""
    views = cameras(12, 480, 270)
    target = np.array([0.0, 0.0, 3.0])
    looking = [type(v).looking_at(v.center, target, v.focal, v.width, v.height, 0.0) for v in views]
    photograph(scene(), looking, tmp_path)
    assert matched(tmp_path / "photos", tmp_path / "work")[0].overlays == {}


def test_only_the_photos_with_a_logo_are_masked(street: Path, tmp_path: Path) -> None:
    search, views = matched(with_logo(street, tmp_path / "photos", count=9), tmp_path / "work")
    assert set(search.overlays) == {view.name for view in views[:9]}
    with pycolmap.Database.open(search.database) as database:
        assert find_overlays(database, views) == {}, "the features were found again"


def test_regions_of_turned_pictures_are_turned_upright() -> None:
    picture = Picture("a.jpg", "a.jpg", (270, 480), (960, 540), "", None, turns=1)
    left, top, right, bottom = upright((900, 0, 960, 100), picture)
    assert (left, top, right, bottom) == (220, 450, 270, 480)
