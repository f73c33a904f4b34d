"""Create and scale clusters, and compare existing ones with what is wanted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blocks.azure.errors import refusal
from jobs.errors import InvalidInput

if TYPE_CHECKING:
    from blocks.azure import AzureMLWorkspace

__all__ = ["Wanted", "check_identity", "find", "lacks_quota", "mismatch", "quota_help"]

_SCALE = ("min_instances", "max_instances", "idle_time_before_scale_down")


@dataclass(frozen=True)
class Wanted:
    """A cluster as set-up would create it.

    Args:
        name, size: its name, and its VM size.
        dedicated: whether Azure must not take its nodes away.
        nodes: the most nodes; the fewest are always 0.
        idle_seconds: the time after which a node without a job is released.
        key: the public ssh key of its nodes, if they get one.
        port: whether its ssh port is open to the internet.
        subnet: the subnet's resource ID, or "VNET/SUBNET" of the workspace's resource group; "" for none.
        public_ip: whether its nodes have public addresses.
        identity: the resource ID or client ID of its nodes' user-assigned managed identity.
    """

    name: str
    size: str
    dedicated: bool
    nodes: int
    idle_seconds: int
    key: str | None
    port: bool
    subnet: str
    public_ip: bool
    identity: str | None

    @property
    def tier(self) -> str:
        """Return the SDK's name of the tier."""
        return "dedicated" if self.dedicated else "low_priority"

    def __str__(self) -> str:
        key = "" if self.key else ": no --ssh-public-key"
        parts = [
            self.size,
            self.tier,
            f"0 to {self.nodes} nodes",
            f"{self.idle_seconds // 60} min idle",
            "ssh port open" if self.port else f"ssh port closed{key}",
            *([f"subnet {self.subnet.rpartition('/')[2]}"] if self.subnet else []),
            *([] if self.public_ip else ["no public IP"]),
            *([f"identity {self.identity.rpartition('/')[2]}"] if self.identity else []),
        ]
        return f"{self.name} ({', '.join(parts)})"

    def make(self, workspace: AzureMLWorkspace) -> None:
        """Create the cluster. If a policy denies an open ssh port, print that and create it with a closed one.

        Raises:
            HttpResponseError: Azure refuses it.
        """
        from azure.core.exceptions import HttpResponseError

        try:
            workspace.client.compute.begin_create_or_update(self._entity()).result()
        except HttpResponseError as error:
            code, words = refusal(error) or ("", "")
            about_ssh = re.search(r"remote.?login|\bssh\b", str(error), re.IGNORECASE)
            if not (self.port and code == "RequestDisallowedByPolicy" and about_ssh):
                raise
            print(
                f"  A policy denies clusters with an open ssh port, so the port of {self.name} stays closed. The "
                f"viewer of a training job goes through the job's ssh service instead. Azure says: {words}",
                flush=True,
            )
            replace(self, port=False).make(workspace)

    def is_scaled(self, found: Any) -> bool:
        """Return whether a cluster that exists has the wanted scale."""
        entity = self._entity()
        return all(getattr(found, part) == getattr(entity, part) for part in _SCALE)

    def scale(self, workspace: AzureMLWorkspace) -> None:
        """Change the scale of a cluster that exists, and nothing else.

        The SDK's own `begin_update` (azure-ai-ml 1.35.2) sends a PUT with a whole body, which drops the cluster's
        subnet, among others. https://learn.microsoft.com/rest/api/azureml/compute/update
        """
        settings = {
            "minNodeCount": 0,
            "maxNodeCount": self.nodes,
            "nodeIdleTimeBeforeScaleDown": f"PT{self.idle_seconds}S",
        }
        body = {"properties": {"properties": {"scaleSettings": settings}}}
        place = (workspace.resource_group, workspace.workspace)
        workspace.client.compute._operation.begin_update(*place, self.name, body).result()

    def _entity(self) -> Any:
        from azure.ai.ml.entities import (
            AmlCompute,
            AmlComputeSshSettings,
            IdentityConfiguration,
            ManagedIdentityConfiguration,
            NetworkSettings,
        )

        vnet, _, subnet = self.subnet.partition("/")
        by_id = self.subnet.startswith("/")
        assigned = [ManagedIdentityConfiguration(resource_id=self.identity)] if self.identity else []
        return AmlCompute(
            name=self.name,
            size=self.size,
            tier=self.tier,
            min_instances=0,
            max_instances=self.nodes,
            idle_time_before_scale_down=self.idle_seconds,
            ssh_public_access_enabled=self.port,
            ssh_settings=AmlComputeSshSettings(admin_username="azureuser", ssh_key_value=self.key)
            if self.key and self.port
            else None,
            network_settings=NetworkSettings(vnet_name=None if by_id else vnet, subnet=self.subnet if by_id else subnet)
            if self.subnet
            else None,
            enable_node_public_ip=self.public_ip,
            identity=IdentityConfiguration(type="user_assigned", user_assigned_identities=assigned)
            if assigned
            else None,
        )


