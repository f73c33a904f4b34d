"""What was dropped is found and started, through a real server; a run that was started stays in its queue."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from PIL import Image
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed

import tasks
from blocks import Asset, DroppedCapture, LocalWorkspace
from blocks.azure import AzureMLWorkspace
from flows.nerf import nerf
from flows.reprocess import reprocess
from jobs.errors import NotFound
from jobs.options import PrepareOptions
from tests.azure_fixtures import stack, workspace

__all__ = ["stack", "workspace"]

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWorkspace:
    monkeypatch.setenv("REBEL_NERF_HOME", str(tmp_path / "home"))
    return LocalWorkspace()


@pytest_asyncio.fixture(loop_scope="session")
async def deployment() -> UUID:
    made = await nerf.ato_deployment("scene")
    return await made.aapply()


def photograph(folder: Path, count: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(list(folder.iterdir())), count):
        Image.frombytes("RGB", (8, 6), random.randbytes(144)).save(folder / f"{index}.jpg", quality=95)
    return folder


async def table(**given: Any) -> dict[str, str]:
    """Return what was done, by scene or else by workspace, from the artifact of a run."""
    state: State[Any] = await reprocess(**{"workspaces": ["local"], "settle_minutes": 0, **given}, return_state=True)
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        [artifact] = await client.read_artifacts(artifact_filter=of_run)
    done = {row["scene"] or row["workspace"]: row["done"] for row in json.loads(str(artifact.data))}
    did = any(each.startswith(("started", "could not", "left alone: ")) for each in done.values())
    assert did or state.name == "Nothing to do"
    assert state.name == "Completed" or not any(each.startswith("started") for each in done.values())
    return done


async def runs_of(deployment: UUID, scene: str, workspace: str = "local") -> list[FlowRun]:
    async with get_client() as client:
        found = await client.read_flow_runs(limit=200)
    told = [run for run in found if run.deployment_id == deployment and run.parameters["scene"] == scene]
    return [run for run in told if run.parameters["workspace"] == workspace]


async def end(run: FlowRun, state: State[Any]) -> None:
    async with get_client() as client:
        await client.set_flow_run_state(run.id, state, force=True)


async def test_new_photos_are_started_once(home: LocalWorkspace, deployment: UUID) -> None:
    folder = photograph(home.folder / "captures" / "yard")
    assert (await table(settle_minutes=5))["yard"].startswith("waits until nothing has changed for 5 min")
    assert home.assets("yard") == []
    assert (await table())["yard"].startswith("started: version 1")
    [run] = await runs_of(deployment, "yard")
    assert run.parameters == {"scene": "yard", "workspace": "local", "profile": "auto", "version": 1}
    assert (await table())["yard"].startswith("is being processed")

    photograph(folder, count=9)
    assert (await table())["yard"].startswith(f"waits: its run {run.name}")
    await end(run, Completed())
    assert (await table())["yard"].startswith("started: version 2")
    [second] = [each for each in await runs_of(deployment, "yard") if each.id != run.id]
    await end(second, Failed(message="Flow run encountered an exception: GateRefused: too few photos"))
    assert "is Failed" in (await table())["yard"] and "-p workspace=local" in (await table())["yard"]
    (folder / "0.jpg").rename(folder / "renamed.jpg")
    assert (await table())["yard"].startswith("not started again"), "the same photos are not new under other names"

    (folder / "8.jpg").unlink()
    assert (await table())["yard"] == f"nothing new: run {run.name} ({run.id}) made its video"
    assert len(await runs_of(deployment, "yard")) == 2 == len(home.assets("yard"))


def register(home: LocalWorkspace, kind: str, version: str, **tags: str) -> None:
    folder = home.folder / "assets" / f"orchard-{kind if kind != 'model' else 'nerf'}" / version
    folder.mkdir(parents=True)
    about = {"name": folder.parent.name, "version": version, "kind": kind, "tags": tags, "checksums": {}}
    (folder / "asset.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))


async def test_new_photos_are_compared_with_the_version_before(home: LocalWorkspace, deployment: UUID) -> None:
    folder = photograph(home.folder / "captures" / "orchard")
    await table(compare=True)
    [first] = await runs_of(deployment, "orchard")
    assert "then" not in first.parameters, "there is no version before the first"
    await end(first, Completed())
    photograph(folder, count=9)
    await table(compare=True)
    [second] = [each for each in await runs_of(deployment, "orchard") if each.id != first.id]
    assert "then" not in second.parameters, "version 1 has no model"
    await end(second, Completed())
    register(home, "model", "1-c0ffee00")
    register(home, "model", "3-c0ffee00")  # of a later version, as after a restored backup
    photograph(folder, count=10)
    await table(compare=True)
    [third] = [each for each in await runs_of(deployment, "orchard") if each.id not in (first.id, second.id)]
    assert (third.parameters["version"], third.parameters["then"]) == (3, 1)
    await end(third, Completed())
    register(home, "changes", "2-c0ffee00", changed="9 m² in 9 places")
    register(home, "changes", "3-c0ffee00", changed="3.1 m² in 2 places: changed 2.4 m², new 0.7 m²")
    assert (await table(compare=True))["orchard"].endswith(
        "made its video. Changed: 3.1 m² in 2 places: changed 2.4 m², new 0.7 m²"
    )
    assert (await table())["orchard"].endswith("made its video")


async def test_a_flow_that_died_between_registering_and_starting(home: LocalWorkspace, deployment: UUID) -> None:
    photograph(home.folder / "captures" / "gate")
    await table()
    [run] = await runs_of(deployment, "gate")
    async with get_client() as client:
        await client.delete_flow_run(run.id)
    assert (await table())["gate"].startswith("started: version 1")
    assert len(await runs_of(deployment, "gate")) == 1 == len(home.assets("gate"))


async def test_a_version_registered_by_a_person_is_started_when_named(
    home: LocalWorkspace, deployment: UUID, tmp_path: Path
) -> None:
    photos = photograph(tmp_path / "photos")
    home.take_in("barn", {file.name: file for file in photos.iterdir()}, {})
    shutil.copytree(photos, home.folder / "captures" / "barn")
    assert (await table())["barn"] == "nothing new: it is version 1"
    shutil.rmtree(home.folder / "captures")
    assert await table() == {}
    assert "is not a valid name" in (await table(scenes=[""]))["local"]
    assert "is not a valid name" in (await table(scenes=["../captures"]))["../captures"]
    assert (await table(scenes=["barn"]))["barn"].startswith("started: version 1")
    assert (await table(scenes=["barn"]))["barn"].startswith("is being processed")
    assert await table(scenes=["nobody"]) == {"nobody": "left alone: it has no photos and no video"}
    assert len(await runs_of(deployment, "barn")) == 1


async def test_an_announced_upload_is_started_whatever_was_dropped_before(
    home: LocalWorkspace, deployment: UUID, tmp_path: Path
) -> None:
    photograph(home.folder / "captures" / "mill")
    await table()
    [run] = await runs_of(deployment, "mill")
    await end(run, Completed())
    photos = photograph(tmp_path / "photos")
    home.take_in("mill", {file.name: file for file in photos.iterdir()}, {})
    assert (await table())["mill"].startswith("nothing new")
    assert (await table(scenes=["mill"]))["mill"].startswith("started: version 2")
    photograph(home.folder / "captures" / "mill", count=9)  # what was dropped later is newer still
    [second] = [each for each in await runs_of(deployment, "mill") if each.id != run.id]
    await end(second, Completed())
    assert (await table(scenes=["mill"]))["mill"].startswith("started: version 3")


async def test_a_chance_failure_is_retried_but_not_for_ever(home: LocalWorkspace, deployment: UUID) -> None:
    photograph(home.folder / "captures" / "quay")
    seen: set[UUID] = set()
    states: list[State[Any]] = [Crashed(), Failed(message="WorkspaceUnavailable: Azure does not answer"), Crashed()]
    for ended in states:
        assert (await table())["quay"].startswith("started: version 1")
        [run] = [each for each in await runs_of(deployment, "quay") if each.id not in seen]
        assert (await table())["quay"].startswith("is being processed")
        await end(run, ended)
        seen.add(run.id)
    assert "is Crashed" in (await table())["quay"]
    assert len(home.assets("quay")) == 1


async def test_a_server_that_has_forgotten_the_runs(home: LocalWorkspace, deployment: UUID) -> None:
    photograph(home.folder / "captures" / "pier")
    await table()
    [run] = await runs_of(deployment, "pier")
    folder = home.folder / "assets/pier-images-to-nerf-dataset/1-aaaaaaaa"
    folder.mkdir(parents=True)
    about = {"name": "pier-images-to-nerf-dataset", "version": "1-aaaaaaaa", "kind": "dataset", "checksums": {}}
    created = datetime.now(timezone.utc).isoformat()
    (folder / "asset.json").write_text(json.dumps({**about, "tags": {"images": "pier:1"}, "created": created}))
    async with get_client() as client:
        await client.delete_flow_run(run.id)
    assert (await table())["pier"] == "nothing new: it is version 1"


async def test_one_bad_item_does_not_stop_the_others(home: LocalWorkspace, deployment: UUID, tmp_path: Path) -> None:
    captures = home.folder / "captures"
    for scene in ("Old Town", "wall-nerf", "few", "broken", "good"):
        photograph(captures / scene, count=3 if scene == "few" else 8)
    for file in (captures / "broken").iterdir():
        file.write_bytes(file.name.encode())
    (captures / "empty").mkdir()
    (tmp_path / "file").touch()
    await LocalWorkspace(root=tmp_path / "file").save("down", overwrite=True)
    done = await table(workspaces=["rebel-nerf-local-workspace/down", "no-such/block", "local"])
    assert "root: the workspace's folder" in done.pop("rebel-nerf-local-workspace/down")
    assert "give local, or a saved block" in done.pop("no-such/block")
    assert done.pop("good").startswith("started: version 1")
    for scene, why in {
        "Old Town": "scene 'Old Town' is not a valid name",
        "wall-nerf": "share its name with an asset of another scene",
        "few": "holds 3 readable photos; at least 8 are needed",
        "broken": "holds 0 readable photos",
        "empty": "it has no photos and no video",
    }.items():
        assert why in done.pop(scene)
    assert not done
    assert not any([await runs_of(deployment, scene) for scene in ("few", "broken", "empty")])


async def test_a_saved_block_of_the_same_folder_stands_for_local(home: LocalWorkspace, deployment: UUID) -> None:
    """Its limit on costs would not hold for runs in `local`."""
    shop, here = "rebel-nerf-local-workspace/shop", set(await tasks.all_workspaces())
    assert "local" in here
    photograph(home.folder / "captures/pier")
    assert (await table())["pier"].startswith("started: version 1")
    await LocalWorkspace(root=home.folder, gpu_jobs_at_once=1).save("shop", overwrite=True)
    try:
        assert set(await tasks.all_workspaces()) == here - {"local"} | {shop}
        photograph(home.folder / "captures/pier", count=9)
        photograph(home.folder / "captures/quay")
        done = await table(workspaces=None)
        assert done["pier"].startswith("waits: its run"), "it is under way in the same folder"
        assert done["quay"].startswith("started: version 1") and len(await runs_of(deployment, "quay", shop)) == 1
        assert "quay" in (home.folder / "gallery.html").read_text(), "pages are those of the folder"
    finally:
        await LocalWorkspace.adelete(shop.removeprefix("rebel-nerf-local-workspace/"))


class Watched(LocalWorkspace):
    """Calls back between the listing and what is done about it."""

    _block_type_slug = "watched"
    _meanwhile: Callable[[], object] = lambda: None

    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        self._meanwhile()
        return super().find_capture(dropped)


async def test_captures_that_vanish_or_change_meanwhile(home: LocalWorkspace, deployment: UUID, tmp_path: Path) -> None:
    captures = home.folder / "captures"
    photograph(captures / "gone")
    watched = Watched()
    watched._meanwhile = lambda: shutil.rmtree(captures / "gone")
    [row] = await tasks.start_new_captures(watched, "local", 0)
    assert row.done.startswith("left alone:") and "does not exist" in row.done
    assert home.assets("gone") == [] == await runs_of(deployment, "gone")

    Image.frombytes("RGB", (8, 6), random.randbytes(144)).save(tmp_path / "other.jpg")
    photograph(captures / "changed")
    watched._meanwhile = lambda: shutil.copyfile(tmp_path / "other.jpg", captures / "changed" / "3.jpg")
    [row] = await tasks.start_new_captures(watched, "local", 0)
    assert row.done == "left alone: scene changed: 3.jpg has changed since it was listed. Wait for the upload to end."
    assert home.assets("changed") == [] == await runs_of(deployment, "changed")


async def test_an_old_version_stays_usable(home: LocalWorkspace) -> None:
    folder = photograph(home.folder / "captures" / "yard")

    async def capture(version: int | None = None) -> str:
        asset: Asset = await tasks.capture(home, "yard", version, None, PrepareOptions())
        return asset.version

    assert await capture() == "1" == await capture()
    photograph(folder, count=9)
    assert await capture() == "2" == await capture()
    assert await capture(1) == "1"
    (folder / "8.jpg").unlink()
    assert await capture() == "2", "photos that were taken in long ago bring no old version back"
    shutil.copyfile(folder / "0.jpg", folder / "0 (1).jpg")
    assert await capture() == "2", "nor does a copy make a new one"


async def test_nothing_starts_if_the_schedule_is_off(home: LocalWorkspace, deployment: UUID) -> None:
    photograph(home.folder / "captures" / "shed")
    await reprocess(enabled=False)
    assert home.assets("shed") == [] == await runs_of(deployment, "shed")


async def test_a_server_without_the_deployment(home: LocalWorkspace, deployment: UUID) -> None:
    async with get_client() as client:
        await client.delete_deployment(deployment)
    with pytest.raises(NotFound, match="nerf/scene"):
        await tasks.start_new_captures(home, "local", 0)


async def test_uploads_to_azure_start_runs(workspace: AzureMLWorkspace, deployment: UUID, tmp_path: Path) -> None:
    watched = workspace.model_copy(update={"captures": "watched"})
    container = watched._connection.store().container

    def upload(scene: str, *names: str) -> None:
        for name in names:
            container.write(f"watched/{scene}/{name}", f"{scene} {name}".encode())

    names = [f"{index}.jpg" for index in range(8)]
    upload("harbour", *names)
    upload("Bad", *names)
    upload("small", *names[:7])
    upload("video", "tour.mp4")
    upload("growing", *names)
    container._client.get_blob_client("watched/growing/8.jpg").stage_block("YQ==", b"begun")

    async def look(settle_seconds: float = 0) -> dict[str, str]:
        return {row.scene: row.done for row in await tasks.start_new_captures(watched, "azure", settle_seconds)}

    assert (await look(3600))["harbour"].startswith("waits until nothing has changed for 1 h")
    done = await look()
    assert done.pop("harbour").startswith("started: version 1")
    assert done.pop("video").startswith("started: version 1")
    assert "is not a valid name" in done.pop("Bad")
    assert "there are 7 photos; at least 8 are needed" in done.pop("small")
    assert done.pop("growing").startswith("waits: 8.jpg is being uploaded")
    assert not done
    [run] = await runs_of(deployment, "harbour", "azure")
    assert run.parameters["version"] == 1
    [asset] = watched.assets("harbour")
    assert {file.name for file in watched.fetch(asset).rglob("*.jpg")} == set(names)

    await end(run, Completed())
    container.write("watched/harbour/new.jpg", b"one more")
    assert (await look())["harbour"].startswith("started: version 2")
    assert [each.version for each in watched.assets("harbour")] == ["1", "2"]
