"""Which model a number or a version means, and models that were registered before they had numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from prefect import flow

import tasks
from blocks import Asset, LocalWorkspace
from jobs.errors import NotFound

# As the program wrote it when models had no numbers: two models of capture 1, and one of capture 2.
OLD = Path(__file__).parent / "old_workspace"


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    shutil.copytree(OLD, tmp_path / "home")
    return LocalWorkspace(root=tmp_path / "home")


def versions(workspace: LocalWorkspace) -> list[tuple[int | None, str]]:
    return [(model.number, model.version) for model in workspace.assets("street-nerf")]


def test_old_models_are_found_unchanged_and_get_numbers(workspace: LocalWorkspace) -> None:
    assert versions(workspace) == [(1, "1-c736eabe"), (2, "1-5f0e11aa"), (3, "2-90ab12cd")]
    for model in workspace.assets("street-nerf"):
        assert workspace.find_asset("street-nerf", model.version) == model
        assert json.loads(workspace.read(model, "asset.json"))["version"] == model.version
        assert workspace.read(model, "model.json") == b"{}"
    [dataset] = workspace.assets("street-images-to-nerf-dataset")
    assert dataset.number is None and dataset.title == "street-images-to-nerf-dataset:1-7c56776c"


def test_numbers_are_given_once_and_kept(workspace: LocalWorkspace) -> None:
    def publish(version: str) -> Asset | None:
        with workspace._part("assets", "street-nerf") as part:
            return workspace._publish(part, "street-nerf", version, "model", {}, {})

    made = publish("3-aaaaaaaa")
    assert made and made.number == 4 and workspace.find_asset("street-nerf", "3-aaaaaaaa") == made
    assert publish("3-aaaaaaaa") is None
    later = publish("3-bbbbbbbb")
    assert later and later.number == 5
    shutil.rmtree(made.uri)
    assert workspace.find_asset("street-nerf", "3-bbbbbbbb") == later


@pytest.mark.parametrize(
    ("given", "version"),
    [(None, "2-90ab12cd"), (1, "1-c736eabe"), ("2", "1-5f0e11aa"), (3, "2-90ab12cd"), ("1-5f0e11aa", "1-5f0e11aa")],
)
def test_a_number_is_the_models_own(workspace: LocalWorkspace, given: str | int | None, version: str) -> None:
    assert tasks.find_registered_model(workspace, "street", given).version == version


def test_a_missing_asset_is_reported_with_the_existing_ones(workspace: LocalWorkspace) -> None:
    listed = r"1 \(1-c736eabe\), 2 \(1-5f0e11aa\), 3 \(2-90ab12cd\)\."
    for missing in (4, "1", "1-00000000"):
        if missing == "1":  # of a capture that has a model, with a number that no model has
            shutil.rmtree(workspace.folder / "assets/street-nerf/1-c736eabe")
            manifest = workspace.folder / "assets/street-nerf/1-5f0e11aa/asset.json"
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "number": 2}))
            manifest = workspace.folder / "assets/street-nerf/2-90ab12cd/asset.json"
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "number": 3}))
            listed = r"2 \(1-5f0e11aa\), 3 .* street-nerf:1-5f0e11aa \(model 2"
        elif missing == "1-00000000":
            listed = r"2 \(1-5f0e11aa\), 3 \(2-90ab12cd\)\."
        with pytest.raises(NotFound, match=rf"scene street: .*{missing} of street-nerf .*{listed}"):
            tasks.find_registered_model(workspace, "street", missing)
    with pytest.raises(NotFound, match="scene wall: .*wall-nerf"):
        tasks.find_registered_model(workspace, "wall", None)
    with pytest.raises(NotFound, match=r"scene stret: .*Did you mean street\?"):
        tasks.find_registered_model(workspace, "stret", None)


@pytest.mark.usefixtures("prefect_server")
async def test_the_log_says_where_a_capture_has_the_same_number(
    workspace: LocalWorkspace, caplog: pytest.LogCaptureFixture
) -> None:

    @flow(name="found")
    async def found(version: str | int) -> tuple[str, str]:
        then = await tasks.find_older_visit(workspace, "street", version)
        assert then
        return (await tasks.find_model(workspace, "street", version)).version, then.model.version

    assert await found(1) == ("1-c736eabe", "1-5f0e11aa"), "an older visit is named by its capture"
    assert "taking model number 1, 1-c736eabe. To take the newest model of capture 1 instead, give 2." in caplog.text
    caplog.clear()
    assert await found("1-c736eabe") == ("1-c736eabe", "1-c736eabe")
    assert "taking model" not in caplog.text
