"""Clusters: a PUT makes or replaces one, a PATCH scales it; quota and policies can refuse it."""

from __future__ import annotations

import re
import uuid

from tests.azureml import policies, recordings
from tests.azureml.arm import Arm, route
from tests.azureml.bodies import SOON, Json, invalid, now, only, resource
from tests.azureml.members import VM_SIZES
from tests.azureml.runner import Cluster
from tests.azureml.service import Answer, Refusal, Request
from tests.azureml.state import Workspace

_DEDICATED, _LOW_PRIORITY = "Total Cluster Dedicated Regional vCPUs", "Total Cluster Low Priority Regional vCPUs"
_IDENTITY = re.compile(
    "/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.ManagedIdentity/userAssignedIdentities/[^/]+", re.I
)


@route("PUT", r"\{ws\}/computes/([^/]+)")
def _put_compute(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    body = only(request.body, "ComputeResource", request)
    outer = only(body["properties"], "AmlCompute", request)
    inner = only(outer["properties"], "AmlComputeProperties", request)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,31}", name):
        raise invalid(f"Compute name '{name}' must be 2 to 32 letters, digits, and '-', starting with a letter.")
    if inner["vmSize"].lower() not in {size["name"].lower() for size in VM_SIZES}:
        raise Refusal(400, "UserError", f"VM size {inner['vmSize']} is not supported in {ws.location}.")
    policies.check(name, inner, arm.faults)
    if inner.get("enableNodePublicIp") is False and not inner.get("subnet"):
        # https://github.com/hashicorp/terraform-provider-azurerm/pull/26073 (this workspace has no managed network)
        raise Refusal(400, "BadRequest", f"Compute {name} without public IP needs a subnet or a managed network.")
    for identity in (body.get("identity") or {}).get("userAssignedIdentities") or {}:
        if not _IDENTITY.fullmatch(identity):
            raise Refusal(400, "InvalidIdentityValues", f"Invalid value for the identities '{identity}'.")
    known = ws.computes.get(name)
    if known:
        if known.body["properties"]["properties"]["vmSize"].lower() != inner["vmSize"].lower():
            raise Refusal(400, "UserError", f"The vmSize of compute {name} cannot be changed.", inner=("Immutable",))
        known.body = body
    else:
        ws.computes[name] = Cluster(body, now())
    if not known and arm.faults.take("quota_at_creation", name):
        ws.computes[name].failed = "ClusterMinNodesExceedCoreQuota"
    state = "Updating" if known else "Creating"
    headers = _under_way(arm, ws, ws.computes[name])
    return Answer(_compute_body(ws, name, state), 200 if known else 201, headers)


