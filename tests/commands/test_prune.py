"""What `rebel-nerf prune` keeps and removes, on this machine and on Azure."""

from __future__ import annotations

import os
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from blocks import JobSpec, LocalWorkspace, Marks, supervisor
from blocks.azure import AzureMLWorkspace
from blocks.local_cleanup import find_leftovers
from commands.gallery import Gallery
from commands.gallery import show as show_gallery
from commands.prune import Prune, prune
from commands.rm import Remove, remove_from_scene
from jobs.errors import InvalidInput, NotFound
from tasks.prune import candidates_of_scene
from tests.azure_fixtures import lasting, sketch, stack, wait, workspace
from tests.tasks.test_choice import put

__all__ = ["stack", "workspace"]

START = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWorkspace:
    """Return a street with five visits; each has a dataset in the first one's frame, a model and a video."""
    local = LocalWorkspace(root=tmp_path / "home", python="true")
    monkeypatch.setenv("REBEL_NERF_HOME", str(local.folder))
    for visit in range(1, 6):
        own: dict[str, Any] = {"scene": "street", "capture_version": visit}
        version = f"{visit}-{visit:08x}"
        dataset, model = f"street-images-to-nerf-dataset:{version}", f"street-nerf:{version}"
        put(local, "street", str(visit), 10 * visit, "capture", **own, content=f"content {visit}")
        first = {"reference_1": "street-images-to-nerf-dataset:1-00000001"} if visit > 1 else {}
        put(
            local,
            dataset.partition(":")[0],
            version,
            10 * visit + 1,
            "dataset",
            **own,
            images=f"street:{visit}",
            **first,
        )
        put(local, "street-nerf", version, 10 * visit + 2, **own, dataset=dataset)
        put(local, "street-video", version, 10 * visit + 3, "video", **own, dataset=dataset, model=model)
    return local


def kept(local: LocalWorkspace, keep: int = 2, captures: bool = False) -> dict[str, str]:
    """Return the visits that are kept, by the kind of asset."""
    found: dict[str, str] = {}
    for each in candidates_of_scene(local, "street", keep, captures=captures):
        if each.kept:
            found[each.asset.kind] = found.get(each.asset.kind, "") + each.asset.version.partition("-")[0]
    return found


def drop_again(local: LocalWorkspace) -> Path:
    """Put the photo of the second capture into the drop folder as well, and return where it is there."""
    photo = local.folder / "captures/street/1.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"a photo")
    [dropped] = local.dropped("street")
    manifest = local.folder / "assets/street/2/asset.json"
    manifest.write_text(manifest.read_text().replace("content 2", dropped.content))
    return photo


def test_the_newest_versions_are_kept_with_their_inputs(local: LocalWorkspace) -> None:
    assert kept(local) == {"capture": "12345", "dataset": "145", "model": "45", "video": "45"}
    assert kept(local, keep=1) == {"capture": "12345", "dataset": "15", "model": "5", "video": "5"}
    shutil.rmtree(local.folder / "assets/street-video/5-00000005")
    shutil.rmtree(local.folder / "assets/street-video/4-00000004")
    assert kept(local, keep=1) == {"capture": "12345", "dataset": "135", "model": "35", "video": "3"}


def test_a_pinned_model_is_kept_with_its_dataset(local: LocalWorkspace) -> None:
    local.mark(local.assets("street-nerf")[1], Marks(pinned=START))
    assert kept(local, keep=1) == {"capture": "12345", "dataset": "125", "model": "25", "video": "5"}


def test_the_only_copy_of_a_capture_is_never_removed(local: LocalWorkspace) -> None:
    assert kept(local, keep=1, captures=True)["capture"] == "12345"
    drop_again(local)
    assert kept(local, keep=1, captures=False)["capture"] == "12345"
    assert kept(local, keep=1, captures=True)["capture"] == "1345"
    assert kept(local, keep=4, captures=True)["capture"] == "12345", "a dataset that is kept was made from it"


def test_nothing_of_a_scene_is_removed_while_a_run_waits_for_its_job(local: LocalWorkspace) -> None:
    job = JobSpec(family="street-train-5-abcd", attempt=1, scene="street", stage="train", arguments=())
    folder = local.folder / "jobs" / job.name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(job.model_dump_json())
    local.follow(job.name, "a run")
    alive = supervisor.lock(folder / "alive")
    assert alive
    with alive:
        assert set(kept(local, keep=1).values()) == {"12345"}
    assert kept(local, keep=1)["model"] == "5"


