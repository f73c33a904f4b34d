"""The user is told why Azure ML refuses a request, and that it does not answer."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.core.exceptions import ARMErrorFormat

from blocks.azure import AzureMLWorkspace
from blocks.azure.errors import plain_errors, translate
from jobs.errors import InvalidInput, WorkspaceUnavailable
from tests.azure_fixtures import photos, sketch, stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


def test_a_missing_role(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    with stack.faults.add("forbidden"), pytest.raises(InvalidInput, match="AzureML Data Scientist"):
        workspace.check()
    with (
        stack.faults.add("forbidden", "PUT .*/jobs/"),
        pytest.raises(InvalidInput, match="barred-1.*AzureML Data Scientist"),
    ):
        workspace.submit(sketch("barred"))


@pytest.mark.parametrize(
    ("kind", "role", "code"),
    [
        ("linked", "Managed Identity Operator", "LinkedAuthorizationFailed.*userAssignedIdentities/assign/action"),
        ("forbidden", "AzureML Data Scientist", "AuthorizationFailed.*jobs/write"),
    ],
)
def test_a_refusal_is_reported_with_its_reason(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, role: str, code: str
) -> None:
    with (
        stack.faults.add(kind, "PUT .*/jobs/"),
        pytest.raises(InvalidInput, match=f"barred-1.*{role}.*{code}") as error,
    ):
        workspace.submit(sketch("barred"))
    assert ("Data Scientist" in str(error.value)) == (kind == "forbidden")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            "keyless",
            "--system-datastores-auth-mode identity.*KeyBasedAuthenticationNotPermitted, HTTP 403",
        ),
        (
            "firewall",
            "network rules.*AuthorizationFailure",
        ),
        ("read_only_sas", "Storage Blob Data Contributor.*PermissionMismatch"),
    ],
)
def test_a_refusal_of_storage_is_reported_with_its_reason(
    workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path, kind: str, reason: str
) -> None:
    given = photos(tmp_path / "a", b"one")
    with stack.faults.add(kind), pytest.raises(InvalidInput, match=reason) as error:
        workspace.take_in("barred", given, {})
    assert "sig=" not in str(error.value) and "Data Scientist" not in str(error.value)


@pytest.mark.parametrize(("kind", "reason"), [("keyless", "auth-mode identity"), ("firewall", "network rules")])
def test_a_refusal_met_by_the_sdk_is_reported_with_its_reason(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, reason: str
) -> None:
    job = sketch(kind, files={"new.txt": str(time.time_ns())})  # else the SDK finds the code uploaded
    with stack.faults.add(kind), pytest.raises(InvalidInput, match=f"{kind}-1.*{reason}"):
        workspace.submit(job)


def test_a_refusal_that_the_sdk_wraps_in_a_bare_exception(
    workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path
) -> None:
    from azure.ai.ml.entities import BuildContext, Environment

    (tmp_path / "Dockerfile").write_text(f"FROM ubuntu\n# {time.time_ns()}")
    environment = Environment(name="keyless", version="1", build=BuildContext(path=tmp_path))
    with (
        stack.faults.add("keyless"),
        pytest.raises(InvalidInput, match="^environment: .*auth-mode identity"),
        plain_errors("environment"),
    ):
        workspace.client.environments.create_or_update(environment)


def test_a_policy_that_denies_a_cluster_is_named(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    from azure.ai.ml.entities import AmlCompute

    policy = "Deny-MachineLearning-Compute-SubnetId"
    cluster = AmlCompute(name="denied", size="Standard_DS2_v2")
    reason = f"policy.*{policy}.*Company guardrails.*RequestDisallowedByPolicy"
    with (
        stack.faults.add("policy", policy),
        pytest.raises(InvalidInput, match=f"^cluster denied: .*{reason}"),
        plain_errors("cluster denied"),
    ):
        workspace.client.compute.begin_create_or_update(cluster).result()


def test_a_policy_is_named_however_much_azure_says_of_it() -> None:
    fault = ARMErrorFormat(
        {
            "code": "Failed",
            "message": "x" * 5000 + " sig=secret",
            "details": [
                {
                    "code": "RequestDisallowedByPolicy",
                    "message": "no",
                    "additionalInfo": [{"type": "PolicyViolation", "info": {"policyDefinitionName": "Deny-All"}}],
                }
            ],
        }
    )
    error = HttpResponseError("no")
    error.error, error.status_code = fault, 200  # as at the end of a long-running operation
    said = str(translate(error, "cluster gpu"))
    assert said.startswith("cluster gpu: ") and "Deny-All" in said
    assert len(said) < 2000


@pytest.mark.parametrize("kind", ["unavailable", "throttle"])
def test_a_service_that_does_not_answer(
    workspace: AzureMLWorkspace, stack: AzureStack, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.check()
    with stack.faults.add(kind, times=2):
        assert workspace.find_job("nothing") is None
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with stack.faults.add(kind), pytest.raises(WorkspaceUnavailable, match="job nothing: "):
        workspace.find_job("nothing")


def test_a_proxy_that_refuses_or_cuts(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    workspace.check()
    for kind in ("refuse", "cut"):
        with stack.faults.add(kind, "management", times=1):
            assert workspace.find_job("nothing") is None


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), WorkspaceUnavailable),
        (ConnectionResetError("cut"), WorkspaceUnavailable),
        (ssl.SSLCertVerificationError("self-signed certificate"), InvalidInput),
        (ValueError("no such folder"), InvalidInput),
    ],
)
def test_a_fault_wrapped_by_the_sdk_is_reported_by_its_cause(cause: Exception, expected: type[Exception]) -> None:
    """As when the connection breaks while a job's code is uploaded."""
    from azure.ai.ml.exceptions import AssetException

    with pytest.raises(expected, match="^submitting job a-1: "), plain_errors("submitting job a-1"):
        raise AssetException(f"Error with code: {cause}", "Error getting code asset") from cause
