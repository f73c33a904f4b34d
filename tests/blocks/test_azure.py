"""An Azure ML workspace, through the real SDKs, on the emulator; its jobs and its blobs are real."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Environment
from azure.identity import ClientSecretCredential
from pydantic import SecretStr

from blocks import JobSpec, JobState
from blocks.azure import AzureCredential, AzureMLWorkspace
from jobs.errors import InvalidInput, NotFound
from tests.azureml.plugin import azure_environment, azure_stack
from tests.azureml.stack import AzureStack

__all__ = ["azure_environment", "azure_stack"]


@pytest.fixture
def stack(azure_environment: AzureStack) -> AzureStack:
    client = MLClient(
        ClientSecretCredential(
            azure_environment.tenant, azure_environment.client_id, azure_environment.client_secret
        ),
        azure_environment.subscription, azure_environment.resource_group, azure_environment.workspace,
    )  # fmt: skip
    client.environments.create_or_update(Environment(name="rebel-nerf", version="1", image="ubuntu"))
    return azure_environment


@pytest.fixture
def workspace(stack: AzureStack, tmp_path: Path) -> AzureMLWorkspace:
    credential = AzureCredential(
        method="service principal",
        tenant_id=stack.tenant,
        client_id=stack.client_id,
        client_secret=SecretStr(stack.client_secret),
    )
    return AzureMLWorkspace(
        credential=credential,
        subscription_id=stack.subscription,
        resource_group=stack.resource_group,
        workspace=stack.workspace,
        cache=tmp_path / "cache",
    )


def facade(name: str, attempt: int = 1, **more: object) -> JobSpec:
    given = {"family": name, "scene": "street", "stage": "facade", "outputs": ("capture",), "tier": "cpu"}
    size = ("--photos", "8", "--width", "64", "--height", "48")
    arguments = ("--output", "{outputs.capture}", *size)
    return JobSpec.model_validate({**given, "arguments": arguments, "attempt": attempt, **more})


def wait(workspace: AzureMLWorkspace, job: JobSpec, seconds: float = 120) -> JobState:
    deadline = time.monotonic() + seconds
    while not (status := workspace.find_job(job.name)) or not status.state.ended:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
    return status.state


def test_a_workspace_that_is_in_order(workspace: AzureMLWorkspace) -> None:
    workspace.check()
    assert workspace.has_gpu()


def test_a_job_runs_to_its_end_and_its_output_becomes_an_asset(workspace: AzureMLWorkspace) -> None:
    job = facade("street-facade-1-abcd")
    assert workspace.find_job(job.name) is None
    submitted = workspace.submit(job)
    assert submitted.url.startswith("https://ml.azure.com/runs/street-facade-1-abcd-1")
    assert workspace.submit(job).name == job.name
    state = wait(workspace, job)
    text, offset = workspace.read_log(job.name, 0)
    assert state is JobState.COMPLETED, text
    assert '{"stage"' in text and text.endswith("\n")
    assert workspace.read_log(job.name, offset) == ("", offset)

    asset = workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {"scene": "street"})
    assert (asset.kind, asset.tags) == ("dataset", {"scene": "street"})
    assert workspace.find_asset("street-photos", "1-abcd") == asset
    assert workspace.register(job, "capture", "street-photos", "1-abcd", "dataset", {}) == asset
    assert workspace.assets("street-photos") == [asset]
    folder = workspace.fetch(asset)
    assert len(list((folder / "photos").glob("*.jpg"))) == 8
    assert (folder / "truth.json").is_file()
    assert workspace.fetch(asset) == folder