def test_nothing_changes_without_remove(local: LocalWorkspace, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(local.folder.rglob("*"))
    prune(Prune(keep=1))
    said = capsys.readouterr().out
    assert sorted(local.folder.rglob("*")) == before
    assert "street-nerf:1-00000001 (model 1)" in said and "Nothing was changed" in said
    assert "street-nerf:5-00000005" not in said


def test_listed_versions_are_removed(local: LocalWorkspace, capsys: pytest.CaptureFixture[str]) -> None:
    prune(Prune(keep=1, remove=True))
    assert "Removed " in capsys.readouterr().out
    assert [model.version for model in local.assets("street-nerf")] == ["5-00000005"]
    assert [each.version[0] for each in local.assets("street-images-to-nerf-dataset")] == ["1", "5"]
    assert len(local.assets("street")) == 5
    assert not list(local.folder.rglob("*.part"))
    prune(Prune(keep=1, remove=True))
    assert "Nothing can be removed." in capsys.readouterr().out


def test_a_model_is_removed_with_what_was_made_from_it(
    local: LocalWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    remove_from_scene(Remove(scene="street", model_version="2"))
    assert "Nothing was changed" in capsys.readouterr().out and len(local.assets("street-video")) == 5
    remove_from_scene(Remove(scene="street", model_version="2", remove=True))
    assert [each.version[0] for each in local.assets("street-nerf")] == ["1", "3", "4", "5"]
    assert [each.version[0] for each in local.assets("street-video")] == ["1", "3", "4", "5"]
    assert len(local.assets("street")) == len(local.assets("street-images-to-nerf-dataset")) == 5
    assert "2-00000002" not in (local.folder / "gallery/street.html").read_text()


def test_a_model_that_is_pinned_or_another_ones_beginning_stays(local: LocalWorkspace) -> None:
    second = local.assets("street-nerf")[1]
    own: dict[str, Any] = {"scene": "street", "capture_version": 6, "start": str(second)}
    put(local, "street-nerf", "6-00000006", 99, **own)
    with pytest.raises(InvalidInput, match="6-00000006"):
        remove_from_scene(Remove(scene="street", model_version="2", remove=True))
    local.mark(local.assets("street-nerf")[2], Marks(pinned=START))
    with pytest.raises(InvalidInput, match="pinned"):
        remove_from_scene(Remove(scene="street", model_version="3", remove=True))
    assert len(local.assets("street-nerf")) == 6 and len(local.assets("street-video")) == 5


def test_a_whole_scene_is_removed_but_the_only_copies_of_its_photos(
    local: LocalWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    put(local, "mill", "1", 0, "capture", scene="mill")
    show_gallery(Gallery(browser=False))
    photo = drop_again(local)
    before = sorted(local.folder.rglob("*"))
    remove_from_scene(Remove(scene="street"))
    said = capsys.readouterr().out
    assert sorted(local.folder.rglob("*")) == before and "rm --scene street --remove removes what is listed" in said
    assert "street:1 is kept: it is the only copy" in said and "street:2 is kept" not in said
    assert "captures/street/ of the workspace stay" in said

    remove_from_scene(Remove(scene="street", remove=True))
    assert [each.version for each in local.assets("street")] == ["1", "3", "4", "5"] and photo.exists()
    assert not [each for name in ("nerf", "video", "images-to-nerf-dataset") for each in local.assets(f"street-{name}")]
    assert "0 models" in (local.folder / "gallery/street.html").read_text()

    remove_from_scene(Remove(scene="street", captures=True, remove=True))
    assert local.scenes() == ["mill"] and photo.exists()
    assert not (local.folder / "gallery/street.html").exists()
    assert "street" not in (local.folder / "gallery.html").read_text()
    with pytest.raises(NotFound, match="street: .*mill"):
        remove_from_scene(Remove(scene="street", remove=True))


def test_a_scene_with_a_pinned_model_is_not_removed(local: LocalWorkspace) -> None:
    local.mark(local.assets("street-nerf")[2], Marks(pinned=START))
    with pytest.raises(InvalidInput, match="model 3. is pinned"):
        remove_from_scene(Remove(scene="street", captures=True, remove=True))
    assert len(local.assets("street-nerf")) == len(local.assets("street")) == 5


def job_folder(local: LocalWorkspace, name: str, exit_code: str, days: float) -> Path:
    folder = local.folder / "jobs" / name
    for part in ("code/jobs", "outputs/model"):
        (folder / part).mkdir(parents=True)
        (folder / part / "file").write_text("x" * 1000)
    for file, text in (("exit_code", exit_code), ("std_log.txt", "a log"), ("spec.json", "{}")):
        (folder / file).write_text(text)
    age(folder, days)
    return folder


def age(folder: Path, days: float) -> None:
    then = time.time() - 24 * 3600 * days
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


def test_leftovers_of_ended_jobs_are_removed_and_their_logs_kept(local: LocalWorkspace) -> None:
    good, bad = job_folder(local, "street-train-1-1", "0", 3), job_folder(local, "street-train-2-1", "1", 3)
    young, running = job_folder(local, "street-train-3-1", "1", 0.1), job_folder(local, "street-train-4-1", "", 3)
    part, fresh = local.folder / "jobs/.a.part", local.folder / "assets/street/.b.part"
    for folder in (part, fresh):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    age(part, 3)
    alive = supervisor.lock(running / "alive")
    assert alive
    with alive:
        age(running, 3)
        found = {Path(each.place) for each in local.leftovers(24 * 3600)}
        assert found == {good / "code", bad / "code", bad / "outputs", part}
        prune(Prune(keep=5, remove=True))
    assert not any(path.exists() for path in found)
    assert (good / "outputs/model/file").exists(), "a gate may have refused it"
    assert (bad / "std_log.txt").exists() and (young / "code").exists() and (running / "code").exists()
    assert fresh.exists()


def test_damaged_assets_are_removed_but_no_captures(local: LocalWorkspace) -> None:
    asides = [local.folder / "assets" / name / ".damaged-1-abcd1234" for name in ("wall", "wall-nerf", "ten-metres")]
    for folder in asides:
        folder.mkdir(parents=True)
        (folder / "asset.json").write_text('{"kind": "capture", ' if folder.parent.name == "ten-metres" else "")
    prune(Prune(remove=True))
    assert all(folder.exists() for folder in asides), "they are not a day old"
    for folder in asides:
        age(folder, 3)
    prune(Prune(remove=True))
    assert [folder.exists() for folder in asides] == [True, False, True]


def test_a_leftover_that_vanishes_while_others_are_listed_is_skipped(local: LocalWorkspace) -> None:
    parts = {local.folder / f"jobs/.{name}.part" for name in "abc"}
    for part in parts:
        part.mkdir(parents=True)
    found = find_leftovers(local.folder, -1)
    first = Path(next(found).place)
    for part in parts - {first}:
        part.rmdir()
    assert [each for each in found if each.place.endswith(".part")] == []


def test_a_removal_that_was_killed_leaves_nothing_that_is_listed(
    local: LocalWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            local.remove(local.assets("street-video")[0])
    assert [each.version[0] for each in local.assets("street-video")] == ["2", "3", "4", "5"]
    assert len(local.leftovers(-1)) == 1


def test_on_azure_an_old_model_is_archived_and_its_files_are_deleted(
    workspace: AzureMLWorkspace, tmp_path: Path
) -> None:
    name, container = workspace._connection.store()
    for visit in (1, 2):
        path = f"rebel-nerf/models/dock/{visit}/"
        container.write(f"{path}model.json", b"x" * 100)
        tags = {"scene": "dock", "dataset": "dock-images-to-nerf-dataset:1"}
        workspace._assets.register(
            "dock-nerf", f"{visit}-0{visit}", "model", tags, f"azureml://datastores/{name}/paths/{path}"
        )
    old, new = workspace.assets("dock-nerf")
    assert workspace.size(old) == 100
    candidates = {each.asset.version: each.kept for each in candidates_of_scene(workspace, "dock", 1, captures=False)}
    assert candidates == {old.version: "", new.version: "among the newest 1"}
    workspace.remove(old)
    assert [each.version for each in workspace.assets("dock-nerf")] == [new.version]
    assert [each.version for each in workspace.archived("dock-nerf")] == [old.version]
    assert not container.blobs("rebel-nerf/models/dock/1/") and container.blobs("rebel-nerf/models/dock/2/")


def test_on_azure_the_output_of_failed_jobs_and_transfers_that_were_cut_are_removed(
    workspace: AzureMLWorkspace, tmp_path: Path
) -> None:
    container = workspace._connection.store().container
    good, bad = sketch("quay-sketch-1-0a"), sketch("quay-sketch-1-0b", arguments=("--unknown",))
    running = lasting("quay-sketch-1-0c")
    for job in (good, bad, running):
        workspace.submit(job)
        if job is not running:
            wait(workspace, job)
        container.write(f"rebel-nerf/jobs/{job.name}/capture/file", b"x" * 100)
    photos = {"1.jpg": tmp_path / "1.jpg"}
    photos["1.jpg"].write_bytes(b"a photo")
    taken = workspace.take_in("quay", photos, {})
    container.write("rebel-nerf/captures/quay/0123456789abcdef/1.jpg", b"x" * 10)
    part = workspace._downloaded / "assets/quay/.1.part"
    part.mkdir(parents=True)
    (part / "1.jpg").write_bytes(b"x")

    assert workspace.leftovers(24 * 3600) == []
    found = workspace.leftovers(-1)
    left = {
        f"rebel-nerf/jobs/{bad.name}/": 100,
        "rebel-nerf/captures/quay/0123456789abcdef/": 10,
        str(part): 1,
    }
    assert {each.place: each.size for each in found} == left
    for each in found:
        workspace.remove_leftover(each)
    assert workspace.leftovers(-1) == [] and not part.exists()
    assert workspace.output_sizes(good.name, "capture")["file"] == 100
    assert (workspace.fetch(taken) / "1.jpg").read_bytes() == b"a photo"
    workspace.cancel(running.name)
