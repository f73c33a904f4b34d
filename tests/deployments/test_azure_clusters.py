"""Clusters, networks and identities as companies have them: what set-up sends, and what it says when Azure refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from azure.ai.ml.entities import (
    AmlCompute,
    AmlComputeSshSettings,
    IdentityConfiguration,
    ManagedIdentityConfiguration,
    NetworkSettings,
)

from deployments.azure import common
from tests.azureml.stack import AzureStack
from tests.deployments.conftest import Command

pytestmark = pytest.mark.usefixtures("prefect_server")

KEY = "ssh-ed25519 AAAA me"


@pytest.fixture
def key(tmp_path: Any) -> str:
    (tmp_path / "key.pub").write_text(f"{KEY}\n")
    return str(tmp_path / "key.pub")


def identity(stack: AzureStack) -> str:
    group = f"/subscriptions/{stack.subscription}/resourceGroups/{stack.resource_group}"
    return f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/jobs"


def subnet(stack: AzureStack) -> str:
    group = f"/subscriptions/{stack.subscription}/resourceGroups/{stack.resource_group}"
    return f"{group}/providers/Microsoft.Network/virtualNetworks/net/subnets/jobs"


def clusters(name: str) -> tuple[str, ...]:
    return ("--name", name, "--gpu-cluster", f"gpu-{name}", "--cpu-cluster", f"cpu-{name}", "--no-deploy")


def sent(stack: AzureStack, operation: str) -> list[Any]:
    return [exchange.request for exchange in stack.log if exchange.operation == operation and exchange.status < 300]


def body(stack: AzureStack, name: str) -> Any:
    return copy.deepcopy(stack._workspaces[stack.workspace].computes[name].body)


def test_only_the_scale_of_a_cluster_that_exists_is_changed(stack: AzureStack, command: Command) -> None:
    client = common.AzureOptions().open().client
    for name, size in (("cpu-scale", "Standard_D4s_v3"), ("gpu-scale", "Standard_NC4as_T4_v3")):
        assigned = [ManagedIdentityConfiguration(resource_id=identity(stack))]
        client.compute.begin_create_or_update(
            AmlCompute(
                name=name, size=size, tier="low_priority", max_instances=1, idle_time_before_scale_down=300,
                network_settings=NetworkSettings(subnet=subnet(stack)), enable_node_public_ip=False,
                ssh_settings=AmlComputeSshSettings(admin_username="me", ssh_key_value=KEY),
                ssh_public_access_enabled=False, description="ours", tags={"cost centre": "42"},
                identity=IdentityConfiguration(type="user_assigned", user_assigned_identities=assigned),
            )
        ).result()  # fmt: skip
    before, puts = body(stack, "gpu-scale"), stack.requests["PUT {ws}/computes/*"]
    status, said = command("setup", *clusters("scale"), "--nodes", "3", "--idle-minutes", "10")
    assert status == 0, said
    after = body(stack, "gpu-scale")
    scale = [each["properties"]["properties"].pop("scaleSettings") for each in (before, after)]
    assert before == after
    assert scale[1] == {"minNodeCount": 0, "maxNodeCount": 3, "nodeIdleTimeBeforeScaleDown": "PT600S"}
    assert before["identity"] and before["tags"] and before["properties"]["properties"]["subnet"]
    assert stack.requests["PUT {ws}/computes/*"] == puts
    assert len(sent(stack, "PATCH {ws}/computes/*")) == 2
    status, said = command("setup", *clusters("scale"), "--nodes", "3", "--idle-minutes", "10")
    assert status == 0 and len(sent(stack, "PATCH {ws}/computes/*")) == 2, said
    assert not stack.failures


def test_networks_and_identities_are_on_the_wire(stack: AzureStack, command: Command, key: str) -> None:
    given = ("--job-identity", identity(stack), "--subnet", "net/jobs", "--no-public-ip", "--ssh-public-key", key)
    status, said = command("setup", *clusters("net"), *given, "--image-build-cluster", "cpu-net")
    assert status == 0 and "subnet jobs, no public IP, identity jobs" in said, said
    for name in ("cpu-net", "gpu-net"):
        cluster = body(stack, name)
        inner = cluster["properties"]["properties"]
        assert cluster["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {identity(stack): {}}}
        assert inner["subnet"] == {"id": subnet(stack)} and inner["enableNodePublicIp"] is False
        assert inner["remoteLoginPortPublicAccess"] == "Disabled", "there is no public address to log in at"
    assert sent(stack, "PATCH {ws}") == [{"properties": {"imageBuildCompute": "cpu-net"}}]
    saved = common.load("net")
    assert saved.job_identity == identity(stack) and saved.ssh_public_key == KEY

    # Existing clusters are kept, in whichever form the subnet is given, and the identity is the saved one.
    less = ("--subnet", subnet(stack), "--no-public-ip", "--image-build-cluster", "cpu-net")
    status, said = command("setup", *clusters("net"), *less)
    assert status == 0 and said.count(": exists") == 6, said
    assert len(sent(stack, "PATCH {ws}")) == 1
    client_id = common.load("net").client.compute.get("gpu-net").identity.user_assigned_identities[0].clientId
    assert command("setup", *clusters("net"), "--job-identity", client_id)[0] == 0
    assert common.load("net").job_identity == client_id


def test_a_cluster_with_other_settings_is_reported(stack: AzureStack, command: Command) -> None:
    status, said = command("setup", *clusters("plain"))
    assert status == 0, said
    for option, words in (
        (("--subnet", "net/jobs"), "cpu-plain exists in no subnet"),
        (("--subnet", "net/jobs", "--no-public-ip"), "cpu-plain exists in no subnet"),
        (("--job-identity", identity(stack)), "cpu-plain exists without the managed identity /subscriptions"),
        (("--no-public-ip",), "public_ip: nodes without public IP addresses need a subnet"),
        (("--job-identity", "jobs"), "job_identity"),
        (("--subnet", "jobs"), "subnet"),
    ):
        status, said = command("setup", *clusters("plain"), *option)
        assert status in (1, 2) and words in said and "Traceback" not in said, said
    new = ("--gpu-cluster", "gpu-new", "--cpu-cluster", "gpu-new")
    status, said = command("setup", "--name", "new", *new, "--no-deploy", "--job-identity", stack.client_id)
    assert status == 1 and "a new cluster needs the identity's resource ID" in said, said


def test_an_ssh_port_that_a_policy_denies_stays_closed(stack: AzureStack, command: Command, key: str) -> None:
    with stack.faults.add("policy", "RemoteLoginPortPublicAccess") as policy:
        status, said = command("setup", *clusters("closed"), "--ssh-public-key", key)
    assert status == 0 and policy.hits == 2, said
    assert said.count("A policy denies clusters with an open ssh port") == 2
    assert "Deny-MachineLearning-ComputeCluster-RemoteLoginPortPublicAccess" in said, "Azure's own words"
    inner = body(stack, "gpu-closed")["properties"]["properties"]
    assert inner["remoteLoginPortPublicAccess"] == "Disabled" and inner["vmPriority"] == "LowPriority"
    assert common.load("closed").ssh_public_key == KEY, "for the ssh service of jobs"


def test_refusals_of_policies_storage_and_roles_are_distinguished(stack: AzureStack, command: Command) -> None:
    with stack.faults.add("policy", "SubnetId"):
        status, said = command("setup", *clusters("denied"))
    assert status == 1 and "a policy of your organization forbids it" in said and "--subnet" in said, said
    assert "Deny-MachineLearning-Compute-SubnetId" in said and "role" not in said
    for version in list(
        stack.assets("environments").get("rebel-nerf", ())
    ):  # the first upload shows what the storage refuses
        stack.delete_asset("environments", "rebel-nerf", version)
    with stack.faults.add("keyless", stack.account):
        status, said = command("setup", *clusters("keyless"))
    assert status == 1 and "Azure says: " in said and "KeyBasedAuthenticationNotPermitted" in said, said
    assert (
        f"az ml workspace update --name {stack.workspace} --resource-group nerf-group --system-datastores-auth-" in said
    )
    assert "--job-identity" in said and "lacks the role" not in said
    with stack.faults.add("forbidden", "PUT .*/computes/"):
        status, said = command("setup", *clusters("role"))
    assert status == 1 and "lacks the role «AzureML Compute Operator»" in said, said
    assert "does not have authorization to perform action" in said, "Azure's own words"
    assert said.count("Azure says") == 1 and "Data Scientist" not in said


def test_quota_that_is_missing_is_named(stack: AzureStack, command: Command) -> None:
    with stack.faults.add("quota_at_creation", "gpu-quota"):
        status, said = command("setup", *clusters("quota"), "--nodes", "2")
    assert status == 1 and "vCPU quota of 0 and cannot accomodate" in said, said
    assert "at least 8 vCPUs of «Total Cluster LowPriority Regional vCPUs»" in said and "westeurope" in said
    assert "https://ml.azure.com" in said and "az ml compute delete --name gpu-quota" in said
    status, said = command("setup", *clusters("quota"), "--nodes", "2")
    assert status == 1 and "gpu-quota could not be created (ClusterMinNodesExceedCoreQuota)" in said, said
    with stack.faults.add("quota_at_creation", "gpu-dear"):
        status, said = command("setup", *clusters("dear"), "--dedicated")
    assert "at least 4 vCPUs of «Standard NCASv3_T4 Family Cluster Dedicated vCPUs»" in said, said


def test_serverless_jobs_need_no_cluster(stack: AzureStack, command: Command) -> None:
    puts = stack.requests["PUT {ws}/computes/*"]
    given = ("--name", "serverless", "--gpu-cluster", "serverless", "--cpu-cluster", "serverless", "--no-deploy")
    status, said = command("setup", *given, "--gpu-size", "Standard_NC8as_T4_v3")
    assert status == 0 and "GPU jobs: serverless, Standard_NC8as_T4_v3, spot" in said, said
    assert stack.requests["PUT {ws}/computes/*"] == puts
    saved = common.load("serverless")
    assert (saved.gpu_size, saved.cpu_size, saved.serverless_tier) == (
        "Standard_NC8as_T4_v3",
        "Standard_D4s_v3",
        "spot",
    )
    assert saved.has_gpu()
    status, said = command("setup", "--block", "serverless", "--no-deploy", "--dedicated")
    assert status == 0, said
    saved = common.load("serverless")
    assert (saved.gpu_size, saved.serverless_tier) == ("Standard_NC8as_T4_v3", "standard")


def test_a_name_that_a_deleted_workspace_keeps_is_explained(command: Command) -> None:
    status, said = command("setup", "--workspace", "gone-workspace", "--dry-run")
    assert status == 1 and "A deleted workspace keeps its name for 14 days" in said
    assert "az ml workspace delete --name gone-workspace --resource-group nerf-group --permanently-delete" in said
