"""Whether two versions of a scene can be shown beside each other."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import tasks
from blocks import Asset, LocalWorkspace
from jobs.errors import InvalidInput
from jobs.options import ChangesOptions
from tasks.stages.changes import changes

DATASET = "street-images-to-nerf-dataset"


def dataset(version: str, frame: str) -> Asset:
    now = datetime.now(timezone.utc)
    tags = {"frame": frame, "scene": "street", "capture_version": version[0], "fingerprint": version}
    return Asset(name=DATASET, version=version, kind="dataset", tags=tags, uri="/", created=now)


@pytest.mark.usefixtures("prefect_server")
async def test_a_visit_in_another_frame_is_gone_on_with_alone(caplog: pytest.LogCaptureFixture) -> None:
    then = tasks.Visit(dataset("1-a", "new"), dataset("1-b", "new"))

    @flow(name="compared")
    async def compared(now: Asset) -> tasks.Visit | None:
        return await tasks.keep_comparable("street", then, now)

    assert await compared(dataset("2-a", f"{DATASET}:1-a")) == then
    assert "no comparison" not in caplog.text
    assert await compared(dataset("3-a", "new")) is None
    said = f"{DATASET}:3-a are in different scene frames"
    assert said in caplog.text
    async with get_client() as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=["street-then"]))
        [artifact] = await client.read_artifacts(artifact_filter=chosen)
    assert said in str(artifact.data) and f"{DATASET}:3-a gets its own video" in str(artifact.data)
    with pytest.raises(InvalidInput, match="frames"):
        tasks.check_same_frame("street", then, dataset("3-a", "new"))


async def test_changes_need_two_visits() -> None:
    then = tasks.Visit(dataset("1-a", "new"), dataset("1-b", "new"))
    again = tasks.Visit(then.dataset, dataset("1-c", "new"))
    workspace = LocalWorkspace(root="/nowhere")
    assert await tasks.find_changes(workspace, None, then) == []
    assert await tasks.find_changes(workspace, then, again) == [], "two models of the same photos"


def test_the_job_of_changes_takes_what_its_plan_gives() -> None:
    from jobs.changes import Job

    then = tasks.Visit(dataset("1-a", "new"), dataset("1-b", "new"))
    now = tasks.Visit(dataset("2-a", f"{DATASET}:1-a"), dataset("2-b", "new"))
    alone, measured = (changes.plan(then, now, metres) for metres in (None, dataset("1-e", "new")))
    given = {name for name in measured.spec(1).arguments if name.startswith("--")}
    assert {name.removeprefix("--") for name in given} == set(Job.model_fields) - set(ChangesOptions.model_fields)
    assert "--metres" not in alone.spec(1).arguments and alone.fingerprint != measured.fingerprint
    assert alone.fingerprint != changes.plan(now, then).fingerprint, "what is new one way is gone the other way"


def test_a_model_is_not_compared_with_itself() -> None:
    then = tasks.Visit(dataset("1-a", "new"), dataset("1-b", "new"))
    tasks.check_other_model("street", None, then.model)
    tasks.check_other_model("street", then, dataset("1-c", "new"))
    with pytest.raises(InvalidInput, match="scene street: .*:1-b"):
        tasks.check_other_model("street", then, dataset("1-b", "new"))
