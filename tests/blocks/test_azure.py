"""An Azure ML workspace, through the real SDKs, on the emulator; its jobs and its blobs are real."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from blocks import JobState
from blocks.azure import AzureCredential, AzureMLWorkspace
from jobs.errors import InvalidInput, NotFound
from tests.azure_fixtures import sketch, stack, wait, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


def test_a_workspace_that_is_in_order(workspace: AzureMLWorkspace) -> None:
    workspace.check()
    assert workspace.has_gpu()


def test_a_job_runs_to_its_end_and_its_output_becomes_an_asset(workspace: AzureMLWorkspace) -> None:
    job = sketch("street-sketch-1-abcd")
    assert workspace.find_job(job.name) is None
    submitted = workspace.submit(job)
    assert submitted.url.startswith("https://ml.azure.com/runs/street-sketch-1-abcd-1")
    assert workspace.submit(job).name == job.name
    state = wait(workspace, job)
    text, offset = workspace.read_log(job.name, 0)
    assert state is JobState.COMPLETED, text
    assert '{"stage"' in text and text.endswith("\n")
    assert workspace.read_log(job.name, offset) == ("", offset)

    with pytest.raises(NotFound, match="video"):
        workspace.output_sizes(job.name, "video")
    sizes = workspace.output_sizes(job.name, "capture")
    assert sizes["truth.json"] > 0 and len([name for name in sizes if name.startswith("photos/")]) == 8
    asset = workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {"scene": "street"})
    assert (asset.kind, asset.tags) == ("dataset", {"scene": "street"})
    assert workspace.find_asset("street-photos", "1-abcd") == asset
    assert workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {}) == asset
    assert workspace.assets("street-photos") == [asset]
    folder = workspace.fetch(asset)
    assert len(list((folder / "photos").glob("*.jpg"))) == 8
    assert (folder / "truth.json").is_file()
    assert workspace.fetch(asset) == folder


@pytest.mark.parametrize("block", [AzureCredential, AzureMLWorkspace])
def test_every_field_says_what_it_is(block: type[AzureCredential] | type[AzureMLWorkspace]) -> None:
    assert all(field.description for field in block.model_fields.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subscription_id", "mine"),
        ("resource_group", ""),
        ("workspace", "x"),
        ("gpu_cluster", "gpu cluster"),
        ("environment", "a:b:c"),
        ("captures", "../x"),
        ("ssh_public_key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ],
)
def test_a_wrong_field_is_named_when_the_block_is_created(workspace: AzureMLWorkspace, field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AzureMLWorkspace.model_validate({**workspace.model_dump(), "credential": workspace.credential, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workspace", "other"),
        ("resource_group", "other"),
        ("subscription_id", "00000000-0000-0000-0000-000000000000"),
        ("cpu_cluster", "nowhere"),
        ("gpu_cluster", "nowhere"),
        ("environment", "nothing"),
        ("environment", "rebel-nerf:99"),
        ("datastore", "nothing"),
    ],
)
def test_a_field_that_names_nothing(workspace: AzureMLWorkspace, field: str, value: str) -> None:
    wrong = AzureMLWorkspace.model_validate({**dict(workspace), field: value})
    with pytest.raises(InvalidInput, match=f"{field}: "):
        wrong.check()


def test_blocks_can_be_copied_and_sent_elsewhere(workspace: AzureMLWorkspace) -> None:
    workspace.check()
    assert copy.deepcopy(workspace).client is workspace.client
    other = pickle.loads(pickle.dumps(workspace))
    assert other.client is not workspace.client
    other.check()


def test_the_sdk_is_imported_when_it_is_used() -> None:
    program = "import blocks, sys; assert not {'azure.ai', 'azure.identity', 'azure.storage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_who_waits_for_a_job(workspace: AzureMLWorkspace) -> None:
    for job, run in (("street-1", "a"), ("street-1", "b"), ("street-11", "a")):
        workspace.follow(job, run)
    workspace.follow("street-1", "a")  # again, at each poll
    found = {job: ages for job, ages in workspace.followers().items() if job.startswith("street-1")}
    assert {job: set(ages) for job, ages in found.items()} == {"street-1": {"a", "b"}, "street-11": {"a"}}
    assert all(-2 < age < 60 for ages in found.values() for age in ages.values())
    workspace.unfollow("street-1", "a")
    workspace.unfollow("street-1", "never there")
    assert {job: set(ages) for job, ages in workspace.followers("street-1").items()} == {"street-1": {"b"}}
    for job, run in (("street-1", "b"), ("street-11", "a")):
        workspace.unfollow(job, run)
    assert not workspace.followers().keys() & {"street-1", "street-11"}


def test_no_secret_reaches_a_job(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    workspace.submit(sketch("street-secret"))
    said = "".join(f"{exchange.operation}{exchange.request}" for exchange in stack.log if "/jobs" in exchange.operation)
    assert stack.client_secret not in said
    assert "sig=" not in said