def find(workspace: AzureMLWorkspace, name: str) -> Any | None:
    """Return the SDK's entity of a cluster, or None if there is none."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return workspace.client.compute.get(name)
    except ResourceNotFoundError:
        return None


def mismatch(found: Any, wanted: Wanted) -> tuple[str, str] | None:
    """Return how a cluster differs in properties that cannot be changed, and how to keep it; None if it does not."""
    if found.provisioning_state == "Failed":
        why = f" ({found.provisioning_errors})" if found.provisioning_errors else ""
        return f"could not be created{why}", "wait until the cause is fixed"
    if (found.size or "").lower() != wanted.size.lower():
        return f"exists with size {found.size}", "give that size (--gpu-size, --cpu-size)"
    if (is_tier := (found.tier or "").lower()) != wanted.tier:
        option = "--dedicated" if is_tier == "dedicated" else "--no-dedicated"
        return f"exists with tier {is_tier}, not {wanted.tier}", f"keep it with {option} for both clusters"
    subnet = (found.network_settings.subnet if found.network_settings else None) or ""
    if wanted.subnet and not f"/{subnet}".lower().endswith(_subnet_end(wanted.subnet)):
        return f"exists in {f'subnet {subnet}' if subnet else 'no subnet'}", "leave out --subnet"
    if not wanted.public_ip and found.enable_node_public_ip:
        return "exists, and its nodes have public IP addresses", "leave out --no-public-ip"
    if wanted.identity and wanted.identity.lower() not in _identities(found):
        studio = "give it that identity in the studio (Compute, the cluster, Edit, Assign a managed identity)"
        return f"exists without the managed identity {wanted.identity}", studio
    return None


def _subnet_end(given: str) -> str:
    vnet, _, subnet = given.partition("/")
    return (given if given.startswith("/") else f"/virtualNetworks/{vnet}/subnets/{subnet}").lower()


def _identities(found: Any) -> set[str]:
    """Return the resource IDs and client IDs of a cluster's user-assigned identities."""
    assigned = (found.identity.user_assigned_identities if found.identity else None) or []
    ids = [each.resource_id for each in assigned] + [vars(each).get("clientId") or each.client_id for each in assigned]
    return {str(each).lower() for each in ids if each}


def lacks_quota(error: Exception) -> bool:
    """Return whether Azure refused a cluster because the subscription's quota is too low.

    The codes differ, but the text always names the quota: https://github.com/Azure/mlops-v2/issues/81.
    """
    return "quota" in str(error).lower()


def quota_help(wanted: Wanted, family: str | None, cores: int | None, location: str) -> str:
    """Return which quota to ask for, and where.

    Args:
        wanted: the cluster that Azure did not create.
        family, cores: those of its VM size, or None if they are not known.
        location: the workspace's region.
    """
    if wanted.dedicated:
        kind = (
            f"«{family} Cluster Dedicated vCPUs»" if family else f"the dedicated quota of the family of {wanted.size}"
        )
    else:
        kind = "«Total Cluster LowPriority Regional vCPUs»"
    count = f"at least {cores * wanted.nodes} vCPUs" if cores else f"enough vCPUs for {wanted.nodes} × {wanted.size}"
    return (
        f"The subscription's quota in {location} is too low. Ask for {count} of {kind}: "
        "https://ml.azure.com, Quota, your subscription and region, Request quota. "
        "See https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas."
    )


def check_identity(wanted: Wanted) -> None:
    """Raise if only the client ID of the wanted identity is known: creating a cluster needs its resource ID."""
    if wanted.identity and not wanted.identity.startswith("/"):
        raise InvalidInput(
            f"job_identity: cluster {wanted.name} does not exist yet, and a new cluster needs the identity's resource "
            "ID, not its client ID: az identity show --name NAME --resource-group GROUP --query id --output tsv"
        )
