"""From photos or a video to a dataset."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image
from pydantic_settings import CliApp

from jobs import prepare, report
from jobs.errors import GateRefused
from jobs.manifest import Timer
from jobs.options import PrepareOptions
from jobs.pictures import reading
from jobs.pictures.photo import Photo
from jobs.pictures.photo import read as read_photo
from jobs.sfm import mapping
from jobs.sfm import search as sfm
from jobs.sfm.reconstruction import reconstruct
from jobs.sfm.views import View
from tests.jobs.preparing import read, run
from tests.pictures import size_of
from tests.true_poses import compare_poses


def points(file: Path) -> NDArray[np.void]:
    """Return the vertices of a binary PLY that this project wrote, as a structured array."""
    header, _, body = file.read_bytes().partition(b"end_header\n")
    number = int(header.split(b"element vertex ")[1].split()[0])
    layout = [("xyz", "<f4", 3), ("rgb", "u1", 3)]
    cloud = np.frombuffer(body, dtype=layout)
    assert len(cloud) == number
    return cloud


def sources(dataset: Path) -> dict[str, str]:
    return {image["file"]: image["source"] for image in read(dataset / "dataset.json")["images"]}


@pytest.fixture(scope="module")
def capture(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the street's photos with other files that people have in such folders."""
    folder = tmp_path_factory.mktemp("capture") / "photos"
    shutil.copytree(street / "photos", folder / "walk")
    names = sorted((folder / "walk").iterdir())
    shutil.copyfile(names[0], folder / "again.jpg")
    (folder / "walk" / "truncated.jpg").write_bytes(names[3].read_bytes()[:9000])
    (folder / "text.jpg").write_text("not a picture")
    with Image.open(names[5]) as image:  # the same scene, but not a plain JPEG
        image.save(folder / "walk" / f"{names[5].stem}.png", exif=image.getexif())
    names[5].unlink()
    with Image.open(names[8]) as image:
        image.point(lambda value: 0.06 * value).save(names[8], exif=image.getexif(), quality=95)
    noise = np.random.default_rng(0).integers(0, 256, (270, 480, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "zz_noise.png")
    Image.new("RGB", (480, 270), "grey").save(folder / "zz_wall.png")
    return folder


@pytest.fixture(scope="module")
def dataset(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    status, lines = run(capture, folder, "--max-features", "2000")
    assert status == 0, lines
    return folder, lines


def test_poses_are_within_one_percent_of_the_truth(street: Path, dataset: tuple[Path, list[Any]]) -> None:
    photos = {Path(file).name: f"{Path(source).stem}.jpg" for file, source in sources(dataset[0]).items()}
    photos["frame_00001.jpg"] = "facade_001.jpg"  # again.jpg is the same
    errors = compare_poses(street / "truth.json", dataset[0] / "transforms.json", photos)
    assert len(errors.names) == 14
    assert errors.positions.max() < 0.01
    assert errors.rotations.max() < 0.5


def test_the_manifest_lists_what_became_of_each_file(dataset: tuple[Path, list[Any]]) -> None:
    manifest = read(dataset[0] / "dataset.json")
    counts = ("found", "unreadable", "duplicates", "used", "registered", "matching", "mapper")
    tried = "exhaustive, then exhaustive with fainter features of 3"
    assert [manifest[key] for key in counts] == [19, 2, 1, 16, 14, tried, "incremental"]
    assert manifest["unreadable_files"]["text.jpg"] == "not a picture of a known format"
    assert "truncated" in manifest["unreadable_files"]["walk/truncated.jpg"]
    assert manifest["duplicate_files"] == {"walk/facade_001.jpg": "again.jpg"}
    images = {image["source"]: image for image in manifest["images"]}
    assert [source for source, image in images.items() if not image["registered"]] == ["zz_noise.png", "zz_wall.png"]
    assert "too few matches" in images["zz_noise.png"]["reason"]
    assert "too few features" in images["zz_wall.png"]["reason"]
    assert 0 < manifest["reprojection_error_px"] < 1 and manifest["points"] > 500
    assert set(manifest["seconds"]) == {"scan", "reading", "features", "matching", "mapping", "refinement", "writing"}
    assert manifest["versions"]["pycolmap"]


def test_progress_shows_all_along(dataset: tuple[Path, list[Any]]) -> None:
    lines = dataset[1]
    steps = list(dict.fromkeys(line.stage for line in lines if isinstance(line, report.Progress)))
    assert steps == [f"prepare:{step}" for step in ("reading", "features", "matching", "mapping", "writing")]
    assert isinstance(lines[-1], report.Figures) and lines[-1].result["registered"] == "14/16"


def test_plain_jpegs_are_not_encoded_again(capture: Path, dataset: tuple[Path, list[Any]]) -> None:
    same = {
        source: (dataset[0] / file).read_bytes() == (capture / source).read_bytes()
        for file, source in sources(dataset[0]).items()
    }
    assert same and same == {source: source.endswith(".jpg") for source in same}


def test_only_the_dataset_is_left_behind(dataset: tuple[Path, list[Any]]) -> None:
    expected = {"images", "colmap", "sparse_pc.ply", "transforms.json", "dataset.json"}
    assert {path.name for path in dataset[0].iterdir()} == expected


@pytest.mark.parametrize("own", [False, True], ids=["as we train", "plain ns-train"])
def test_nerfstudio_reads_it_in_the_scene_frame(dataset: tuple[Path, list[Any]], own: bool) -> None:
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    settings: dict[str, Any] = {} if own else {"orientation_method": "none", "center_method": "none"}
    config = NerfstudioDataParserConfig(data=dataset[0], eval_mode="all", auto_scale_poses=own, **settings)
    outputs = config.setup().get_dataparser_outputs("train")
    cameras = outputs.cameras
    assert len(outputs.image_filenames) == 14 and all(file.is_file() for file in outputs.image_filenames)
    assert outputs.dataparser_scale == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(outputs.dataparser_transform, np.eye(4)[:3], atol=1e-5)
    centers = cameras.camera_to_worlds[:, :, 3].numpy()
    assert np.abs(centers).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(centers.mean(axis=0), 0, atol=1e-5)
    up = cameras.camera_to_worlds[:, :, 1].numpy().mean(axis=0)
    np.testing.assert_allclose(up / np.linalg.norm(up), [0, 0, 1], atol=1e-5)


def test_points_fall_on_their_own_colours(dataset: tuple[Path, list[Any]]) -> None:
    transforms, cloud = read(dataset[0] / "transforms.json"), points(dataset[0] / "sparse_pc.ply")
    assert transforms["ply_file_path"] == "sparse_pc.ply"
    right, wrong = [], []
    for frame in transforms["frames"]:
        pose = np.array(frame["transform_matrix"])
        x, y, z = ((cloud["xyz"] - pose[:3, 3]) @ pose[:3, :3]).T
        u = transforms["fl_x"] * x / -z + transforms["cx"]
        v = transforms["fl_y"] * -y / -z + transforms["cy"]
        seen = (z < 0) & (u > 0) & (v > 0) & (u < transforms["w"]) & (v < transforms["h"])
        image = np.asarray(Image.open(dataset[0] / frame["file_path"])).astype(float)
        colours = image[v[seen].astype(int), u[seen].astype(int)]
        right.append(np.abs(colours - cloud["rgb"][seen]).mean(axis=1))
        wrong.append(np.abs(colours[::-1] - cloud["rgb"][seen]).mean(axis=1))
    assert np.median(np.concatenate(right)) < 15
    assert np.median(np.concatenate(right)) < np.median(np.concatenate(wrong)) / 2


def test_colmaps_files_are_in_the_same_frame(dataset: tuple[Path, list[Any]]) -> None:
    from nerfstudio.data.utils.colmap_parsing_utils import qvec2rotmat, read_images_binary, read_points3D_binary

    images = read_images_binary(dataset[0] / "colmap" / "sparse" / "0" / "images.bin")
    frames = read(dataset[0] / "transforms.json")["frames"]
    assert len(images) == len(frames)
    for frame in frames:
        image = images[frame["colmap_im_id"]]
        assert frame["file_path"] == f"images/{image.name}"
        center = -qvec2rotmat(image.qvec).T @ image.tvec
        np.testing.assert_allclose(center, np.array(frame["transform_matrix"])[:3, 3], atol=1e-6)
    cloud = points(dataset[0] / "sparse_pc.ply")
    stored = read_points3D_binary(dataset[0] / "colmap" / "sparse" / "0" / "points3D.bin")
    np.testing.assert_allclose(cloud["xyz"], [stored[i].xyz for i in sorted(stored)], atol=1e-4)


def test_downscaling_shrinks_images_and_intrinsics_alike_and_repeats_exactly(
    capture: Path, dataset: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    (tmp_path / "transforms.json").write_text("from an earlier run")
    status, lines = run(capture, tmp_path, "--max-features", "2000", "--downscale-factor", "2")
    assert status == 0, lines
    whole, half = read(dataset[0] / "transforms.json"), read(tmp_path / "transforms.json")
    assert (half["w"], half["h"]) == (240, 135)
    assert size_of(tmp_path / half["frames"][0]["file_path"]) == (240, 135)
    for key in ("fl_x", "fl_y", "cx", "cy"):
        assert half[key] == pytest.approx(whole[key] / 2)
    for key in ("k1", "k2", "p1", "p2"):
        assert half[key] == whole[key]
    for one, other in zip(half["frames"], whole["frames"], strict=True):
        np.testing.assert_allclose(one["transform_matrix"], other["transform_matrix"], atol=1e-9)
    errors = [read(folder / "dataset.json")["reprojection_error_px"] for folder in (tmp_path, dataset[0])]
    assert errors[0] == pytest.approx(errors[1] / 2, rel=0.01)


def test_photos_of_several_sizes_get_intrinsics_of_their_own(street: Path, tmp_path: Path) -> None:
    photos = sorted((street / "photos").iterdir())
    (tmp_path / "photos").mkdir()
    for i, photo in enumerate(photos):
        with Image.open(photo) as image:
            size = (400, 225) if i % 2 else image.size
            image.resize(size).save(tmp_path / "photos" / photo.name, exif=image.getexif(), quality=95)
    prepare.prepare(tmp_path / "photos", tmp_path / "dataset", PrepareOptions(mapper="global", feature_image_size=320))
    transforms = read(tmp_path / "dataset" / "transforms.json")
    assert "fl_x" not in transforms and len(transforms["frames"]) == 14
    for frame in transforms["frames"]:
        assert size_of(tmp_path / "dataset" / frame["file_path"]) == (frame["w"], frame["h"])
        assert frame["fl_x"] == pytest.approx(26 / 36 * frame["w"], rel=0.05)
    assert read(tmp_path / "dataset" / "dataset.json")["mapper"] == "global"
    photos_of = {Path(file).name: source for file, source in sources(tmp_path / "dataset").items()}
    errors = compare_poses(street / "truth.json", tmp_path / "dataset" / "transforms.json", photos_of)
    assert errors.positions.max() < 0.01


@pytest.mark.parametrize("overlap", [pytest.param(3, marks=pytest.mark.slow), 0])
def test_parts_of_a_capture_are_mapped_at_the_same_time(
    street: Path, overlap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "_PART_IMAGES", 8)
    monkeypatch.setattr(mapping, "_PART_OVERLAP", overlap)  # without it, parts cannot be joined
    options = PrepareOptions(mapper="hierarchical", feature_image_size=320)
    prepare.prepare(street / "photos", tmp_path / "dataset", options)
    about = read(tmp_path / "dataset" / "dataset.json")
    assert (about["mapper"], about["models"]) == ("hierarchical", [14])
    photos = {Path(file).name: source for file, source in sources(tmp_path / "dataset").items()}
    errors = compare_poses(street / "truth.json", tmp_path / "dataset" / "transforms.json", photos)
    assert errors.positions.max() < 0.01


def test_a_video_becomes_a_dataset(street: Path, tmp_path: Path) -> None:
    photos = sorted((street / "photos").iterdir())
    with av.open(str(tmp_path / "walk.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 480, 270, "yuv420p"
        stream.options = {"crf": "12"}
        for photo in photos:
            frame = av.VideoFrame.from_image(Image.open(photo))
            for _ in range(3):
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    options = PrepareOptions(num_frames=14, matching="sequential", feature_image_size=320)
    prepare.prepare(tmp_path / "walk.mp4", tmp_path / "dataset", options)
    manifest = read(tmp_path / "dataset" / "dataset.json")
    assert (manifest["kind"], manifest["used"], manifest["registered"]) == ("video", 14, 14)
    assert manifest["matching"] == "sequential"
    assert manifest["videos"] == [{"file": "walk.mp4", "frames": 42, "seconds": 4.1, "taken": 14}]
    assert manifest["images"][0]["source"].startswith("walk.mp4#t=0.")
    shown = {f"frame_{i:05d}.jpg": photo.name for i, photo in enumerate(photos, 1)}
    errors = compare_poses(street / "truth.json", tmp_path / "dataset" / "transforms.json", shown)
    assert errors.positions.max() < 0.015


def test_large_photos_get_the_pyramid_that_nerfstudio_asks_for(tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    image = Image.new("RGB", (6401, 3001), "red")
    options = PrepareOptions(feature_image_size=800)
    decoded = Photo(image, "", None, verbatim=False)
    picture = reading.write(decoded, "a.png", tmp_path / "images" / "frame_00001.jpg", tmp_path / "grey", options, None)
    sizes = {folder.name: size_of(folder / "frame_00001.jpg") for folder in tmp_path.iterdir() if folder.name != "grey"}
    assert sizes == {"images": (6401, 3001), "images_2": (3200, 1500), "images_4": (1600, 750), "images_8": (800, 375)}
    assert picture.size == (6401, 3001) and picture.feature_size == (800, 375)
    assert size_of(tmp_path / "grey" / "frame_00001.pgm") == (800, 375)


@pytest.mark.parametrize("kind", ["sequential", "retrieval"])
def test_pairs_are_chosen_by_sequence_and_likeness(street: Path, tmp_path: Path, kind: Any) -> None:
    grey = tmp_path / "grey"
    grey.mkdir()
    # A walk to and fro: the second half sees again what the first one saw, in reverse.
    photos = sorted((street / "photos").iterdir())
    order = [*photos, *reversed(photos)]
    for i, photo in enumerate(order):
        Image.open(photo).convert("L").resize((320, 180)).save(grey / f"{i:02d}.pgm")
    views = [View(f"{i:02d}.pgm", 320, 180, "one") for i in range(len(order))]
    search = sfm.Search(grey, views, tmp_path, PrepareOptions(), Timer())
    search.find_features(first_octave=0)
    pairs = {(int(a[:2]), int(b[:2])) for a, b in search.pairs(kind)}
    assert {(i, i + 1) for i in range(27)} <= pairs
    same = {(i, 27 - i) for i in range(14)}
    assert len(same & pairs) >= 10
    assert len(pairs) < 28 * 27 / 2
    assert all(a < b for a, b in pairs)


def test_the_search_widens_where_too_few_pictures_register(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Told to look at the next picture alone, where every third one shows nothing.
    for name, value in {"_EXHAUSTIVE_IMAGES": 5, "_OVERLAP": 1, "_LOOP_NEIGHBOURS": 0}.items():
        monkeypatch.setattr(sfm, name, value)
    pictures = [Image.open(photo).convert("L").resize((320, 180)) for photo in sorted(street.glob("photos/*"))]
    for i in range(2, 20, 3):
        pictures.insert(i, Image.new("L", (320, 180)))
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i:02d}.pgm")
    views = [View(f"{i:02d}.pgm", 320, 180, "one") for i in range(len(pictures))]
    options = PrepareOptions(max_features=1000)
    result = reconstruct(tmp_path, views, tmp_path, options, Timer(), sequence=True)
    assert result.matching[0] == "sequential" and "exhaustive" in result.matching
    assert result.registered == {f"{i:02d}.pgm" for i in range(20) if i % 3 != 2}


def test_turned_photos_are_written_upright_and_no_longer_say_that_they_are_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.jpg", exif=exif)
    target = tmp_path / "images" / "frame_00001.jpg"
    decoded = read_photo(tmp_path / "a.jpg")
    picture = reading.write(decoded, "a.jpg", target, tmp_path, PrepareOptions(), None)
    assert picture.size == size_of(target) == (48, 64)
    with Image.open(target) as written:
        assert ExifTags.Base.Orientation not in written.getexif()


def test_the_gate_counts_share_and_number(street: Path, capture: Path, tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match=r"14 of 16 .*88 %.* 95 %"):
        prepare.prepare(capture, tmp_path, PrepareOptions(min_registered_share=0.95, feature_image_size=320))
    assert read(tmp_path / "dataset.json")["registered"] == 14
    assert not (tmp_path / "transforms.json").exists()


def test_options_survive_the_command_line() -> None:
    options = PrepareOptions(downscale_factor=2, matching="retrieval", min_registered_share=0.4, max_features=1000)
    job = CliApp.run(prepare.Job, cli_args=["--images", "a b", "--dataset", "c", *CliApp.serialize(options)])
    assert (job.images, job.dataset) == (Path("a b"), Path("c"))
    assert PrepareOptions(**job.model_dump(exclude={"images", "dataset", "reference", "left_out"})) == options


def test_the_point_cloud_is_a_ply_that_others_read(dataset: tuple[Path, list[Any]]) -> None:
    import plyfile

    vertices = plyfile.PlyData.read(str(dataset[0] / "sparse_pc.ply"))["vertex"]
    assert [p.name for p in vertices.properties] == ["x", "y", "z", "red", "green", "blue"]
    assert vertices["red"].max() > vertices["red"].min()
    assert struct.unpack("<f", vertices["x"][:1].tobytes())[0] == points(dataset[0] / "sparse_pc.ply")["xyz"][0, 0]
