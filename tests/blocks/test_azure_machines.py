"""Which machine a job asks for, and as whom it runs: what is on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from blocks.azure import AzureMLWorkspace
from blocks.records import JobSpec, JobState
from jobs.errors import InvalidInput
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]

CLIENT = "11111111-1111-1111-1111-111111111111"
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/jobs"


def run(stack: AzureStack, workspace: AzureMLWorkspace, scene: str, tier: Any = "gpu") -> dict[str, Any]:
    """Run a job that only shows its help; what was sent for it."""
    spec = JobSpec(family=f"{scene}-page", attempt=1, scene=scene, stage="page", arguments=("--help",), tier=tier)
    status = workspace.submit(spec)
    assert status.state in (JobState.QUEUED, JobState.RUNNING)
    job = stack.wait(spec.name)
    found = workspace.find_job(spec.name)
    assert found and found.state is JobState.COMPLETED, found
    return job.request


def test_a_serverless_job_names_its_machine(stack: AzureStack, workspace: AzureMLWorkspace) -> None:
    sizes = {"gpu_size": "Standard_NC4as_T4_v3", "cpu_size": "Standard_D4s_v3"}
    serverless = workspace.model_copy(
        update={"gpu_cluster": "serverless", "cpu_cluster": "serverless", "ssh_public_key": "ssh-rsa A me", **sizes}
    )
    serverless.check()
    sent = run(stack, serverless, "serverless-gpu")
    assert sent.get("computeId") is None and sent["resources"]["instanceType"] == sizes["gpu_size"]
    assert sent["queueSettings"] == {"jobTier": "Spot"} and sent["services"]["ssh"]["jobServiceType"] == "SSH"
    standard = serverless.model_copy(update={"serverless_tier": "standard"})
    sent = run(stack, standard, "serverless-cpu", "cpu")
    assert sent["resources"]["instanceType"] == sizes["cpu_size"] and sent["queueSettings"] == {"jobTier": "Standard"}
    missing = serverless.model_copy(update={"gpu_size": "Standard_ND99"})
    with pytest.raises(InvalidInput, match="Standard_ND99"):
        run(stack, missing, "serverless-missing")
    with pytest.raises(ValidationError, match="gpu_size"):
        AzureMLWorkspace.model_validate({**dict(workspace), "gpu_cluster": "serverless"})


def test_a_job_on_a_cluster_names_no_machine(stack: AzureStack, workspace: AzureMLWorkspace) -> None:
    sent = run(stack, workspace, "on-a-cluster")
    assert sent["computeId"].endswith("/computes/gpu-cluster") and not sent.get("queueSettings")
    assert "instanceType" not in sent["resources"] and not sent.get("identity")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (IDENTITY, {"identityType": "Managed", "resourceId": IDENTITY}),
        (CLIENT, {"identityType": "Managed", "clientId": CLIENT}),
    ],
)  # fmt: skip
def test_a_job_runs_as_the_managed_identity(
    stack: AzureStack, workspace: AzureMLWorkspace, given: str, sent: dict[str, str]
) -> None:
    changed = AzureMLWorkspace.model_validate({**dict(workspace), "job_identity": given})
    request = run(stack, changed, f"identity-{'client' if 'clientId' in sent else 'resource'}")
    assert {key: value for key, value in request["identity"].items() if value} == sent


def test_an_identity_is_named_by_its_resource_or_client_id(workspace: AzureMLWorkspace) -> None:
    with pytest.raises(ValidationError, match="job_identity"):
        AzureMLWorkspace.model_validate({**dict(workspace), "job_identity": "jobs"})


def test_another_block_takes_over_a_job_without_a_node(stack: AzureStack, workspace: AzureMLWorkspace) -> None:
    """A second block names a dedicated cluster, as the README advises if no low-priority node is available."""
    first = JobSpec(
        family="no-node-page", attempt=1, scene="no-node", stage="page", arguments=("--help",), scratch=("training",)
    )
    second = first.model_copy(update={"attempt": 2})
    with stack.faults.add("quota", first.name):
        workspace.submit(first)
        stack.wait(first.name, "Queued")
        workspace.cancel(first.name)
    dedicated = workspace.model_copy(update={"gpu_cluster": "cpu-cluster"})
    found = dedicated.find_job(first.name)
    assert found and found.state is JobState.CANCELED
    dedicated.submit(second)
    assert stack.wait(second.name).status == "Completed"
    sent = [stack.jobs[spec.name].request for spec in (first, second)]
    assert [each["computeId"].rpartition("/")[2] for each in sent] == ["gpu-cluster", "cpu-cluster"]
    assert sent[0]["outputs"]["training"] == sent[1]["outputs"]["training"], "the same checkpoints"
