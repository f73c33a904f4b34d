"""Runs on a workspace where a person archives assets: on the emulator, with real but short jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image
from prefect import flow

import tasks
from blocks import Asset
from blocks.azure import AzureMLWorkspace
from flows.nerf import nerf
from jobs.errors import NotFound
from jobs.options import PrepareOptions
from tasks.stage import Plan, Stage
from tests.azure_fixtures import SketchOptions, put, stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]

pytestmark = pytest.mark.usefixtures("prefect_server")


@Stage
def built(scene: str) -> Plan:
    """Return files that stand for a model here."""
    return Plan(scene, "1", SketchOptions(photos=8), f"{scene}-nerf", "model", "output", {}, tier="cpu")


@flow(name="built")
async def build(workspace: AzureMLWorkspace, scene: str, refresh: bool = False) -> Asset:
    made: Asset = await built.with_options(refresh=refresh)(workspace, scene)
    return made


@Stage
def sketched(scene: str) -> Plan:
    """Return files that stand for a dataset here."""
    return Plan(scene, "1", SketchOptions(photos=8), f"{scene}-photos", "dataset", "output", {}, tier="cpu")


@flow(name="sketched")
async def draw(workspace: AzureMLWorkspace, scene: str) -> Asset:
    made: Asset = await sketched(workspace, scene)
    return made


def photograph(folder: Path, count: int) -> dict[str, Path]:
    folder.mkdir()
    for index in range(count):
        Image.new("RGB", (8, 6), (25 * index, 0, 0)).save(folder / f"{index}.jpg")
    return {file.name: file for file in folder.iterdir()}


async def test_a_stage_runs_again_if_its_result_was_archived(
    workspace: AzureMLWorkspace, stack: AzureStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", lambda self, waited: 0.3)
    bad = await build(workspace, "kiln")
    assert await build(workspace, "kiln") == bad and bad.number == 1
    workspace.client.models.archive("kiln-nerf", "1")
    again = await build(workspace, "kiln")
    assert (again.version, again.number) == (f"{bad.version}-2", 2)
    assert f"{bad.title} is archived, so the stage runs again, for {again.version}" in caplog.text
    assert await build(workspace, "kiln") == again
    assert [stack.jobs[name].status for name in stack.jobs if name.startswith("kiln-")] == ["Completed"] * 2

    workspace.client.models.archive("kiln-nerf", "2")
    workspace.client.models.restore("kiln-nerf", "1")
    assert await build(workspace, "kiln") == bad, "the one that was restored stands"
    third = await build(workspace, "kiln", refresh=True)
    assert (third.version, third.number) == (f"{bad.version}-3", 3)


async def test_a_result_that_was_deleted_comes_back_from_its_job_or_is_made_again(
    workspace: AzureMLWorkspace, stack: AzureStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AzureMLWorkspace, "poll_seconds", lambda self, waited: 0.3)
    made = await draw(workspace, "shed")
    stack.delete_asset("data", made.name, made.version)
    again = await draw(workspace, "shed")
    assert (again.version, again.uri) == (made.version, made.uri)

    # If its files are deleted as well, the stage runs again, even if the node of the next attempt is lost.
    stack.delete_asset("data", made.name, made.version)
    stack.delete_blobs(made.uri)
    with stack.faults.add("preemption_error", "shed-sketch-.*-2$", times=1):
        remade = await draw(workspace, "shed")
    assert [job.status for name, job in stack.jobs.items() if name.startswith("shed-")] == [
        *("Completed", "Failed", "Completed"),
    ]
    assert remade.version == made.version and remade.uri != made.uri


async def test_captures_that_are_archived_are_left_alone(
    workspace: AzureMLWorkspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = PrepareOptions()

    @flow(name="captured")
    async def captured(version: int | None = None, images: Path | None = None) -> Asset:
        return await tasks.capture(workspace, "loft", version, images, options)

    put(workspace, photograph(tmp_path / "a", 8), "captures/loft/")
    assert (await captured()).version == "1"
    workspace.client.data.archive("loft", "1")
    with pytest.raises(NotFound, match=r"scene loft: .*archived: 1\)"):
        await captured()
    assert "the photos uploaded by hand are those of loft:1, which is archived" in caplog.text
    with pytest.raises(NotFound, match=r"version 1.*archived: 1\)"):
        await captured(1)
    assert (await captured(images=tmp_path / "a")).version == "2", "the same photos, given by hand"
    assert "version 1 has the same photos but is archived, so they are registered as version 2" in caplog.text
    assert (await captured()).version == "2"


@pytest_asyncio.fixture(loop_scope="session")
async def deployment() -> None:
    made = await nerf.ato_deployment("scene")
    await made.aapply()


@pytest.mark.usefixtures("deployment")
async def test_reprocess_starts_no_archived_capture(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    put(workspace, photograph(tmp_path / "a", 8), "captures/barn/")
    [dropped] = workspace.dropped("barn")
    workspace.take_in_dropped(dropped, {})
    workspace.client.data.archive("barn", "1")

    @flow(name="look")
    async def look() -> list[tasks.LookedAt]:
        return await tasks.start_new_captures(workspace, "azure", 0.0)

    [barn] = [each for each in await look() if each.scene == "barn"]
    assert barn.done.startswith("left alone: it is version 1, which is archived. Restore it")
    assert workspace.assets("barn") == []
