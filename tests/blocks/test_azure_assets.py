"""Models and captures in Azure ML's registries: their numbers, and what happens to archived ones. No job runs here."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.entities import Data, Model

from blocks import Asset, JobSpec
from blocks.azure import AzureMLWorkspace
from blocks.azure.assets import Assets
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable
from tests.azure_fixtures import photos, put, stack, workspace
from tests.azureml.runner import Job
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]

Trained = Callable[[str], JobSpec]


@pytest.fixture
def trained(workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path) -> Trained:
    """Give a completed training job of that family, with a model in its output."""

    def run(family: str) -> JobSpec:
        job = JobSpec(family=family, attempt=1, scene="street", stage="train", arguments=(), outputs=("model",))
        place = f"rebel-nerf/jobs/{job.name}/model/"
        put(workspace, photos(tmp_path / family, family.encode()), place)
        outputs = {"model": {"uri": f"azureml://datastores/workspaceblobstore/paths/{place}"}}
        azure = stack._workspaces[stack.workspace]
        stack.jobs[job.name] = Job(job.name, {"outputs": outputs}, azure, "2026-11-25T00:00:00+00:00", "Completed")
        return job

    return run


def register(workspace: AzureMLWorkspace, job: JobSpec, name: str, version: str) -> Asset:
    return workspace.register(job, "model", name, version, "model", {"scene": "street", "fingerprint": job.family})


# models


def test_models_are_numbered_and_keep_their_own_version_in_a_tag(
    workspace: AzureMLWorkspace, stack: AzureStack, trained: Trained
) -> None:
    first = register(workspace, trained("mill-train-1-c736eabe"), "mill-nerf", "1-c736eabe")
    second = register(workspace, trained("mill-train-1-c736eabe-2"), "mill-nerf", "1-c736eabe-2")
    assert [(model.version, model.number) for model in workspace.assets("mill-nerf")] == [
        *(("1-c736eabe", 1), ("1-c736eabe-2", 2)),
    ]
    assert first.title == "mill-nerf:1-c736eabe (model 1)" and str(first) == "mill-nerf:1-c736eabe"
    assert workspace.find_asset("mill-nerf", "1-c736eabe") == first
    assert workspace.find_asset("mill-nerf", "2") is None, "a number is not a version of ours"
    assert register(workspace, trained("mill-train-1-c736eabe"), "mill-nerf", "1-c736eabe") == first
    seen = workspace.client.models.get("mill-nerf", "2")
    assert (seen.tags["asset_version"], seen.job_name) == ("1-c736eabe-2", "mill-train-1-c736eabe-2-1")
    assert (workspace.fetch(second) / "0.jpg").is_file()
    workspace.submit(
        JobSpec(family="mill-facade-1", attempt=1, scene="mill", stage="facade", arguments=(), tier="cpu",
                inputs={"model": second})
    )  # fmt: skip
    assert stack.jobs["mill-facade-1-1"].request["inputs"]["model"]["uri"].endswith("/models/mill-nerf/versions/2")


def test_runs_that_register_at_the_same_time_make_each_model_once(
    workspace: AzureMLWorkspace, stack: AzureStack, trained: Trained
) -> None:
    jobs = [trained(f"race-train-1-0000000{number}") for number in range(3)] * 2  # of each result, two runs
    together = threading.Barrier(len(jobs))

    def run(job: JobSpec) -> Asset:
        assert workspace.assets("race-nerf") == []  # signed in, and connected
        together.wait(60)
        return register(workspace, job, "race-nerf", job.family.removeprefix("race-train-"))

    with ThreadPoolExecutor(len(jobs)) as threads, stack.faults.add("delay", "PUT .*/models/race-nerf/", seconds=0.3):
        made = list(threads.map(run, jobs))
    assert {model.number for model in made} == {1, 2, 3}
    assert {(model.version, model.number) for model in made} == {
        (model.version, model.number) for model in workspace.assets("race-nerf")
    }
    assert sorted(stack.assets("models")["race-nerf"]) == ["1", "2", "3"]


def test_a_registration_whose_answer_is_lost_is_not_repeated(
    workspace: AzureMLWorkspace, stack: AzureStack, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, before = trained("ford-train-1-aaaaaaaa"), Assets._put

    def killed(self: Assets, *given: Any) -> None:
        before(self, *given)
        raise WorkspaceUnavailable("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(Assets, "_put", killed)
        with pytest.raises(WorkspaceUnavailable):
            register(workspace, job, "ford-nerf", "1-aaaaaaaa")
    with stack.faults.add("unavailable", "PUT .*/models/"), pytest.raises(WorkspaceUnavailable):
        register(workspace, trained("ford-train-1-bbbbbbbb"), "ford-nerf", "1-bbbbbbbb")
    assert register(workspace, job, "ford-nerf", "1-aaaaaaaa").number == 1
    assert register(workspace, trained("ford-train-1-bbbbbbbb"), "ford-nerf", "1-bbbbbbbb").number == 2
    assert sorted(stack.assets("models")["ford-nerf"]) == ["1", "2"]


def test_a_model_registered_by_hand_has_its_number_as_its_version(
    workspace: AzureMLWorkspace, trained: Trained, tmp_path: Path
) -> None:
    put(workspace, photos(tmp_path / "hand", b"a model"), "by-hand/")
    path = "azureml://datastores/workspaceblobstore/paths/by-hand"
    for number, tags in (("4", None), ("5", {"version": "v2", "owner": "me"})):
        workspace.client.models.create_or_update(
            Model(name="hand-nerf", version=number, path=path, type="custom_model", tags=tags)
        )
    found = workspace.find_asset("hand-nerf", "5")
    assert found and (found.version, found.number, found.kind, found.tags["owner"]) == ("5", 5, "model", "me")
    own = register(workspace, trained("hand-train-1-cccccccc"), "hand-nerf", "1-cccccccc")
    assert own.number == 6
    assert [model.version for model in workspace.assets("hand-nerf")] == ["4", "5", "1-cccccccc"]


def test_numbers_of_archived_and_deleted_models_are_taken(
    workspace: AzureMLWorkspace, stack: AzureStack, trained: Trained
) -> None:
    bad = register(workspace, trained("wharf-train-1-aaaaaaaa"), "wharf-nerf", "1-aaaaaaaa")
    workspace.client.models.archive("wharf-nerf", "1")
    assert workspace.find_asset("wharf-nerf", "1-aaaaaaaa") is None and workspace.assets("wharf-nerf") == []
    [archived] = workspace.archived("wharf-nerf")
    assert archived == bad.model_copy(update={"archived": True})
    with pytest.raises(InvalidInput, match="wharf-nerf:1-aaaaaaaa"):
        register(workspace, trained("wharf-train-1-aaaaaaaa"), "wharf-nerf", "1-aaaaaaaa")
    with pytest.raises(NotFound, match=r"wharf-nerf:1-aaaaaaaa \(model 1\)"):
        workspace.submit(
            JobSpec(family="wharf-render", attempt=1, scene="s", stage="render", arguments=(), inputs={"model": bad})
        )
    assert register(workspace, trained("wharf-train-1-aaaaaaaa-2"), "wharf-nerf", "1-aaaaaaaa-2").number == 2
    stack.delete_asset("models", "wharf-nerf", "2")
    assert register(workspace, trained("wharf-train-1-aaaaaaaa-2"), "wharf-nerf", "1-aaaaaaaa-2").number == 3
    workspace.client.models.restore("wharf-nerf", "1")
    assert workspace.find_asset("wharf-nerf", "1-aaaaaaaa") == bad


# captures and data


@pytest.mark.timeout(120)
def test_an_archived_capture_keeps_its_number_and_is_not_found(
    workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path
) -> None:
    first = workspace.take_in("quay", photos(tmp_path / "a", b"one"), {})
    workspace.client.data.archive("quay", "1")
    assert workspace.assets("quay") == [] and workspace.find_asset("quay", "1") is None
    assert workspace.capture_with("quay", first.tags["content"]) is None
    with pytest.raises(NotFound, match="quay:1"):
        workspace.submit(
            JobSpec(family="quay-facade", attempt=1, scene="s", stage="facade", arguments=(), inputs={"images": first})
        )
    asked = stack.requests["PUT {ws}/data/*/versions/*"]
    second = workspace.take_in("quay", photos(tmp_path / "b", b"two"), {})
    again = workspace.take_in("quay", photos(tmp_path / "c", b"one"), {})
    assert stack.requests["PUT {ws}/data/*/versions/*"] == asked + 2
    assert [second.version, again.version] == ["2", "3"], "the same photos, given again, are a new version"
    assert again.tags["content"] == first.tags["content"]
    assert [asset.version for asset in workspace.archived("quay")] == ["1"]


def test_dropped_photos_of_an_archived_capture_are_not_taken_in_by_themselves(
    workspace: AzureMLWorkspace, tmp_path: Path
) -> None:
    put(workspace, photos(tmp_path / "a", b"one", b"two"), "captures/lock/")
    [dropped] = workspace.dropped("lock")
    taken = workspace.take_in_dropped(dropped, {})
    workspace.client.data.archive("lock", "1")
    assert workspace.find_capture(dropped) == taken.model_copy(update={"archived": True})
    put(workspace, photos(tmp_path / "b", b"three"), "captures/lock/new/")
    [grown] = workspace.dropped("lock")
    assert workspace.find_capture(grown) is None
    later = workspace.take_in_dropped(grown, {})
    assert later.version == "2" and workspace.find_capture(grown) == later
    workspace.client.data.archive("lock", "2")
    assert workspace.take_in_dropped(grown, {}).version == "3", "where it is asked for, it is"


def test_an_archived_folder_that_was_registered_by_hand_is_known(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    put(workspace, photos(tmp_path / "a", b"one"), "captures/yard/1/")
    path = "azureml://datastores/workspaceblobstore/paths/captures/yard/1"
    workspace.client.data.create_or_update(Data(name="yard", version="first", path=path, type="uri_folder"))
    workspace.client.data.archive("yard", "first")
    [dropped] = workspace.dropped("yard")
    known = workspace.find_capture(dropped)
    assert known and known.archived and known.version == "first"
    assert workspace.take_in_dropped(dropped, {}).version == "1"


@pytest.mark.parametrize("kind", ["capture", "model"])
def test_an_archived_name_is_reported_as_archived(
    workspace: AzureMLWorkspace, trained: Trained, tmp_path: Path, kind: str
) -> None:
    job = trained("shed-train-1-aaaaaaaa")
    if kind == "capture":
        workspace.take_in("shed", photos(tmp_path / "a", b"one"), {})
        workspace.client.data.archive("shed")
        with pytest.raises(InvalidInput, match="az ml data restore --name shed"):
            workspace.take_in("shed", photos(tmp_path / "b", b"two"), {})
        assert workspace.assets("shed") == [] and workspace.find_asset("shed", "1") is None
    else:
        register(workspace, job, "shed-nerf", "1-aaaaaaaa")
        workspace.client.models.archive("shed-nerf")
        with pytest.raises(InvalidInput, match="az ml model restore --name shed-nerf"):
            register(workspace, job, "shed-nerf", "1-aaaaaaaa")


def test_an_archived_result_is_not_registered_over(workspace: AzureMLWorkspace, trained: Trained) -> None:
    job = trained("dock-render-1-aaaaaaaa")
    video = workspace.register(job, "model", "dock-video", "1-aaaaaaaa", "video", {})
    workspace.client.data.archive("dock-video", "1-aaaaaaaa")
    with pytest.raises(InvalidInput, match="dock-video:1-aaaaaaaa"):
        workspace.register(job, "model", "dock-video", "1-aaaaaaaa", "video", {})
    workspace.client.data.restore("dock-video", "1-aaaaaaaa")
    assert workspace.find_asset("dock-video", "1-aaaaaaaa") == video


@pytest.mark.timeout(120)
def test_a_number_that_is_always_taken_is_given_up(
    workspace: AzureMLWorkspace, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Assets, "_put", lambda *given: None)
    with pytest.raises(WorkspaceUnavailable):
        workspace.take_in("loop", photos(tmp_path / "a", b"one"), {})
    with pytest.raises(WorkspaceUnavailable):
        register(workspace, trained("loop-train-1-aaaaaaaa"), "loop-nerf", "1-aaaaaaaa")


def test_the_longest_names_are_within_the_services_limits(workspace: AzureMLWorkspace, trained: Trained) -> None:
    from jobs.names import SUFFIXES
    from tests.azureml import assets

    scene, version = "s" * 63, f"{10**9}-c736eabe-99"  # the billionth capture, refreshed 98 times
    stages = re.findall(r"(\w+)\.py", " ".join(path.name for path in Path("jobs").glob("*.py")))
    for ending in SUFFIXES.values():
        assert assets.NAME.fullmatch(f"{scene}{ending}")
    for stage in stages:
        assert assets.NAME.fullmatch(f"{scene}-{stage}-{version}-999")
    assert len(version) <= assets.LONGEST_DATA_VERSION
    job = trained(f"{scene}-train-{version}")
    assert register(workspace, job, f"{scene}-nerf", version).number == 1
    video = workspace.register(job, "model", f"{scene}-images-to-nerf-dataset", version, "dataset", {})
    assert video.version == version
