"""The flow that exports, for real: a Prefect server, a registered model, its job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.export import export
from jobs.errors import InvalidInput, NotFound
from jobs.metric.scene import Scale, SceneInMetres, Up
from jobs.options import ExportOptions
from tests.runs import outcome
from tests.splats import splatfacto, write_model

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def home(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace with a registered splatfacto and its dataset."""
    assets = tmp_path / "assets"
    dataset, model = (assets / name / "1-c0ffee00" for name in ("street-images-to-nerf-dataset", "street-nerf"))
    shutil.copytree(tiny_dataset, dataset)
    write_model(splatfacto(300), model, tiny_dataset)
    for folder in (dataset, model):
        about = {"name": folder.parent.name, "version": folder.name, "kind": "model", "tags": {}, "checksums": {}}
        (folder / "asset.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path))
    return tmp_path


async def test_a_model_becomes_files_and_a_page_once(home: Path) -> None:
    exported, states = await outcome(export, scene="street", model_version=1)
    assert states == {"find_model": "Completed", "find_dataset": "Completed", "export": "Completed"}
    assert (exported.name, exported.kind, exported.version[:2]) == ("street-export", "export", "1-")
    assert (exported.tags["forms"], exported.tags["gaussians"]) == ("splat", "300")
    assert exported.tags["model"] == "street-nerf:1-c0ffee00"
    files = {file.name for file in Path(exported.uri).iterdir()}
    assert files == {"splat.ply", "splat.spz", "index.html", "export.json", "asset.json"}
    [job] = (home / "jobs").glob("[!.]*")
    assert json.loads((job / "spec.json").read_text())["tier"] == "cpu", "a GPU was taken for writing files"

    # What is asked for in so many words is what came by itself.
    again, states = await outcome(export, scene="street", export=ExportOptions(forms=("splat",)))
    assert again == exported and states["export"] == "Cached"


async def test_an_export_is_in_metres_once_the_scale_is_known(home: Path) -> None:
    before, _ = await outcome(export, scene="street")
    metres = home / "assets" / "street-metres" / "1-c0ffee01"
    metres.mkdir(parents=True)
    scene = SceneInMetres(scale=Scale(metres=1.25, error=0.001), up=Up(direction=(0, 0, 1), error=0.3))
    (metres / "scene.json").write_text(scene.model_dump_json())
    tags = {
        "scene": "street",
        "fingerprint": "c0ffee01",
        "dataset": "street-images-to-nerf-dataset:1-c0ffee00",
        "metres_per_unit": "1.25",
    }
    about = {"name": "street-metres", "version": "1-c0ffee01", "kind": "metres", "tags": tags, "checksums": {}}
    (metres / "asset.json").write_text(json.dumps({**about, "created": "2026-01-02T00:00:00+00:00"}))
    after, _ = await outcome(export, scene="street")
    assert after.version != before.version and after.tags["metres"] == "street-metres:1-c0ffee01"
    assert not (Path(before.uri) / "metres").exists()
    assert json.loads((Path(after.uri) / "metres/place.json").read_text())["metres_per_unit"] == 1.25
    assert "metres/splat.glb" in json.loads((Path(after.uri) / "asset.json").read_text())["checksums"]


async def test_impossible_options_are_refused_before_any_job(home: Path) -> None:
    with pytest.raises(InvalidInput, match="scene street: .*splatfacto .*mesh"):
        await export("street", export=ExportOptions(forms=("mesh",)))
    with pytest.raises(NotFound, match=r"scene street: .*2 of street-nerf .*1 \(1-c0ffee00\)"):
        await export("street", model_version=2)
    with pytest.raises(Exception, match="forms"):
        await outcome(export, scene="street", export={"forms": ["obj"]})
    shutil.rmtree(home / "assets/street-images-to-nerf-dataset")
    with pytest.raises(NotFound, match="scene street: .*street-images-to-nerf-dataset"):
        await export("street")
    (home / "assets/street-nerf/1-c0ffee00/model.json").unlink()
    with pytest.raises(NotFound, match=r"model\.json"):
        await export("street")
    assert not list((home / "jobs").glob("[!.]*"))
