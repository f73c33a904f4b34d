"""From which earlier visit's model a training starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

import tasks
from blocks import Asset, LocalWorkspace
from jobs.options import TrainOptions

pytestmark = pytest.mark.usefixtures("prefect_server")

OPTIONS = TrainOptions(start="earlier").with_profile("preview")
FIRST = "street-images-to-nerf-dataset:1-00000000"


def register(home: Path, kind: str, version: str, content: dict[str, Any], **tags: str) -> None:
    name = {"dataset": "street-images-to-nerf-dataset", "model": "street-nerf"}[kind]
    folder = home / "assets" / name / version
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(content))
    known = {"scene": "street", "capture_version": version[0], "fingerprint": version, **tags}
    about = {"name": name, "version": version, "kind": kind, "tags": known, "checksums": {}}
    (folder / "asset.json").write_text(json.dumps({**about, "created": f"2026-01-0{version[0]}T00:00:00+00:00"}))


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    """Return a workspace with four visits, each with a model. The third visit began another scene frame."""
    for visit, frame in enumerate(["new", FIRST, "new", FIRST], 1):
        register(tmp_path, "dataset", f"{visit}-00000000", {}, frame=frame)
        trained = OPTIONS.model_copy(update={"start": "fresh"})
        dataset = f"street-images-to-nerf-dataset:{visit}-00000000"
        register(tmp_path, "model", f"{visit}-aaaaaaaa", {"options": trained.model_dump()}, dataset=dataset)
    return LocalWorkspace(root=tmp_path)


async def start(workspace: LocalWorkspace, visit: int, options: TrainOptions = OPTIONS) -> Asset | None:
    @flow(name="find-start")
    async def run() -> Asset | None:
        return await tasks.find_start(workspace, dataset_of(workspace, visit), options)

    found: Asset | None = await run()
    return found


def dataset_of(workspace: LocalWorkspace, visit: int) -> Asset:
    found = workspace.find_asset("street-images-to-nerf-dataset", f"{visit}-00000000")
    assert found
    return found


async def test_it_is_that_of_the_newest_earlier_visit_in_the_scene_frame(workspace: LocalWorkspace) -> None:
    versions = {
        visit: found and found.version for visit in (1, 2, 3, 4) if (found := await start(workspace, visit)) or True
    }
    assert versions == {1: None, 2: "1-aaaaaaaa", 3: None, 4: "2-aaaaaaaa"}
    assert await start(workspace, 4, TrainOptions().with_profile("preview")) is None


async def test_models_of_another_kind_are_passed_over(workspace: LocalWorkspace, tmp_path: Path) -> None:
    for name, value in {"max_image_size": 640, "model_size": "standard", "refine_poses": True}.items():
        assert await start(workspace, 4, OPTIONS.model_copy(update={name: value})) is None, name
    assert await start(workspace, 4, OPTIONS.model_copy(update={"max_num_iterations": 1501})) is None
    file = tmp_path / "assets/street-nerf/2-aaaaaaaa/model.json"
    for content in ("{}", "no JSON", json.dumps({"options": {**OPTIONS.model_dump(), "max_num_iterations": 10}})):
        file.write_text(content)
        found = await start(workspace, 4)
        assert found and found.version == "1-aaaaaaaa", content


def test_without_an_earlier_model_it_is_the_training_that_it_always_was(workspace: LocalWorkspace) -> None:
    dataset = dataset_of(workspace, 4)
    fresh = tasks.train.plan(dataset, TrainOptions().with_profile("preview"))
    asked = tasks.train.plan(dataset, OPTIONS)
    assert (asked.version, asked.options) == (fresh.version, fresh.options)
    earlier = workspace.find_asset("street-nerf", "2-aaaaaaaa")
    started = tasks.train.plan(dataset, OPTIONS, None, earlier)
    assert started.version != fresh.version and started.provenance().inputs["earlier"] == "street-nerf:2-aaaaaaaa"
    assert {"--earlier", "{inputs.earlier}"} <= set(started.spec(1).arguments)
