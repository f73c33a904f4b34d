"""3D Tiles, read by the words of the specification.

py3dtiles 12.1.1 has read such a tileset, and CesiumJS 1.145 has shown one in a browser. Both are too large to be
installed for this.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs.metric.earth import Local
from jobs.splats.gaussians import Gaussians
from jobs.splats.tiles import write_tiles
from tests.jobs.splats.test_gltf import gaussians, unpacked
from tests.splats import unpack

MUNICH = Local(48.1374, 11.5755, 520.0)
EARTH_CENTRED = (4177959.9013, 855750.3699, 4727472.7748)  # of Munich, by PROJ (EPSG:4979 to 4978)
Y_TO_Z = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # a reader turns glTF like this

Tile = dict[str, Any]


def street(number: int = 700) -> Gaussians:
    """Return a street along +X, whose Gaussians are from 1 mm to 1 m wide."""
    found = gaussians(1, number)
    means = found.means * np.array([20, 3, 3], np.float32)
    return replace(found, means=means, scales=found.scales - np.float32(1), sh=found.sh.clip(-0.9, 0.9))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_tiles(tmp_path / "tiles", street(), MUNICH, most=100)
    return tmp_path / "tiles"


def tileset(folder: Path) -> Tile:
    found: Tile = json.loads((folder / "tileset.json").read_text())
    return found


def content(folder: Path, tile: Tile) -> Gaussians:
    about, binary = unpacked((folder / tile["content"]["uri"]).read_bytes())
    [mesh] = about["meshes"]
    [primitive] = mesh["primitives"]
    extension = primitive["extensions"]["KHR_gaussian_splatting"]
    assert extension["extensions"] == {"KHR_gaussian_splatting_compression_spz_2": {"bufferView": 0}}
    [view] = about["bufferViews"]
    found = unpack(binary[: view["byteLength"]])
    assert {each["count"] for each in about["accessors"]} == {len(found)}
    harmonics = {f"KHR_gaussian_splatting:SH_DEGREE_1_COEF_{order}" for order in range(3)}
    own = {"KHR_gaussian_splatting:SCALE", "KHR_gaussian_splatting:ROTATION"}
    assert set(primitive["attributes"]) == {"POSITION", "COLOR_0"} | own | harmonics
    return found


def walk(tile: Tile) -> list[Tile]:
    return [tile, *(each for child in tile.get("children", []) for each in walk(child))]


def within(folder: Path, tile: Tile) -> None:
    """Check that a tile's box has all Gaussians of the tile and its children."""
    numbers = np.array(tile["boundingVolume"]["box"])
    centre, half = numbers[:3], numbers[3:].reshape(3, 3)
    for each in walk(tile):
        found = content(folder, each)
        turns = Y_TO_Z @ Rotation.from_quat(found.rotations[:, [1, 2, 3, 0]]).as_matrix()
        # A box has an ellipsoid in it if it has the points of it that are farthest along its sides.
        reach = 3 * np.linalg.norm(turns * np.exp(found.scales)[:, None], axis=2)
        off = np.abs(found.means @ Y_TO_Z.T - centre) + 0.9 * reach  # SPZ stores sizes to 3 %, and turns to 0.25°
        assert (off <= half.diagonal() + 1e-3).all()
        assert each["geometricError"] <= tile["geometricError"]


def test_every_gaussian_is_in_one_tile_and_the_widest_are_in_the_first(written: Path) -> None:
    given = street()
    tiles = walk(tileset(written)["root"])
    parts = [content(written, tile) for tile in tiles]
    assert max(map(len, parts)) <= 100 and len({tile["content"]["uri"] for tile in tiles}) == len(tiles) == 7
    assert {file.name for file in written.iterdir()} == {"tileset.json", *(tile["content"]["uri"] for tile in tiles)}
    found = np.concatenate([part.means for part in parts]) @ Y_TO_Z.T
    assert len(found) == len(given)
    assert np.allclose(found[found[:, 0].argsort()], given.means[given.means[:, 0].argsort()], atol=1e-3)
    sizes = [np.sort(part.scales, axis=1)[:, 1:].mean() for part in parts]
    assert sizes[0] > max(sizes[1:]), "what is wide is seen from afar"


def test_boxes_and_errors_are_those_of_a_tree(written: Path) -> None:
    about = tileset(written)
    assert about["asset"]["version"] == "1.1" and about["root"]["refine"] == "ADD"
    assert about["geometricError"] >= about["root"]["geometricError"] > 0
    for tile in walk(about["root"]):
        within(written, tile)
        assert (tile["geometricError"] > 0) == ("children" in tile)


def test_only_the_tileset_says_where_on_earth_it_is(written: Path, tmp_path: Path) -> None:
    root = tileset(written)["root"]
    to_earth = np.array(root["transform"]).reshape(4, 4).T
    assert np.allclose(to_earth[:3, 3], EARTH_CENTRED, atol=1e-3)
    assert np.allclose(to_earth[:3, :3].T @ to_earth[:3, :3], np.eye(3), atol=1e-12)
    up = np.array(EARTH_CENTRED) / np.linalg.norm(EARTH_CENTRED)
    assert to_earth[:3, 2] @ up > 0.99999 and abs(to_earth[2, 0]) < 1e-12 and to_earth[2, 1] > 0, "east, north, up"
    assert max(np.abs(content(written, tile).means).max() for tile in walk(root)) < 100
    write_tiles(tmp_path / "nowhere", street(), None)
    assert "transform" not in tileset(tmp_path / "nowhere")["root"]


def test_readers_are_told_of_the_extensions(written: Path) -> None:
    names = ["KHR_gaussian_splatting", "KHR_gaussian_splatting_compression_spz_2"]
    about = tileset(written)
    assert about["extensionsUsed"] == ["3DTILES_content_gltf"]
    required = {"extensionsUsed": names, "extensionsRequired": names}
    assert about["extensions"] == {"3DTILES_content_gltf": required}
    model, _ = unpacked((written / "0.glb").read_bytes())
    assert model["extensionsUsed"] == model["extensionsRequired"] == names


def test_gaussians_at_one_place_are_divided(tmp_path: Path) -> None:
    heap = replace(street(), means=np.zeros((700, 3), np.float32))
    write_tiles(tmp_path / "tiles", heap, None, most=100)
    assert sum(len(content(tmp_path / "tiles", tile)) for tile in walk(tileset(tmp_path / "tiles")["root"])) == 700
