"""Captures as people have them, from the street's photos: poses are compared with the truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import ExifTags, Image

from jobs.errors import GateRefused
from jobs.facade import street as street_front
from jobs.geometry import fit_similarity
from jobs.options import PrepareOptions
from jobs.prepare import prepare
from tests import doubles, made_once, panorama
from tests.pictures import video
from tests.true_poses import PoseErrors, compare_poses

OPTIONS = PrepareOptions(max_features=1000)
QUICK = PrepareOptions(max_features=1000, feature_image_size=320)


def manifest(dataset: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((dataset / "dataset.json").read_text())
    return content


def errors(street: Path, dataset: Path) -> PoseErrors:
    photos = {Path(image["file"]).name: image["source"] for image in manifest(dataset)["images"]}
    return compare_poses(street / "truth.json", dataset / "transforms.json", photos)


def exif(focal: int | None) -> Image.Exif:
    """Return EXIF with a focal length in mm on 35 mm film; empty EXIF without one."""
    tags = Image.Exif()
    if focal:
        tags[ExifTags.Base.Model] = "a camera"
        tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal
    return tags


def zoomed(image: Image.Image, factor: float) -> Image.Image:
    """Return the photo that a longer lens takes, of the same size."""
    width, height = image.size
    x, y = (width - width / factor) / 2, (height - height / factor) / 2
    return image.resize((width, height), Image.Resampling.LANCZOS, box=(x, y, width - x, height - y))


def test_a_wrong_focal_length_in_exif_is_ignored_and_said(street: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for photo in (street / "photos").iterdir():
        with Image.open(photo) as image:
            image.save(tmp_path / "photos" / photo.name, exif=exif(225), quality=95)
    prepare(tmp_path / "photos", tmp_path / "dataset", QUICK)
    about = manifest(tmp_path / "dataset")
    assert about["registered"] == 14 and about["exif_focal_lengths_ignored"]
    assert "The focal lengths in EXIF were ignored: with them" in about["selection"]
    found = errors(street, tmp_path / "dataset")
    assert found.positions.max() < 0.01 and found.rotations.max() < 1


@pytest.mark.slow
def test_photos_without_exif_are_not_taken_for_another_cameras_of_the_same_size(street: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(sorted((street / "photos").iterdir())):
        with Image.open(photo) as image:
            if number % 2:
                zoomed(image, 1.3).save(tmp_path / "photos" / photo.name, quality=95)
            else:
                image.save(tmp_path / "photos" / photo.name, exif=exif(26), quality=95)
    prepare(tmp_path / "photos", tmp_path / "dataset", OPTIONS)
    found = errors(street, tmp_path / "dataset")
    assert len(found.names) == 14 and found.positions.max() < 0.01
    focals = sorted(
        {frame["fl_x"] for frame in json.loads((tmp_path / "dataset/transforms.json").read_text())["frames"]}
    )
    assert focals == pytest.approx([26 / 36 * 480, 1.3 * 26 / 36 * 480], rel=0.03)


@pytest.mark.slow
def test_photos_without_exif_of_two_lenses_are_told_apart(street: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(sorted((street / "photos").iterdir())):
        with Image.open(photo) as image:
            (zoomed(image, 1.3) if number % 2 else image).save(tmp_path / "photos" / photo.name, quality=95, exif=b"")
    prepare(tmp_path / "photos", tmp_path / "dataset", OPTIONS)
    assert "Photos without a camera in EXIF are of 2 lenses" in manifest(tmp_path / "dataset")["selection"]
    found = errors(street, tmp_path / "dataset")
    assert len(found.names) == 14 and found.positions.max() < 0.01
    frames = json.loads((tmp_path / "dataset/transforms.json").read_text())["frames"]
    focals = sorted({frame["fl_x"] for frame in frames})
    assert focals == pytest.approx([26 / 36 * 480, 1.3 * 26 / 36 * 480], rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("photos", [{5: 12, 6: 7}, {5: 8, 6: 8}], ids=["a larger place", "equal"])
def test_places_that_look_alike_are_told_apart(photos: dict[int, int], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    doubles.photograph(tmp_path / "photos", photos)
    if photos[5] == photos[6]:
        with pytest.raises(GateRefused, match="second place"):
            prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions())
        return
    prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions())
    about = manifest(tmp_path / "dataset")
    assert (
        "7 pictures form a second place that looks like the first, and are not used: 6_00.jpg … 6_06.jpg"
        in (about["selection"])
    )
    assert {image["source"][0] for image in about["images"] if image["registered"]} == {"5"}
    assert about["registered"] == 12


@pytest.fixture(scope="module")
def masked(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of photos of a passer-by with masks of that person. One photo shows nobody."""
    folder = tmp_path_factory.mktemp("masked")
    for name in ("images", "masks"):
        (folder / "photos" / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    coat = Image.fromarray(rng.integers(0, 256, (20, 8, 3), dtype=np.uint8)).resize((80, 200), Image.Resampling.NEAREST)
    for number, photo in enumerate(sorted((street / "photos").iterdir())):
        with Image.open(photo) as image:
            if number:
                mask = Image.new("L", image.size, 255)
                for picture, fill in ((image, coat), (mask, 0)):
                    left = 200 + 3 * number  # always about the middle: the camera seems to follow
                    picture.paste(fill, (left, 60, left + 80, 260))
                mask.save(folder / "photos" / "masks" / f"{photo.name}.png")
            image.save(folder / "photos" / "images" / photo.name, exif=exif(26), quality=95)
    prepare(folder / "photos", folder / "dataset", QUICK)
    return folder / "dataset"


def test_masks_keep_features_off_what_moves(street: Path, masked: Path) -> None:
    assert manifest(masked)["masked"] == 13 and manifest(masked)["registered"] == 14
    found = errors(street, masked)
    assert found.positions.max() < 0.01 and found.rotations.max() < 1
    model, hidden = pycolmap.Reconstruction(masked / "colmap/sparse/0"), 0
    for image in model.images.values():
        mask = np.asarray(Image.open(masked / "masks" / f"{Path(image.name).stem}.png"))
        at = np.array([point.xy for point in image.points2D]).astype(int)
        assert len(at) > 100 and mask[at[:, 1], at[:, 0]].all()
        hidden += int((mask == 0).any())
    assert hidden == 13


def test_nerfstudio_trains_and_evaluates_with_the_masks(masked: Path, tmp_path: Path) -> None:
    from jobs.options import TrainOptions
    from jobs.train import train

    frames = json.loads((masked / "transforms.json").read_text())["frames"]
    assert all((masked / frame["mask_path"]).is_file() for frame in frames)
    options = TrainOptions(max_num_iterations=30, model_size="small", max_image_size=96, rays_per_batch=256)
    train(options, masked, tmp_path / "model", tmp_path / "checkpoints")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["metrics"]["psnr"] > 5


def test_masked_pixels_do_not_count_in_the_figures() -> None:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    from jobs.radiance.evaluation import figures_without_masked, ignore_masked

    torch.manual_seed(0)
    truth = torch.rand(120, 180, 3)
    mask = torch.ones(120, 180, 1, dtype=torch.bool)
    mask[:, :60] = False
    rendered = truth + 0.1 * torch.randn(120, 180, 3)
    seen = rendered[:, 60:].clone()
    rendered[:, :60] = 5
    outputs = {"rgb": rendered}
    kept = ignore_masked(outputs, {"image": truth, "mask": mask})

    def figures(image: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
        pair = [side.permute(2, 0, 1)[None] for side in (image, other)]
        squares = (image - other) ** 2
        return {
            "psnr": -10 * float(torch.log10(squares.mean())),
            "ssim": float(ssim(*pair, data_range=1.0)),
            "lpips": float(squares.mean()),  # a mean of differences, too
        }

    found, expected = figures_without_masked(figures(outputs["rgb"], truth), kept), figures(seen, truth[:, 60:])
    assert kept == pytest.approx(2 / 3)
    assert found["psnr"] == pytest.approx(expected["psnr"], abs=1e-3)
    assert found["lpips"] == pytest.approx(expected["lpips"], rel=1e-3)
    assert found["ssim"] == pytest.approx(expected["ssim"], abs=0.01) and expected["ssim"] < 0.98
    assert ignore_masked(outputs, {"image": truth}) == 1 and figures_without_masked(expected, 1.0) == pytest.approx(
        expected
    )


def test_equirectangular_photos_are_cut_into_views_of_a_rig(tmp_path: Path) -> None:
    number = 8
    centers = np.array([[x, -7 + 0.5 * np.sin(x), 1.7 + 0.2 * np.cos(2 * x)] for x in np.linspace(-3, 3, number)])

    def draw(folder: Path) -> None:
        scene = street_front(320)
        for i, center in enumerate(centers):
            panorama.photograph(scene, center, 768).save(folder / f"{i}.jpg", quality=92, xmp=panorama.XMP)

    photos = made_once.drawn("panoramas", draw, Path(__file__), Path(panorama.__file__))
    prepare(photos, tmp_path / "dataset", OPTIONS)
    about = manifest(tmp_path / "dataset")
    assert (about["found"], about["used"], about["registered"], about["up"]) == (8, 40, 40, "gravity")
    assert about["selection"].endswith("8 equirectangular pictures were cut into 5 views each.")
    frames = json.loads((tmp_path / "dataset" / "transforms.json").read_text())["frames"]
    assert all(frame["fl_x"] == pytest.approx(frame["w"] / 2, rel=1e-6) and frame["k1"] == 0 for frame in frames)
    poses = np.array([frame["transform_matrix"] for frame in frames]).reshape(number, 5, 4, 4)
    assert np.abs(poses[:, :, :3, 3] - poses[:, :1, :3, 3]).max() < 1e-6, "the views of a photo have one centre"
    ahead = poses[:, 0]
    similarity = fit_similarity(ahead[:, :3, 3], centers)
    size = np.linalg.norm(np.ptp(centers, axis=0))
    assert np.linalg.norm(similarity.points(ahead[:, :3, 3]) - centers, axis=1).max() < 0.01 * size
    looks = similarity.rotation @ -ahead[:, :3, 2:3]
    assert np.degrees(np.arccos(np.clip(looks[:, 1, 0], -1, 1))).max() < 0.5, "the middle of each photo looks along +Y"
    assert ahead[:, :3, 1] @ [0, 0, 1] == pytest.approx(np.ones(number), abs=1e-3), "the scene is level"


@pytest.mark.slow
def test_equirectangular_photos_among_others_become_one_dataset(street: Path, tmp_path: Path) -> None:
    shutil.copytree(street / "photos", tmp_path / "photos")
    scene = street_front(480)
    for x in np.linspace(-4, 4, 5):
        center = np.array([x, -8 + 0.5 * np.sin(x), 1.7])
        panorama.photograph(scene, center, 1024).save(tmp_path / "photos" / f"R{x:+.0f}.jpg", xmp=panorama.XMP)
    prepare(tmp_path / "photos", tmp_path / "dataset", OPTIONS)
    about = manifest(tmp_path / "dataset")
    assert (about["used"], about["registered"]) == (14 + 25, 14 + 25)


def test_masks_that_hide_nearly_everything_are_named(street: Path, tmp_path: Path) -> None:
    """White shows a person: the masks mean the opposite of ours."""
    (tmp_path / "masks").mkdir()
    for photo in (street / "photos").iterdir():
        shutil.copy(photo, tmp_path)
        with Image.open(photo) as image:
            mask = Image.new("L", image.size)
        mask.paste(255, (180, 60, 300, 260))
        mask.save(tmp_path / "masks" / f"{photo.stem}.png")
    with pytest.raises(GateRefused, match="The masks of 14 pictures hide 81 % of them.* invert them"):
        prepare(tmp_path, tmp_path.with_name("dataset"), OPTIONS)


@pytest.mark.slow
def test_an_equirectangular_video_becomes_a_dataset(tmp_path: Path) -> None:
    scene, number = street_front(480), 9
    centers = np.array([[x, -7 + 0.5 * np.sin(x), 1.7 + 0.2 * np.cos(2 * x)] for x in np.linspace(-3, 3, number)])
    frames = [panorama.photograph(scene, center, 1024) for center in centers for _ in range(2)]
    video(tmp_path / "walk.mp4", frames)
    prepare(tmp_path / "walk.mp4", tmp_path / "dataset", PrepareOptions(max_features=2000, num_frames=5 * number))
    about = manifest(tmp_path / "dataset")
    assert (about["kind"], about["used"], about["registered"], about["up"]) == ("video", 45, 45, "gravity")
    assert "9 equirectangular pictures were cut into 5 views each." in about["selection"]
    transforms = json.loads((tmp_path / "dataset" / "transforms.json").read_text())["frames"]
    ahead = np.array([frame["transform_matrix"] for frame in transforms]).reshape(number, 5, 4, 4)[:, 0]
    similarity = fit_similarity(ahead[:, :3, 3], centers)
    size = np.linalg.norm(np.ptp(centers, axis=0))
    assert np.linalg.norm(similarity.points(ahead[:, :3, 3]) - centers, axis=1).max() < 0.02 * size
