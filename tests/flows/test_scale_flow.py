"""The flow that gives a scene metres, for real: a Prefect server, a registered dataset, its job."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks
from commands.pick import Pick, write
from flows.scale import scale
from jobs.errors import InvalidInput, NotFound
from jobs.facade import cameras
from jobs.metric.scene import SceneInMetres
from tests.runs import outcome

pytestmark = pytest.mark.usefixtures("prefect_server")

UNIT = 5.0


@pytest.fixture
def home(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace with the built-in street, in units of 5 m, and a model of it."""
    dataset, model = (
        tmp_path / "assets" / name / "1-c0ffee00" for name in ("street-images-to-nerf-dataset", "street-nerf")
    )
    shutil.copytree(tiny_dataset, dataset)
    transforms = json.loads((dataset / "transforms.json").read_text())
    for frame in transforms["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] /= UNIT
    (dataset / "transforms.json").write_text(json.dumps(transforms))
    model.mkdir(parents=True)
    for folder, kind in ((dataset, "dataset"), (model, "model")):
        about = {"name": folder.parent.name, "version": folder.name, "kind": kind, "tags": {}, "checksums": {}}
        (folder / "asset.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path))
    return tmp_path


def wall(times: float = 1.0) -> dict[str, Any]:
    """Return a length of 8 m on the street's front, as a person writes it."""

    def picks(point: list[float]) -> list[dict[str, Any]]:
        found = []
        for number, camera in enumerate(cameras(14, 480, 270), 1):
            x, y, depth = (float(value) for value in camera.project(np.array(point)))
            if depth > 0 and 0 < x < 480 and 0 < y < 270:
                found.append({"photo": f"facade_{number:03d}.jpg", "x": x, "y": y})
        return found[:5]

    return {"name": "wall", "metres": 8.0 * times, "from": picks([-4, -0.3, 2]), "to": picks([4, -0.3, 2])}


async def test_a_length_becomes_the_metres_of_the_scene_once(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "scale.json"
    file.write_text(json.dumps({"lengths": [wall()]}))
    made, states = await outcome(scale, scene="street", measurements=file)
    assert states["scale"] == "Completed"
    assert (made.name, made.kind, made.tags["measurements"]) == ("street-metres", "metres", "1")
    assert made.tags["scale"].startswith("1 unit = 5 m ± ")
    scene = SceneInMetres.model_validate_json((Path(made.uri) / "scene.json").read_text())
    assert scene.scale and scene.scale.metres == pytest.approx(UNIT, rel=1e-3)

    # A later run without a file uses the measurements again, and finds the result.
    again, states = await outcome(scale, scene="street")
    assert again == made and states["scale"] == "Cached"

    # A file with nothing but areas leaves the lengths as they are, and names are kept from one file to the next.
    for name in ("shop", "door"):
        corners = [wall()["from"], wall()["to"], wall()["from"]]
        file.write_text(json.dumps({"areas": [{"name": name, "corners": corners}]}))
        named, _ = await outcome(scale, scene="street", measurements=file)
    with_areas = SceneInMetres.model_validate_json((Path(named.uri) / "scene.json").read_text())
    assert with_areas.scale == scene.scale and [area.name for area in with_areas.areas] == ["shop", "door"]
    scene = with_areas

    # The pages get it.
    place = await tasks.open_workspace("local")
    [dataset] = place.assets("street-images-to-nerf-dataset")
    assert tasks.read_metres(place, dataset.model_copy(update={"tags": {"scene": "street"}})) == scene
    page = tmp_path / "pick.html"
    await asyncio.to_thread(write, Pick(scene="street", output=page, browser=False))
    assert scene.words in page.read_text() and f'"frame": "{dataset}"' in page.read_text()


async def test_wrong_measurements_are_refused_before_any_job(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="scene street: "):
        await scale("street")
    file = tmp_path / "scale.json"
    file.write_text(json.dumps({"lengths": [wall(-1.0)]}))
    with pytest.raises(InvalidInput, match=r"scene street: .*scale.json: lengths, entry 1 \('wall'\), metres: "):
        await scale("street", measurements=file)
    dropped = home / "captures" / "street"
    dropped.mkdir(parents=True)
    (dropped / "other.jpg").write_bytes(b"")
    file.write_text(json.dumps({"lengths": [wall()]}))
    with pytest.raises(InvalidInput, match="'wall': .*'facade_0"):
        await scale("street", measurements=file)
    (tmp_path / "secret").write_text("BEGIN PRIVATE KEY")
    (dropped / "gcp_list.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match=r"scene street: .*gcp_list.txt is a link") as refused:
        await scale("street")
    assert "PRIVATE" not in str(refused.value)
    assert not list((home / "jobs").glob("[!.]*"))


async def test_poses_in_metres_need_no_measurement(home: Path) -> None:
    dataset = home / "assets/street-images-to-nerf-dataset/1-c0ffee00/dataset.json"
    about = json.loads(dataset.read_text()) if dataset.exists() else {}
    dataset.write_text(json.dumps({**about, "poses": {"metres_per_unit": UNIT}}))
    made, _ = await outcome(scale, scene="street")
    assert made.tags["scale"].startswith("1 unit = 5 m ± ") and "the poses of the capture" in made.tags["scale"]