@route("PATCH", r"\{ws\}/computes/([^/]+)")
def _patch_compute(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    """Change the scale, and nothing else: https://learn.microsoft.com/rest/api/azureml/compute/update"""
    cluster = _cluster(ws, name)
    outer = only(request.body, "ClusterUpdateParameters", request)["properties"]
    given = only(only(outer, "ClusterUpdateProperties", request)["properties"], "ScaleSettingsInformation", request)
    only(given["scaleSettings"], "ScaleSettings", request)
    cluster.body["properties"]["properties"]["scaleSettings"] = given["scaleSettings"]
    return Answer(_compute_body(ws, name, "Updating"), 200, _under_way(arm, ws, cluster))


def _under_way(arm: Arm, ws: Workspace, cluster: Cluster) -> dict[str, str]:
    """Return the headers of an answer whose operation goes on."""
    key = str(uuid.uuid4())
    arm.operations[key] = (0, cluster)
    url = f"{arm.url(ws)}/computeOperationsStatus/{key}?api-version=2023-08-01-preview"
    return {"Azure-AsyncOperation": url, **SOON}


@route("GET", r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/computeOperationsStatus/([^/]+)")
def _operation(arm: Arm, request: Request, key: str) -> Answer:
    asked, cluster = arm.operations[key]
    arm.operations[key] = (asked + 1, cluster)
    if not asked:
        return Answer({"status": "InProgress"}, headers=SOON)
    if cluster.failed:  # its words: https://github.com/Azure/mlops-v2/issues/81, ansible-collections/azure#2209
        size = cluster.body["properties"]["properties"]["vmSize"]
        cores = next(each["vCPUs"] for each in VM_SIZES if each["name"].lower() == size.lower())
        message = (
            "The specified subscription has a total vCPU quota of 0 and cannot accomodate for at least 1 requested "
            f"managed compute node which maps to {cores} vCPUs."
        )
        return Answer({"status": "Failed", "error": {"code": cluster.failed, "message": message}})
    return Answer({"status": "Succeeded"})


def _compute_body(ws: Workspace, name: str, state: str = "Succeeded") -> Json:
    cluster = _cluster(ws, name)
    outer, inner = cluster.body["properties"], cluster.body["properties"]["properties"]
    known = recordings.properties("PUT {ws}/computes/*", 201)
    properties = known["properties"] | {
        **{name: value for name, value in inner.items() if name != "userAccountCredentials"},
        "vmSize": inner["vmSize"].upper(),
        "errors": cluster.errors,
    }
    if state != "Creating":
        none = ("preparing", "idle", "unusable", "leaving", "preempted")
        counts = {**{f"{kind}NodeCount": 0 for kind in none}, "runningNodeCount": len(cluster.nodes)}
        target = min(len(cluster.nodes) + len(cluster.waiting), cluster.most_nodes)
        properties |= {"currentNodeCount": len(cluster.nodes), "targetNodeCount": target}
        properties |= {"nodeStateCounts": counts, "allocationState": "Steady"}
    if user := inner.get("userAccountCredentials"):
        properties["userAccountCredentials"] = {"adminUserName": user["adminUserName"]}
    if state == "Succeeded" and cluster.failed:
        state = "Failed"
        known["provisioningErrors"] = [{"error": {"code": cluster.failed, "message": "no quota"}}]
    whole = known | {
        "createdOn": cluster.created,
        "modifiedOn": cluster.created,
        "disableLocalAuth": outer.get("disableLocalAuth", False),
        "description": outer.get("description"),
        "provisioningState": state,
        "properties": properties,
    }
    body = resource(ws, "computes", name, whole, {})
    del body["systemData"]
    identity = cluster.body.get("identity")
    if identity and identity.get("userAssignedIdentities"):
        known_by = {"principalId": _guid("principal"), "clientId": _guid("client")}
        identity = {
            **identity,
            "userAssignedIdentities": dict.fromkeys(identity["userAssignedIdentities"], known_by),
        }
    return {**body, "location": ws.location, "tags": cluster.body.get("tags"), "identity": identity}


def _cluster(ws: Workspace, name: str) -> Cluster:
    if name not in ws.computes:
        message = f"Could not find compute with name {name} in workspace {ws.name}."
        raise Refusal(404, "ResourceNotFound", message, [("ComputeNotFound", message)])
    return ws.computes[name]


@route("GET", r"\{ws\}/computes/([^/]+)")
def _get_compute(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    return Answer(_compute_body(ws, name))


@route("GET", r"\{ws\}/computes")
def _list_computes(arm: Arm, request: Request, ws: Workspace) -> Answer:
    return Answer({"value": [_compute_body(ws, name) for name in ws.computes]})


@route("POST", r"\{ws\}/computes/([^/]+)/listNodes")
def _nodes(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    cluster, (host, port) = _cluster(ws, name), arm.node_address
    public = cluster.body["properties"]["properties"].get("remoteLoginPortPublicAccess") == "Enabled"
    nodes = [
        {
            "nodeId": f"tvmps_{index:064x}_p",
            "privateIpAddress": f"10.0.0.{index + 4}",
            "publicIpAddress": host if public else None,
            "port": port + index if public else None,
            "nodeState": "running",
            "runId": job,
        }
        for index, job in enumerate(cluster.nodes)
    ]
    return Answer({"nodes": nodes, "nextLink": None})


@route("GET", r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/vmSizes")
def _sizes(arm: Arm, request: Request) -> Answer:
    return Answer({"value": VM_SIZES})


@route("GET", r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/usages")
def _usages(arm: Arm, request: Request) -> Answer:
    """Return the quota of the region: https://learn.microsoft.com/rest/api/azureml/usages/list.

    Nodes of no cluster count, only those that run: an idle cluster uses 0 of it.
    """
    cores = {size["name"].lower(): size for size in VM_SIZES}
    used: dict[str, int] = {}
    for ws in arm.workspaces.values():
        for cluster in ws.computes.values():
            inner = cluster.body["properties"]["properties"]
            size = cores[inner["vmSize"].lower()]
            low = inner.get("vmPriority", "Dedicated").lower() == "lowpriority"
            names = [_LOW_PRIORITY] if low else [f"{_spaced(size['family'])} Cluster Dedicated vCPUs", _DEDICATED]
            for name in names:
                used[name] = used.get(name, 0) + size["vCPUs"] * len(cluster.nodes)
    families = sorted({f"{_spaced(size['family'])} Cluster Dedicated vCPUs" for size in VM_SIZES})
    value = []
    for name in [_DEDICATED, _LOW_PRIORITY, *families]:
        limit = 0 if arm.faults.take("no_quota", name) else 100
        about = {"value": name, "localizedValue": name}
        kind = "Microsoft.MachineLearningServices/dedicatedCores/usages"
        counts = {"currentValue": used.get(name, 0), "limit": limit, "unit": "Count"}
        value.append({"id": f"{request.path}/{name}", "type": kind, "name": about, **counts})
    return Answer({"value": value})


def _spaced(family: str) -> str:
    """Return a family's name as quotas have it: "Standard NCSv3 Family" of "standardNCSv3Family"."""
    found = re.fullmatch(r"standard ?(.*?) ?family", family, re.I)
    return f"Standard {found[1]} Family" if found else family


def _guid(of: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, of))
