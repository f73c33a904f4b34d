"""Exports of a real nerfacto and a real splatfacto: what is in the files lies where the scene does."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nerfstudio")

import laspy  # noqa: E402
import trimesh  # noqa: E402

from jobs import export, manifest, model, report  # noqa: E402
from jobs.errors import GateRefused, InvalidInput  # noqa: E402
from jobs.geometry import Y_UP  # noqa: E402
from jobs.metric.earth import Local  # noqa: E402
from jobs.metric.scene import Place, Scale, SceneInMetres, Up  # noqa: E402
from jobs.options import ExportOptions, TrainOptions  # noqa: E402
from jobs.path import reading  # noqa: E402
from jobs.splats import surface  # noqa: E402
from jobs.splats.gaussians import Gaussians  # noqa: E402
from jobs.train import train  # noqa: E402
from tests.splats import splatfacto, unpack, write_model  # noqa: E402

SMALL = ExportOptions(points=3000, image_size=48, resolution=32)
METRES = 1.25
TO_EAST = np.array([[0.5, 3**0.5 / 2, 0], [-(3**0.5) / 2, 0.5, 0], [0, 0, 1]])
"""From the scene's axes to east, north and up: the scene's +X has a bearing of 150 degrees."""
HERE = Local(48.137, 11.575, 520.0)


@pytest.fixture(scope="session")
def metres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what `jobs.scale` writes about a scene with units of 1.25 m, a known place and a known north."""
    matrix = np.eye(4)
    matrix[:3, :3] = METRES * TO_EAST
    place = Place(
        crs="WGS 84",
        latitude=HERE.latitude,
        longitude=HERE.longitude,
        height=HERE.height,
        error=(0.5, 0.5, 1.0),
        bearing=150.0,
        bearing_error=0.2,
        to_metres=tuple(tuple(row) for row in matrix.tolist()),
    )
    scene = SceneInMetres(scale=Scale(metres=METRES, error=0.001), up=Up(direction=(0, 0, 1), error=0.3), place=place)
    folder = tmp_path_factory.mktemp("metres")
    (folder / "scene.json").write_text(scene.model_dump_json())
    return folder


