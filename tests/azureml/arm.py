"""Azure Resource Manager: finds the workspace that a request is about, and answers for it and its datastores.

Assets, jobs, run history, clusters and metrics have modules of their own, which add their routes to `route`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from tests.azureml import recordings
from tests.azureml.bodies import TYPE, Json, not_found, only, resource, system_data
from tests.azureml.faults import Faults
from tests.azureml.runner import Cluster, Job
from tests.azureml.service import Answer, Refusal, Request, Router
from tests.azureml.state import Workspace

route = Router()


class Arm:
    """Answers for management.azure.com and <region>.api.azureml.ms; `start` runs a job that was accepted."""

    def __init__(
        self, base: str, workspaces: dict[str, Workspace], tenant: str, faults: Faults, start: Callable[[Job], None]
    ) -> None:
        self.base, self.workspaces, self.tenant = base, workspaces, tenant
        self.faults, self.start = faults, start
        self.node_address = ("127.0.0.1", 50000)
        self.operations: dict[str, tuple[int, Cluster]] = {}
        """Operations on clusters by their keys: how often each was polled, and its cluster."""

    def answer(self, request: Request) -> Answer | None:
        """Return the answer, or None for an unknown path."""
        if self.faults.take("forbidden", f"{request.method} {request.path}"):
            raise Refusal(
                403,
                "AuthorizationFailed",
                f"The client '0' with object id '0' does not have authorization to perform action '{TYPE}/"
                f"{request.path.split('/')[-2]}/{'read' if request.method == 'GET' else 'write'}' over scope "
                f"'{request.path}' or the scope is invalid. If access was recently granted, please "
                "refresh your credentials.",
            )
        if self.faults.take("linked", f"{request.method} {request.path}"):
            identity = "Microsoft.ManagedIdentity/userAssignedIdentities"
            raise Refusal(  # https://github.com/Azure/aad-pod-identity/issues/613
                403,
                "LinkedAuthorizationFailed",
                f"The client '0' with object id '0' has permission to perform action '{TYPE}/computes/write' on scope "
                f"'{request.path}'; however, it does not have permission to perform action '{identity}/assign/action' "
                f"on the linked scope(s) '{self.base.partition('/providers')[0]}/providers/{identity}/jobs' or the "
                "linked scope(s) are invalid.",
            )
        service = "(?:/(?:history|data|mlflow)/v1.0)?"
        found = re.fullmatch(rf"{service}({self.base})/([^/]+)(/.*)?", request.path, re.I)
        if found:
            workspace = self.workspaces.get(found[2])
            if workspace is None:
                raise Refusal(404, "ResourceNotFound", f"The Resource '{TYPE}/{found[2]}' under resource group "
                              f"'{self.base.split('/')[4]}' was not found.")  # fmt: skip
            request.headers["path"] = request.path
            prefix = request.path.split("/subscriptions/")[0]
            request.path = f"{prefix}{{ws}}{found[3] or ''}"
            if handler := route.find(request):
                with workspace.lock:
                    return handler[0](self, request, workspace, *handler[1])
        elif request.path.startswith(f"/subscriptions/{self.base.split('/')[2]}/providers/"):
            if handler := route.find(request):
                return handler[0](self, request, *handler[1])
        elif sub := re.match(r"/subscriptions/([^/]+)(/resourceGroups/([^/]+))?", request.path, re.I):
            if sub[1] != self.base.split("/")[2]:
                raise Refusal(404, "SubscriptionNotFound", f"The subscription '{sub[1]}' could not be found.")
            raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{sub[3]}' could not be found.")
        return None

    def url(self, ws: Workspace) -> str:
        """Return the URL under which the region keeps long-running operations."""
        provider = f"{self.base.split('/resourceGroups')[0]}/providers/Microsoft.MachineLearningServices"
        return f"https://management.azure.com{provider}/locations/{ws.location}"


@route("GET", r"\{ws\}")
def _workspace(arm: Arm, request: Request, ws: Workspace) -> Answer:
    other, host = arm.base.rpartition("/providers")[0] + "/providers", f"{ws.location}.api.azureml.ms"
    properties = recordings.properties("GET {ws}") | {
        "friendlyName": ws.name,
        "storageAccount": f"{other}/Microsoft.Storage/storageAccounts/{ws.storage.account}",
        "tenantId": arm.tenant,
        "workspaceId": ws.id,
        "discoveryUrl": f"https://{host}/discovery",
        "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{ws.base}",
        **ws.changed,
    }
    body: Json = {"id": ws.base, "name": ws.name, "type": TYPE, "location": ws.location, "tags": {}, "etag": None}
    identity = {"type": "SystemAssigned", "principalId": "0", "tenantId": arm.tenant}
    sku = {"kind": "Default", "sku": {"name": "Basic", "tier": "Basic"}}
    return Answer({**body, **sku, "properties": properties, "identity": identity, "systemData": system_data()})


@route("PATCH", r"\{ws\}")
def _patch_workspace(arm: Arm, request: Request, ws: Workspace) -> Answer:
    given = only(request.body, "WorkspaceUpdateParameters", request).get("properties") or {}
    ws.changed |= only(given, "WorkspacePropertiesUpdateParameters", request)
    return _workspace(arm, request, ws)


def _datastore(arm: Arm, ws: Workspace, name: str) -> Json:
    if name not in ws.storage.containers:
        raise not_found("DataStoreNotFound", f"Could not find datastore: {name}")
    where = arm.base.split("/")
    properties = recordings.properties("GET {ws}/datastores/*") | {
        "isDefault": name == "workspaceblobstore",
        "subscriptionId": where[2],
        "resourceGroup": where[4],
        "accountName": ws.storage.account,
        "containerName": ws.storage.containers[name],
    }
    if name in ws.storage.by_identity:
        properties["credentials"] = {"credentialsType": "None"}
    return resource(ws, "datastores", name, properties, system_data(modified="Application"))


@route("GET", r"\{ws\}/datastores")
def _datastores(arm: Arm, request: Request, ws: Workspace) -> Answer:
    names = [name for name in ws.storage.containers
             if request.query.get("isDefault") != "true" or name == "workspaceblobstore"]  # fmt: skip
    return Answer({"value": [_datastore(arm, ws, name) for name in names]})


@route("GET", r"\{ws\}/datastores/([^/]+)")
def _get_datastore(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    return Answer(_datastore(arm, ws, name))


@route("POST", r"\{ws\}/datastores/([^/]+)/listSecrets")
def _secrets(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    _datastore(arm, ws, name)
    if name in ws.storage.by_identity:
        raise Refusal(400, "UserError", f"The datastore {name} has no secrets.")
    only(request.body or {}, "DatastoreSecretsRequest", request)
    if arm.faults.take("account_key", name):
        return Answer({"secretsType": "AccountKey", "key": ws.storage.key})
    hours = (request.body or {}).get("expireAfterHours", 1)
    fault = arm.faults.take("expired_sas", name)
    life = timedelta(seconds=fault["seconds"]) if fault else timedelta(hours=hours)
    permission = "rl" if arm.faults.take("read_only_sas", name) else "rwdlcu"
    return Answer({"secretsType": "Sas", "sasToken": f"?{ws.storage.account_sas(life, permission)}"})