@pytest.fixture(scope="module")
def solid_model(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a nerfacto that was trained long enough to have surfaces, which takes ten seconds."""
    folder = tmp_path_factory.mktemp("solid")
    options = TrainOptions(max_num_iterations=150, model_size="small", max_image_size=96, rays_per_batch=512)
    train(options, tiny_dataset, folder / "model", folder / "checkpoints")
    return folder / "model"


@pytest.fixture(scope="module")
def exported(
    solid_model: Path, tiny_dataset: Path, metres: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Run the job. Return the folder that it writes, and its log."""
    folder = tmp_path_factory.mktemp("export")
    places = ["--dataset", tiny_dataset, "--model", solid_model, "--export", folder, "--metres", metres]
    options = ["--points=3000", "--image-size=48", "--resolution=32"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as log:
        patch.setattr(sys, "argv", ["export", *map(str, places), *options])
        export.main()
    return folder, log.getvalue()


@pytest.fixture
def splats(tiny_dataset: Path, tmp_path: Path) -> Path:
    """Return a model folder of a splatfacto that was never trained."""
    return write_model(splatfacto(300), tmp_path / "model", tiny_dataset)


def test_the_folder_and_its_figures(exported: tuple[Path, str]) -> None:
    folder, log = exported
    content = json.loads((folder / "export.json").read_text())
    assert {file.name for file in folder.iterdir()} == {
        *("pointcloud.ply", "mesh.ply", "mesh.glb", "index.html", "export.json", "metres")
    }
    assert {file.name for file in (folder / "metres").iterdir()} == {
        *("pointcloud.ply", "pointcloud.laz", "mesh.glb", "cameras.geojson", "place.json")
    }
    assert len(content["bytes"]) == 9
    for name, size in content["bytes"].items():
        assert (folder / name).stat().st_size == size
        assert manifest.checksum(folder / name) == content["checksums"][name]
    [result] = [each for each in map(report.parse, log.splitlines()) if isinstance(each, report.Figures)]
    assert result.result["points"] == content["points"] == len(trimesh.load(folder / "pointcloud.ply").vertices)
    assert result.result["faces"] == content["faces"] == len(trimesh.load(folder / "mesh.ply").faces)
    assert 1000 < content["points"] <= 3000 and content["faces"] > 100
    told = [each for each in map(report.parse, log.splitlines()) if isinstance(each, report.Progress)]
    assert {each.stage for each in told if each.step == each.total} == {"export:views", "export:mesh"}


def test_points_and_mesh_lie_before_the_cameras_in_the_scene_frame(
    exported: tuple[Path, str], tiny_dataset: Path
) -> None:
    """In metres, as the dataset is: before the cameras at y < -8, and about the houses, whose fronts are at y = 0."""
    folder, _ = exported
    cameras = np.array(
        [f["transform_matrix"] for f in json.loads((tiny_dataset / "transforms.json").read_text())["frames"]]
    )
    for name in ("pointcloud.ply", "mesh.ply"):
        places = np.asarray(trimesh.load(folder / name, process=False).vertices)
        across, ahead, up = np.median(places, axis=0)
        assert abs(across) < 4 and cameras[:, 1, 3].max() < ahead < 8 and -1 < up < 7, name
    cloud = trimesh.load(folder / "pointcloud.ply")
    colours = np.asarray(cloud.colors)[:, :3]
    assert 40 < colours.mean() < 215 and colours.std() > 8, "of one colour"
    mesh = np.asarray(trimesh.load(folder / "mesh.ply", process=False).vertices)
    turned = np.asarray(trimesh.load(folder / "mesh.glb", process=False, force="mesh").vertices)
    assert np.allclose(turned, Y_UP.points(mesh), atol=1e-4), "glTF has +Y up"


def test_points_and_mesh_in_metres(exported: tuple[Path, str]) -> None:
    """Read the files with other programs; the LAZ file says where on the earth its points are."""
    folder, _ = exported
    points = METRES * np.asarray(trimesh.load(folder / "pointcloud.ply").vertices) @ TO_EAST.T
    cloud = trimesh.load(folder / "metres/pointcloud.ply")
    assert np.allclose(cloud.vertices, points, atol=1e-4)
    survey = laspy.read(folder / "metres/pointcloud.laz")
    assert np.allclose(survey.xyz, points, atol=6e-4), "steps of 1 mm"
    colours = np.stack([survey.red, survey.green, survey.blue], axis=1) / 65535 * 255
    assert np.allclose(colours, np.asarray(cloud.colors)[:, :3], atol=0.51)
    [system] = survey.header.vlrs
    assert survey.header.global_encoding.wkt and system.record_id == 2112
    assert '"central_meridian",11.5750000000' in system.string and '"latitude_of_origin",48.1370000000' in system.string
    mesh = METRES * np.asarray(trimesh.load(folder / "mesh.ply", process=False).vertices) @ TO_EAST.T
    turned = np.asarray(trimesh.load(folder / "metres/mesh.glb", process=False, force="mesh").vertices)
    assert np.allclose(turned, mesh[:, [0, 2, 1]] * [1, 1, -1], atol=1e-4)


def test_the_place_of_an_export(exported: tuple[Path, str]) -> None:
    content = json.loads((exported[0] / "metres/place.json").read_text())
    assert (content["axes"], content["crs"]) == (["east", "north", "up"], "EPSG:4979")
    assert content["origin"] == [11.575, 48.137, 520.0] and content["origin_error"] == [0.5, 0.5, 1.0]
    assert content["metres_per_unit"] == METRES and content["scale_error"] == 0.001
    low, high = content["scale_interval"]
    assert low < METRES < high and high - low == pytest.approx(2 * 1.96 * 0.001 * METRES, rel=0.01)
    assert np.allclose(content["rotation"], TO_EAST, atol=1e-9)
    assert (content["up_error"], content["north_error"]) == (0.3, 0.2)


def test_cameras_and_path_are_on_the_map_where_they_were(exported: tuple[Path, str], tiny_dataset: Path) -> None:
    found = json.loads((exported[0] / "metres/cameras.geojson").read_text())
    assert found["type"] == "FeatureCollection" and set(found) == {"type", "features"}
    *cameras, path = found["features"]
    frames = json.loads((tiny_dataset / "transforms.json").read_text())["frames"]
    assert len(cameras) == len(frames)
    for feature, frame in zip(cameras, frames, strict=True):
        pose = np.array(frame["transform_matrix"])
        assert feature["geometry"]["type"] == "Point"
        longitude, latitude, height = feature["geometry"]["coordinates"]
        metres = HERE.from_degrees([[latitude, longitude, height]])[0]
        assert np.allclose(metres, METRES * TO_EAST @ pose[:3, 3], atol=2e-3)
        about = feature["properties"]
        assert about["photo"] == frame["file_path"].rpartition("/")[2]
        bearing, pitch = np.radians([about["bearing"], about["pitch"]])
        looks = [np.sin(bearing) * np.cos(pitch), np.cos(bearing) * np.cos(pitch), np.sin(pitch)]
        assert np.allclose(looks, TO_EAST @ -pose[:3, 2], atol=1e-3)
    assert path["geometry"]["type"] == "LineString" and len(path["geometry"]["coordinates"]) == 100
    along = HERE.from_degrees([[north, east, up] for east, north, up in path["geometry"]["coordinates"]])
    centres = METRES * np.array([frame["transform_matrix"] for frame in frames])[:, :3, 3] @ TO_EAST.T
    assert np.linalg.norm(along[:, None] - centres, axis=2).min(axis=1).max() < 2


def _wall(distance: float) -> surface.Views:
    """Return what 3 cameras see that look along +Y at a wall at y = `distance`, red on the left, green on the right."""
    poses = torch.tensor([[[1.0, 0, 0, x], [0, 0, -1, 0], [0, 1, 0, 0]] for x in (-0.3, 0.0, 0.3)])
    height, width, focal = 60, 80, 80.0
    column, row = torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy")
    along = torch.stack([(column - width / 2) / focal, torch.ones_like(row), -(row - height / 2) / focal], dim=-1)
    depth = distance * along.norm(dim=-1)
    at = poses[:, None, None, :, 3] + distance * along
    red = at[..., 0] < 0
    colours = torch.stack([red, ~red, torch.zeros_like(red)], dim=-1).float()
    depths = torch.where(at[..., 0].abs() < 1, depth, 0)
    return surface.Views(poses, torch.full((3,), focal), colours, depths)


def test_a_wall_becomes_points_on_it() -> None:
    found = surface.sample(_wall(2.0), 2000)
    assert 1900 < len(found.points) <= 2000
    assert np.abs(found.points[:, 1] - 2).max() < 1e-5
    assert np.abs(found.points[:, 0]).max() < 1 and np.ptp(found.points[:, 0]) > 1.8
    assert np.array_equal(found.colours[:, 0] > 0.5, found.points[:, 0] < 0)


def test_floating_parts_are_left_out() -> None:
    views = _wall(2.0)
    views.depths[1, 20, 40], views.depths[2, 40, 20] = 0.4, 0.7
    found = surface.sample(views, 20_000)
    assert np.abs(found.points[:, 1] - 2).max() < 1e-5 and len(found.points) > 0.95 * int((views.depths > 0).sum())


def test_a_wall_becomes_a_mesh_of_it_alone() -> None:
    """The mesh has no shells where known space borders on unknown space, and its faces look at the cameras."""
    low, high = np.array([-1.2, 1.5, -0.6], np.float32), np.array([1.2, 2.5, 0.6], np.float32)
    found = surface.fuse(_wall(2.0), low, high, 60)
    mesh = trimesh.Trimesh(found.vertices, found.faces, process=False)
    assert np.abs(found.vertices[:, 1] - 2).max() < 0.02, "half a voxel"
    assert mesh.area == pytest.approx(2 * 1.2, rel=0.1)
    assert (mesh.face_normals[:, 1] < -0.9).mean() > 0.99
    clear = np.abs(found.vertices[:, 0]) > 0.05
    assert np.array_equal(found.colours[clear, 0] > 0.5, found.vertices[clear, 0] < 0)


def test_a_piece_that_floats_is_left_out_of_the_mesh() -> None:
    views = _wall(2.0)
    views.depths[:, 28:30, 38:40] = 1.0
    low, high = np.array([-1.2, 0.5, -0.6], np.float32), np.array([1.2, 2.5, 0.6], np.float32)
    found = surface.fuse(views, low, high, 60)
    assert found.vertices[:, 1].min() > 1.5


def test_no_surface_is_an_empty_mesh() -> None:
    low, high = np.array([-1, 0.2, -0.5], np.float32), np.array([1, 1, 0.5], np.float32)
    assert len(surface.fuse(_wall(2.0), low, high, 20).faces) == 0


def test_gaussians_as_ply_and_spz(splats: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    export.export(ExportOptions(), tiny_dataset, splats, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("splat.ply", "splat.spz", "index.html", "export.json")
    }
    to_scene = reading.model_to_dataset(tiny_dataset, splats)
    content = json.loads((splats / model.MANIFEST).read_text())
    trained = Gaussians.of_checkpoint(splats / content["checkpoint"]["file"])
    expected = to_scene.points(trained.means)
    found = np.asarray(trimesh.load(tmp_path / "out/splat.ply").vertices)
    assert np.allclose(found, expected, atol=1e-4)
    packed = unpack((tmp_path / "out/splat.spz").read_bytes())
    assert packed.sh.shape == (300, 16, 3)
    assert np.allclose(packed.means, Y_UP.points(expected), atol=1e-3)
    assert json.loads((tmp_path / "out/export.json").read_text())["gaussians"] == 300


def test_gaussians_in_metres(splats: Path, tiny_dataset: Path, metres: Path, tmp_path: Path) -> None:
    export.export(ExportOptions(), tiny_dataset, splats, tmp_path / "out", metres=metres)
    folder = tmp_path / "out/metres"
    assert {file.name for file in folder.iterdir()} == {
        *("splat.ply", "splat.glb", "tiles", "cameras.geojson", "place.json")
    }
    content = json.loads((tmp_path / "out/export.json").read_text())
    assert {"metres/tiles/tileset.json", "metres/tiles/0.glb"} <= set(content["checksums"])
    tileset = json.loads((folder / "tiles/tileset.json").read_text())
    place = json.loads((folder / "place.json").read_text())
    assert np.allclose(
        np.reshape(tileset["root"]["transform"], (4, 4)).T, Local(*np.array(place["origin"])[[1, 0, 2]]).to_earth
    )
    expected = METRES * np.asarray(trimesh.load(tmp_path / "out/splat.ply").vertices) @ TO_EAST.T
    assert np.allclose(trimesh.load(folder / "splat.ply").vertices, expected, atol=1e-4)
    [points] = trimesh.load(folder / "splat.glb").geometry.values()
    assert np.allclose(points.vertices, expected[:, [0, 2, 1]] * [1, 1, -1], atol=1e-4), "glTF has +Y up"


def test_without_a_scale_there_is_nothing_in_metres(splats: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    unknown = SceneInMetres(scale=None, up=Up(direction=(0, 0, 1), error=1.0))
    (tmp_path / "scene.json").write_text(unknown.model_dump_json())
    export.export(ExportOptions(), tiny_dataset, splats, tmp_path / "out", metres=tmp_path)
    assert not (tmp_path / "out/metres").exists()


def test_the_frames_lead_back_and_forth(solid_model: Path, tiny_dataset: Path) -> None:
    centres = reading.read_photos(tiny_dataset, solid_model).centres
    to_scene = reading.model_to_dataset(tiny_dataset, solid_model)
    frames = json.loads((tiny_dataset / "transforms.json").read_text())["frames"]
    own = np.array([frame["transform_matrix"] for frame in frames])[:, :3, 3]
    assert np.allclose(to_scene.points(centres), own, atol=1e-4)


def test_outputs_that_a_method_lacks_are_refused(
    splats: Path, solid_model: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="splatfacto .*splat,.* mesh.*nerfacto"):
        export.export(ExportOptions(forms=("mesh",)), tiny_dataset, splats, tmp_path / "out")
    with pytest.raises(InvalidInput, match="nerfacto .*mesh and pointcloud.* splat.*splatfacto"):
        export.export(ExportOptions(forms=("splat",)), tiny_dataset, solid_model, tmp_path / "out")
    with pytest.raises(InvalidInput, match="transforms.json"):
        export.export(SMALL, tmp_path / "gone", solid_model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_of_nothing_is_refused(solid_model: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    near = SMALL.model_copy(update={"reach": 0.001})
    with pytest.raises(GateRefused, match="reach .*0.001"):
        export.export(near, tiny_dataset, solid_model, tmp_path / "out")
    clear = splatfacto(20)
    with torch.no_grad():
        clear.gauss_params["opacities"].fill_(-9)
    model = write_model(clear, tmp_path / "clear", tiny_dataset)
    with pytest.raises(GateRefused, match="visible"):
        export.export(ExportOptions(), tiny_dataset, model, tmp_path / "out")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="splatfacto is trained on a CUDA GPU")
def test_a_splatfacto_that_was_trained(tiny_dataset: Path, tmp_path: Path) -> None:
    options = TrainOptions(method="splatfacto", max_num_iterations=300, model_size="standard")
    train(options, tiny_dataset, tmp_path / "model", tmp_path / "checkpoints")
    export.export(ExportOptions(), tiny_dataset, tmp_path / "model", tmp_path / "out")
    content: dict[str, Any] = json.loads((tmp_path / "out/export.json").read_text())
    assert content["gaussians"] > 1000
    assert content["bytes"]["splat.spz"] < 0.2 * content["bytes"]["splat.ply"]
