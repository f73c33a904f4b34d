"""Azure Resource Manager's and run history's side of workspaces: assets, jobs, and clusters, in memory."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.azureml import recordings
from tests.azureml.faults import Faults
from tests.azureml.members import ENUMS, MEMBERS, VM_SIZES
from tests.azureml.runner import ENDED, Cluster, Job, JobError
from tests.azureml.service import Answer, Refusal, Request, Router
from tests.azureml.storage import Storage

Json = dict[str, Any]
KINDS = "data|models|environments|codes"
_SINGULAR = {"data": "Data", "models": "Model", "environments": "Environment", "codes": "Code"}
_URI = {"data": "dataUri", "models": "modelUri", "codes": "codeUri"}
_TYPE = "Microsoft.MachineLearningServices/workspaces"
_PAGE = 5  # short, so that every list is read page by page

# Of assets and jobs: learn.microsoft.com/rest/api/azureml, code-versions, environment-containers and
# registry-model-containers, create-or-update: "Regex pattern: ^[a-zA-Z0-9][a-zA-Z0-9\\-_]{0,254}$". Jobs are runs:
# `runId` in azure-ai-ml 1.35.2, _restclient/runhistory, takes one character more; the shorter is taken.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
# learn.microsoft.com/azure/machine-learning/reference-yaml-model (`version | int`), Azure/azureml-examples#2725.
_MODEL_VERSION = re.compile(r"[1-9][0-9]*")
# Azure/azureml-assets#295: "Argument 'version' exceeded maximum length of 30 for DatasetId". No source says which
# characters a version may have: these are what paths and ids can hold.
_LONGEST_DATA_VERSION = 30
_VERSION = re.compile(r"[\w.-]{1,255}", re.ASCII)
route = Router()

# What companies' policies deny of a cluster's properties, by the policy's name; switched on by the fault `policy`.
# https://github.com/Azure/Enterprise-Scale/pull/552
_POLICIES: dict[str, Callable[[Json], bool]] = {
    "Deny-MachineLearning-ComputeCluster-RemoteLoginPortPublicAccess": lambda cluster: (
        cluster.get("remoteLoginPortPublicAccess") != "Disabled"
    ),
    "Deny-MachineLearning-Compute-SubnetId": lambda cluster: not (cluster.get("subnet") or {}).get("id"),
}
_IDENTITY = re.compile(
    "/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.ManagedIdentity/userAssignedIdentities/[^/]+", re.I
)


@dataclass
class Container:
    """What all versions of an asset share."""

    archived: bool = False
    last_number: int = 0
    """The highest that any version had, those that were deleted counted."""
    deleted: dict[str, str] = field(default_factory=dict)
    """By version, when it was deleted."""


class Workspace:
    """The state of one workspace, and what its URIs mean."""

    def __init__(self, base: str, name: str, location: str, workspace_id: str, storage: Storage) -> None:
        self.base, self.name, self.location, self.storage = base, name, location, storage
        self.id = workspace_id
        self.lock = threading.RLock()
        self.assets: dict[str, dict[str, dict[str, Json]]] = {kind: {} for kind in _SINGULAR}
        self.containers: dict[tuple[str, str], Container] = defaultdict(Container)
        self.jobs: dict[str, Job] = {}
        self.computes: dict[str, Cluster] = {}
        self.serverless: dict[str, Cluster] = {}
        """What serverless jobs run on, by VM size."""
        self.pending: dict[str, str] = {}
        self.changed: Json = {}
        """Properties that a PATCH gave it."""

    def asset(self, kind: str, name: str, version: str) -> Json:
        """An asset's body, or a refusal."""
        try:
            return self.assets[kind][name][version]
        except KeyError:
            what = _SINGULAR[kind]
            raise not_found(f"{what}NotFound", f"{what} version not found. {name}:{version}") from None

    def is_archived(self, kind: str, name: str, version: str) -> bool:
        """Whether listings leave a version out.

        learn.microsoft.com/cli/azure/ml/data, archive: hidden by default from list queries, and still to be used;
        "archiving a data asset container will archive all versions of the data asset under that given name".
        """
        return self.containers[kind, name].archived or self.assets[kind][name][version]["properties"]["isArchived"]

    def delete(self, kind: str, name: str, version: str) -> None:
        """Delete a version; its container stays."""
        del self.assets[kind][name][version]
        self.containers[kind, name].deleted[version] = _now()

    def asset_uri(self, arm_id: str) -> str:
        """Where the content of an asset lies."""
        kind, name, _, version = arm_id.split("/")[-4:]
        uri: str = self.asset(kind, name, version)["properties"][_URI[kind]]
        return uri

    def long_form(self, uri: str) -> str:
        """A URI as the service keeps it: of this workspace's datastore, whichever way it was said."""
        if uri.startswith("https://"):
            return uri
        container, path = self.locate(uri)
        datastore = next(name for name, its in self.storage.containers.items() if its == container)
        where = self.base.split("/")
        place = f"subscriptions/{where[2]}/resourcegroups/{where[4]}/workspaces/{self.name}"
        return f"azureml://{place}/datastores/{datastore}/paths/{path}"

    def locate(self, uri: str) -> tuple[str, str]:
        """The container and the path in it that a URI means."""
        if uri.startswith("/subscriptions/"):
            try:
                return self.locate(self.asset_uri(uri))
            except Refusal as gone:
                raise JobError("UserError", f"{gone} ({uri})") from gone
        if uri.startswith(f"{self.storage.url}/"):
            container, _, path = uri.removeprefix(f"{self.storage.url}/").partition("/")
            return container, path
        if found := re.fullmatch(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths/(.*))?/?", uri):
            job = self.jobs.get(found[1])
            if job is None or found[2] not in {*job.request["outputs"], "default", "artifacts"}:
                raise not_found("RunNotFound", f"Job {found[1]} or its output {found[2]} was not found.")
            if found[2] in job.request["outputs"]:
                container, path = self.locate(job.output_uri(found[2]))
            else:
                container, path = self.storage.containers["workspaceartifactstore"], job.artifacts
            return container, f"{path.rstrip('/')}/{found[3] or ''}"
        found = re.fullmatch(r"azureml://(?:.*/workspaces/([^/]+)/)?datastores/([^/]+)/(?:paths/)?(.*)", uri, re.I)
        if not found or (found[1] or self.name) != self.name or found[2] not in self.storage.containers:
            raise Refusal(400, "UserError", f"The uri {uri} is not of a datastore of workspace {self.name}.")
        return self.storage.containers[found[2]], found[3]


class Arm:
    """Answers of management.azure.com and of <region>.api.azureml.ms. `start` runs a job that was accepted."""

    def __init__(
        self, base: str, workspaces: dict[str, Workspace], tenant: str, faults: Faults, start: Callable[[Job], None]
    ) -> None:
        self.base, self.workspaces, self.tenant = base, workspaces, tenant
        self.faults, self.start = faults, start
        self.node_address = ("127.0.0.1", 50000)
        self._operations: dict[str, tuple[int, Cluster]] = {}

    def answer(self, request: Request) -> Answer | None:
        """The answer, or None for a path that is not known."""
        if self.faults.take("forbidden", f"{request.method} {request.path}"):
            raise Refusal(
                403,
                "AuthorizationFailed",
                f"The client '0' with object id '0' does not have authorization to perform action '{_TYPE}/"
                f"{request.path.split('/')[-2]}/{'read' if request.method == 'GET' else 'write'}' over scope "
                f"'{request.path}' or the scope is invalid. If access was recently granted, please "
                "refresh your credentials.",
            )
        if self.faults.take("linked", f"{request.method} {request.path}"):
            identity = "Microsoft.ManagedIdentity/userAssignedIdentities"
            raise Refusal(  # https://github.com/Azure/aad-pod-identity/issues/613
                403,
                "LinkedAuthorizationFailed",
                f"The client '0' with object id '0' has permission to perform action '{_TYPE}/computes/write' on scope "
                f"'{request.path}'; however, it does not have permission to perform action '{identity}/assign/action' "
                f"on the linked scope(s) '{self.base.partition('/providers')[0]}/providers/{identity}/jobs' or the "
                "linked scope(s) are invalid.",
            )
        if self.faults.take("disallowed", f"{request.method} {request.path}"):
            return Answer(_disallowed(request.path), 403)
        service = "(?:/(?:history|data|mlflow)/v1.0)?"
        found = re.fullmatch(rf"{service}({self.base})/([^/]+)(/.*)?", request.path, re.I)
        if found:
            workspace = self.workspaces.get(found[2])
            if workspace is None:
                raise Refusal(404, "ResourceNotFound", f"The Resource '{_TYPE}/{found[2]}' under resource group "
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

    # the workspace and its datastores

    @route("GET", r"\{ws\}")
    def _workspace(self, request: Request, ws: Workspace) -> Answer:
        other, host = self.base.rpartition("/providers")[0] + "/providers", f"{ws.location}.api.azureml.ms"
        properties = recordings.properties("GET {ws}") | {
            "friendlyName": ws.name,
            "storageAccount": f"{other}/Microsoft.Storage/storageAccounts/{ws.storage.account}",
            "tenantId": self.tenant,
            "workspaceId": ws.id,
            "discoveryUrl": f"https://{host}/discovery",
            "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{ws.base}",
            **ws.changed,
        }
        body: Json = {"id": ws.base, "name": ws.name, "type": _TYPE, "location": ws.location, "tags": {}, "etag": None}
        identity = {"type": "SystemAssigned", "principalId": "0", "tenantId": self.tenant}
        sku = {"kind": "Default", "sku": {"name": "Basic", "tier": "Basic"}}
        return Answer({**body, **sku, "properties": properties, "identity": identity, "systemData": _system_data()})

    @route("PATCH", r"\{ws\}")
    def _patch_workspace(self, request: Request, ws: Workspace) -> Answer:
        given = only(request.body, "WorkspaceUpdateParameters", request).get("properties") or {}
        ws.changed |= only(given, "WorkspacePropertiesUpdateParameters", request)
        return self._workspace(request, ws)

    def _datastore(self, ws: Workspace, name: str) -> Json:
        if name not in ws.storage.containers:
            raise not_found("DataStoreNotFound", f"Could not find datastore: {name}")
        where = self.base.split("/")
        properties = recordings.properties("GET {ws}/datastores/*") | {
            "isDefault": name == "workspaceblobstore",
            "subscriptionId": where[2],
            "resourceGroup": where[4],
            "accountName": ws.storage.account,
            "containerName": ws.storage.containers[name],
        }
        if name in ws.storage.by_identity:
            properties["credentials"] = {"credentialsType": "None"}
        return _resource(ws, "datastores", name, properties, _system_data(modified="Application"))

    @route("GET", r"\{ws\}/datastores")
    def _datastores(self, request: Request, ws: Workspace) -> Answer:
        names = [name for name in ws.storage.containers
                 if request.query.get("isDefault") != "true" or name == "workspaceblobstore"]  # fmt: skip
        return Answer({"value": [self._datastore(ws, name) for name in names]})

    @route("GET", r"\{ws\}/datastores/([^/]+)")
    def _get_datastore(self, request: Request, ws: Workspace, name: str) -> Answer:
        return Answer(self._datastore(ws, name))

    @route("POST", r"\{ws\}/datastores/([^/]+)/listSecrets")
    def _secrets(self, request: Request, ws: Workspace, name: str) -> Answer:
        self._datastore(ws, name)
        if name in ws.storage.by_identity:
            raise Refusal(400, "UserError", f"The datastore {name} has no secrets.")
        only(request.body or {}, "DatastoreSecretsRequest", request)
        if self.faults.take("account_key", name):
            return Answer({"secretsType": "AccountKey", "key": ws.storage.key})
        hours = (request.body or {}).get("expireAfterHours", 1)
        fault = self.faults.take("expired_sas", name)
        life = timedelta(seconds=fault["seconds"]) if fault else timedelta(hours=hours)
        permission = "rl" if self.faults.take("read_only_sas", name) else "rwdlcu"
        return Answer({"secretsType": "Sas", "sasToken": f"?{ws.storage.account_sas(life, permission)}"})

    # assets

    @route("GET", rf"\{{ws\}}/({KINDS})")
    def _list_containers(self, request: Request, ws: Workspace, kind: str) -> Answer:
        chosen = [name for name in ws.assets[kind] if _is_in_view(request, ws.containers[kind, name].archived)]
        return _page(request, [self._container(ws, kind, name) for name in chosen])

    @route("GET", rf"\{{ws\}}/({KINDS})/([^/]+)")
    def _get_container(self, request: Request, ws: Workspace, kind: str, name: str) -> Answer:
        return Answer(self._container(ws, kind, name))

    @route("PUT", rf"\{{ws\}}/({KINDS})/([^/]+)")
    def _put_container(self, request: Request, ws: Workspace, kind: str, name: str) -> Answer:
        self._versions(ws, kind, name)
        given = only(request.body, "ContainerResource", request)["properties"]
        ws.containers[kind, name].archived = bool(only(given, "Container", request).get("isArchived"))
        return Answer(self._container(ws, kind, name))

    def _container(self, ws: Workspace, kind: str, name: str) -> Json:
        """`nextVersion` is "the next auto incremental version", `latestVersion` "the latest version inside this
        container" (learn.microsoft.com/rest/api/azureml/data-containers/get): of archived ones, no source says more
        than that they keep their number."""
        versions, container = self._versions(ws, kind, name), ws.containers[kind, name]
        properties: Json = {"description": None, "tags": {}, "properties": {}, "isArchived": container.archived}
        properties |= {"latestVersion": [None, *versions][-1], "nextVersion": str(container.last_number + 1)}
        if kind == "data":
            properties["dataType"] = "uri_folder"
        return _resource(ws, kind, name, properties, _system_data())

    def _versions(self, ws: Workspace, kind: str, name: str) -> dict[str, Json]:
        if name not in ws.assets[kind]:
            what = _SINGULAR[kind]
            raise not_found(f"{what}NotFound", f"{what} container with name: {name} not found.")
        return ws.assets[kind][name]

    @route("GET", rf"\{{ws\}}/({KINDS})/([^/]+)/versions")
    def _list_versions(self, request: Request, ws: Workspace, kind: str, name: str) -> Answer:
        if kind == "codes":  # found by content, whatever their name
            every = [asset for versions in ws.assets[kind].values() for asset in versions.values()]
            wanted = request.query.get("hash")
            return Answer({"value": [a for a in every if a["properties"]["properties"].get("hash_sha256") == wanted]})
        versions = self._versions(ws, kind, name)
        assets = [asset for v, asset in versions.items() if _is_in_view(request, ws.is_archived(kind, name, v))]
        if "desc" in request.query.get("$orderBy", ""):
            assets.reverse()
        return _page(request, assets)

    @route("GET", rf"\{{ws\}}/({KINDS})/([^/]+)/versions/([^/]+)")
    def _get_version(self, request: Request, ws: Workspace, kind: str, name: str, version: str) -> Answer:
        self._versions(ws, kind, name)
        return Answer(ws.asset(kind, name, version))

    @route("POST", r"\{ws\}/codes/([^/]+)/versions/([^/]+)/startPendingUpload")
    def _pending_upload(self, request: Request, ws: Workspace, name: str, version: str) -> Answer:
        container = ws.pending.setdefault(f"{name}:{version}", f"{ws.id}-{uuid.uuid4().hex[:26]}")
        ws.storage.create(container)
        uri = f"{ws.storage.url}/{container}"
        account = f"{self.base.rpartition('/providers')[0]}/providers/Microsoft.Storage/storageAccounts/"
        sas = {"credentialType": "SAS", "sasUri": f"{uri}?{ws.storage.container_sas(container)}"}
        blob = {"blobUri": uri, "storageAccountArmId": account + ws.storage.account, "credential": sas}
        upload = {"pendingUploadId": str(uuid.uuid4()), "pendingUploadType": "TemporaryBlobReference"}
        return Answer({**upload, "blobReferenceForConsumption": blob})

    @route("PUT", rf"\{{ws\}}/({KINDS})/([^/]+)/versions/([^/]+)")
    def _put_version(self, request: Request, ws: Workspace, kind: str, name: str, version: str) -> Answer:
        _check_name(name)
        _check_version(kind, version)
        given = only(request.body, "Resource", request)["properties"]
        what = f"{_SINGULAR[kind]}Version"
        only(given, what, request)
        check_tags(given)
        key = _URI.get(kind)
        if key and not given.get(key):
            raise invalid(f"Required property '{key}' not found in JSON.")
        uri = ws.long_form(given[key]) if key else None
        if (kind == "data" and given["dataType"] == "uri_folder") or kind == "codes":
            uri = f"{str(uri).rstrip('/')}/"
        known, container = ws.assets[kind].get(name, {}).get(version), ws.containers[kind, name]
        properties = {**_asset_properties(kind), **{name: value for name, value in given.items() if value is not None}}
        properties |= {key: uri} if key else {}
        if kind == "models" and (found := re.search(r"jobs/([^/]+)/outputs", given["modelUri"])):
            properties["jobName"] = found[1]
        if known:
            if key and known["properties"][key] != uri:
                raise Refusal(400, "UserError", "Asset paths cannot be updated.", inner=("Immutable",))
            fixed = ("image", "build", "condaFile", "dataType", "modelType")
            if any(known["properties"].get(member) != properties.get(member) for member in fixed):
                raise Refusal(400, "UserError", f"{what} {name}:{version} is immutable.", inner=("Immutable",))
            # That a PUT of the same path restores is how azure-ai-ml 1.35.2 does it (_archive_or_restore). az ml data
            # archive: "If the entire data asset container is archived, then you cannot restore individual versions".
            if container.archived and known["properties"]["isArchived"] and not properties["isArchived"]:
                raise Refusal(400, "UserError", f"{_SINGULAR[kind]} container {name} is archived: restore it instead.")
            known["properties"].update(properties)
            return Answer(known)
        if kind == "models" and (when := container.deleted.get(version)):
            # Azure/azureml-assets#3439, of a registry; for workspaces no source says otherwise.
            message = (
                f"Asset azureml://models/{name}/versions/{version} was deleted at {when}, it cannot be recreated. "
            )
            raise Refusal(400, "UserError", f"{message}Please try again with a different version.")
        if version.isdecimal():
            container.last_number = max(container.last_number, int(version))
        body = _resource(ws, f"{kind}/{name}/versions", version, properties, _system_data(modified="User"))
        ws.assets[kind].setdefault(name, {})[version] = body
        return Answer(body, 201, _location(request, ws))

    # jobs

    @route("PUT", r"\{ws\}/jobs/([^/]+)")
    def _put_job(self, request: Request, ws: Workspace, name: str) -> Answer:
        _check_name(name)
        given = only(request.body, "Resource", request)["properties"]
        only(given, "CommandJob", request)
        for one in (given.get("inputs") or {}).values():
            only(one, "LiteralJobInput" if one["jobInputType"] == "literal" else "UriFolderJobInput", request)
        for one in (given.get("outputs") or {}).values():
            only(one, "UriFolderJobOutput", request)
        for one in (given.get("services") or {}).values():
            only(one, "JobService", request)
        only(given.get("limits") or {}, "CommandJobLimits", request)
        only(given.get("resources") or {}, "JobResourceConfiguration", request)
        only(given.get("queueSettings") or {}, "QueueSettings", request)
        only(given.get("identity") or {}, "ManagedIdentity", request)
        check_tags(given)
        if known := ws.jobs.get(name):
            free = ("tags", "description", "displayName", "properties", "isArchived", "services", "experimentName")
            for member in {*given, *known.request} - set(free):
                if (given.get(member) or None) != (known.request.get(member) or None):
                    raise Refusal(
                        400,
                        "UserError",
                        "A job with this name already exists. If you are trying to submit a new job, use a different "
                        f"name. If you are trying to update an existing job, the existing job's {member} cannot be "
                        "changed. Only description, displayName, tags, properties, and isArchived can be updated.",
                        inner=("UserError", "Immutable", "JobPropertyImmutable"),
                    )
            known.request |= {member: given[member] for member in free if given.get(member) is not None}
            return self._job_body(ws, known)
        compute = (given.get("computeId") or "").rpartition("/")[2]
        if not compute:
            _check_serverless(ws, given)
        elif compute not in ws.computes:
            raise Refusal(
                400, "UserError", f"Unknown compute target '{compute}'.", inner=("BadArgument", "UnknownTargetType")
            )
        inputs = [one.get("uri") or "" for one in (given.get("inputs") or {}).values()]
        for arm_id in [given["environmentId"], given.get("codeId") or "", *inputs]:
            if arm_id.startswith("/subscriptions/"):
                kind, asset, _, version = arm_id.split("/")[-4:]
                ws.asset(kind, asset, version)
            elif arm_id.startswith("azureml://"):
                ws.locate(arm_id)
        request_body = {"outputs": {}, "inputs": {}, "environmentVariables": {}, "experimentName": "Default", **given}
        ws.jobs[name] = job = Job(name, request_body, ws, _now())
        answer = self._job_body(ws, job, "PUT {ws}/jobs/*", 201)
        answer.headers = _location(request, ws)
        self.start(job)
        return answer

    def _job_body(self, ws: Workspace, job: Job, operation: str = "GET {ws}/jobs/*", status: int = 200) -> Answer:
        given, properties = job.request, recordings.properties(operation, status)
        studio = f"https://ml.azure.com/runs/{job.name}?wsid={ws.base.replace('resourceGroups', 'resourcegroups')}"
        tracking = f"azureml://{ws.location}.api.azureml.ms/mlflow/v1.0{ws.base}?"
        [an_input], an_output = properties["inputs"].values(), properties["outputs"]["default"]
        a_service = dict.fromkeys(properties["services"]["Studio"])
        services: Json = {name: a_service | one for name, one in (given.get("services") or {}).items()}
        for kind, endpoint in (("Tracking", tracking), ("Studio", studio)):
            services[kind] = {**a_service, "jobServiceType": kind, "endpoint": endpoint}
        default = f"azureml://datastores/workspaceartifactstore/{job.artifacts}"
        literal = {"description": None, "value": None, "jobInputType": "literal"}
        target = {
            "_azureml.ComputeTargetType": "amlctrain",
            "_azureml.ClusterName": _target(given),
        }
        properties |= {
            **{name: value for name, value in given.items() if value is not None},
            "displayName": given.get("displayName") or job.name,
            "status": job.status,
            "identity": given.get("identity"),
            "services": services,
            "properties": {**(given.get("properties") or {}), **target},
            "resources": properties["resources"] | (given.get("resources") or {}),
            "inputs": {
                name: (literal if one["jobInputType"] == "literal" else an_input | {"uri": None}) | one
                for name, one in given["inputs"].items()
            },
            "outputs": {
                "default": {**an_output, "uri": default},
                **{name: {**an_output, "uri": None, **one} for name, one in given["outputs"].items()},
            },
        }
        return Answer(_resource(ws, "jobs", job.name, properties, {**_system_data(), "createdAt": job.created}), status)

    def _job(self, ws: Workspace, name: str) -> Job:
        if name not in ws.jobs:
            raise not_found("RunNotFound", f"Run {name} was not found")
        return ws.jobs[name]

    @route("GET", r"\{ws\}/jobs/([^/]+)")
    def _get_job(self, request: Request, ws: Workspace, name: str) -> Answer:
        return self._job_body(ws, self._job(ws, name))

    @route("GET", r"\{ws\}/jobs")
    def _list_jobs(self, request: Request, ws: Workspace) -> Answer:
        tag, _, value = request.query.get("tag", "").partition("=")
        jobs = [self._job_body(ws, job).body for job in reversed(ws.jobs.values())]
        chosen = [job for job in jobs if not tag or job["properties"]["tags"].get(tag) == (value or None)]
        return _page(request, [job for job in chosen if not job["properties"]["isArchived"]])

    @route("POST", r"\{ws\}/jobs/([^/]+)/cancel")
    def _cancel(self, request: Request, ws: Workspace, name: str) -> Answer:
        job = self._job(ws, name)
        if job.status not in ENDED:
            job.status = "CancelRequested"
            job.cancelled.set()
        return Answer(None, 202, {**self._later(ws, f"jc:{ws.id}:{name}"), "x-ms-async-operation-timeout": "PT1H"})

    def _at(self, ws: Workspace) -> str:
        provider = f"{self.base.split('/resourceGroups')[0]}/providers/Microsoft.MachineLearningServices"
        return f"https://management.azure.com{provider}/locations/{ws.location}"

    def _later(self, ws: Workspace, operation: str) -> dict[str, str]:
        url = f"{self._at(ws)}/mfeOperationResults/{operation}?api-version=2023-04-01-preview"
        return {"Location": url, "Retry-After": "1"}

    @route("GET", r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/mfeOperationResults/jc:([^:]+):([^/]+)")
    def _cancelled(self, request: Request, workspace_id: str, name: str) -> Answer:
        ws = next(ws for ws in self.workspaces.values() if ws.id == workspace_id)
        if ws.jobs[name].status in ENDED:
            return Answer(None)
        return Answer({}, 202, self._later(ws, f"jc:{ws.id}:{name}"))

    # run history

    @route("GET", r"/history/v1.0\{ws\}/runs/([^/]+)/details")
    def _details(self, request: Request, ws: Workspace, name: str) -> Answer:
        job = self._job(ws, name)
        container = ws.storage.containers["workspaceartifactstore"]
        logs = ws.storage.open(container).list_blob_names(name_starts_with=f"{job.artifacts}/user_logs/")
        sas = ws.storage.container_sas(container)
        error: Json | None = None
        if job.error:
            root: Json = {
                "code": job.error.code,
                "severity": None,
                "message": str(job.error),
                "details": [],
                "innerError": None,
            }
            error = {"error": root, "correlation": {"operation": "0", "request": "0"}, "environment": ws.location}
            error |= {"location": ws.location, "time": _now(), "componentName": "globaljobdispatcher"}
        warnings = [{"source": "Execution", "message": job.warning}] if job.warning else None
        times = {"createdTimeUtc": job.created, "startTimeUtc": _at(job.started), "endTimeUtc": _at(job.ended)}
        details = {
            "runId": name,
            "runUuid": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
            "target": _target(job.request),
            "status": job.status,
            "tags": job.request.get("tags") or {},
            "logFiles": {
                log.removeprefix(f"{job.artifacts}/"): f"{ws.storage.url}/{container}/{log}?{sas}" for log in logs
            },
        }
        return Answer({**details, **times, "error": error, "warnings": warnings})

    @route("GET", r"/history/v1.0\{ws\}/runs/([^/]+)/serviceinstances/([^/]+)")
    def _services(self, request: Request, ws: Workspace, name: str, node: str) -> Answer:
        job = self._job(ws, name)
        running = job.status == "Running"
        wanted = (job.request.get("services") or {}) if running and node == "0" else {}
        proxy = f"wss://ssh-{name}.{ws.location}.nodes.azureml.ms"
        instances = {
            key: {
                "type": one["jobServiceType"],
                "port": one.get("port") or self.node_address[1],
                "status": "Running",
                "error": None,
                "endpoint": None,
                "properties": {**(one.get("properties") or {}), "ProxyEndpoint": proxy},
            }
            for key, one in wanted.items()
        }
        return Answer({"instances": instances})

    @route("POST", r"/history/v1.0\{ws\}/rundata")
    def _run_data(self, request: Request, ws: Workspace) -> Answer:
        job = self._job(ws, request.body["runId"])
        assets = f"azureml://locations/{ws.location}/workspaces/{ws.id}/data/azureml_{job.name}_output_data_"
        names = [*job.request["outputs"], "default"]
        kinds = {name: _pascal(one.get("jobOutputType")) for name, one in job.request["outputs"].items()}
        data = {
            name: {
                "outputLocation": {"uri": {"path": job.output_uri(name), "isFile": False}, "type": kinds[name]},
                "mechanism": "Upload" if one.get("mode") == "Upload" else "Mount",
                "environmentVariableName": f"AZURE_ML_OUTPUT_{name}",
            }
            for name, one in job.request["outputs"].items()
        }
        meta = {
            "runId": job.name,
            "parentRunId": None,
            "status": job.status,
            "currentAttemptId": max(job.attempts, 1),
            "dataContainerId": f"dcid.{job.name}",
            "error": None,
            "warnings": None,
            "target": _target(job.request),
            "inputs": {},
            "outputs": {
                name: {"assetId": f"{assets}{name}/versions/1", "type": kinds.get(name, "UriFolder")} for name in names
            },
        }
        run = {
            "runMetadata": meta,
            "runDefinition": {"outputData": data},
            "jobSpecification": None,
            "systemSettings": None,
        }
        return Answer(run)

    @route("POST", r"/data/v1.0\{ws\}/dataversion/batchGetResolvedUris")
    def _resolve(self, request: Request, ws: Workspace) -> Answer:
        values = {}
        for value in request.body["values"]:
            found = re.fullmatch(r".*/data/azureml_(.+)_output_data_(.+)/versions/1", value)
            assert found
            job = self._job(ws, found[1])
            uri, kind = f"azureml://datastores/workspaceartifactstore/paths/{job.artifacts}/", "UriFolder"
            if output := job.request["outputs"].get(found[2]):
                uri, kind = job.output_uri(found[2]), _pascal(output.get("jobOutputType"))
            values[value] = {"uri": ws.long_form(uri), "type": kind, "legacyDatasetType": None}
        return Answer({"values": values})

    # clusters

    @route("PUT", r"\{ws\}/computes/([^/]+)")
    def _put_compute(self, request: Request, ws: Workspace, name: str) -> Answer:
        body = only(request.body, "ComputeResource", request)
        outer = only(body["properties"], "AmlCompute", request)
        inner = only(outer["properties"], "AmlComputeProperties", request)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,31}", name):
            raise invalid(f"Compute name '{name}' must be 2 to 32 letters, digits, and '-', starting with a letter.")
        if inner["vmSize"].lower() not in {size["name"].lower() for size in VM_SIZES}:
            raise Refusal(400, "UserError", f"VM size {inner['vmSize']} is not supported in {ws.location}.")
        for policy, denies in _POLICIES.items():
            if denies(inner) and self.faults.take("policy", policy):
                raise _denied(name, policy, self.base)
        if inner.get("enableNodePublicIp") is False and not inner.get("subnet"):
            # https://github.com/hashicorp/terraform-provider-azurerm/pull/26073 (this workspace has no managed network)
            raise Refusal(400, "BadRequest", f"Compute {name} without public IP needs a subnet or a managed network.")
        for identity in (body.get("identity") or {}).get("userAssignedIdentities") or {}:
            if not _IDENTITY.fullmatch(identity):
                raise Refusal(400, "InvalidIdentityValues", f"Invalid value for the identities '{identity}'.")
        known = ws.computes.get(name)
        if known:
            if known.body["properties"]["properties"]["vmSize"].lower() != inner["vmSize"].lower():
                raise Refusal(
                    400, "UserError", f"The vmSize of compute {name} cannot be changed.", inner=("Immutable",)
                )
            known.body = body
        else:
            ws.computes[name] = Cluster(body, _now())
        if not known and self.faults.take("quota_at_creation", name):
            ws.computes[name].failed = "ClusterMinNodesExceedCoreQuota"
        state = "Updating" if known else "Creating"
        headers = self._under_way(ws, ws.computes[name])
        return Answer(self._compute_body(ws, name, state), 200 if known else 201, headers)

    @route("PATCH", r"\{ws\}/computes/([^/]+)")
    def _patch_compute(self, request: Request, ws: Workspace, name: str) -> Answer:
        """The scale, and nothing else: https://learn.microsoft.com/rest/api/azureml/compute/update"""
        cluster = self._cluster(ws, name)
        outer = only(request.body, "ClusterUpdateParameters", request)["properties"]
        given = only(only(outer, "ClusterUpdateProperties", request)["properties"], "ScaleSettingsInformation", request)
        only(given["scaleSettings"], "ScaleSettings", request)
        cluster.body["properties"]["properties"]["scaleSettings"] = given["scaleSettings"]
        return Answer(self._compute_body(ws, name, "Updating"), 200, self._under_way(ws, cluster))

    def _under_way(self, ws: Workspace, cluster: Cluster) -> dict[str, str]:
        """The headers of an answer whose operation goes on."""
        key = str(uuid.uuid4())
        self._operations[key] = (0, cluster)
        url = f"{self._at(ws)}/computeOperationsStatus/{key}?api-version=2023-08-01-preview"
        return {"Azure-AsyncOperation": url, "Retry-After": "1"}

    @route("GET", r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/computeOperationsStatus/([^/]+)")
    def _operation(self, request: Request, key: str) -> Answer:
        asked, cluster = self._operations[key]
        self._operations[key] = (asked + 1, cluster)
        if not asked:
            return Answer({"status": "InProgress"}, headers={"Retry-After": "1"})
        if cluster.failed:  # its words: https://github.com/Azure/mlops-v2/issues/81, ansible-collections/azure#2209
            size = cluster.body["properties"]["properties"]["vmSize"]
            cores = next(each["vCPUs"] for each in VM_SIZES if each["name"].lower() == size.lower())
            message = (
                "The specified subscription has a total vCPU quota of 0 and cannot accomodate for at least 1 requested "
                f"managed compute node which maps to {cores} vCPUs."
            )
            return Answer({"status": "Failed", "error": {"code": cluster.failed, "message": message}})
        return Answer({"status": "Succeeded"})

    def _compute_body(self, ws: Workspace, name: str, state: str = "Succeeded") -> Json:
        cluster = self._cluster(ws, name)
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
        body = _resource(ws, "computes", name, whole, {})
        del body["systemData"]
        identity = cluster.body.get("identity")
        if identity and identity.get("userAssignedIdentities"):
            known_by = {"principalId": _guid("principal"), "clientId": _guid("client")}
            identity = {
                **identity,
                "userAssignedIdentities": dict.fromkeys(identity["userAssignedIdentities"], known_by),
            }
        return {**body, "location": ws.location, "tags": cluster.body.get("tags"), "identity": identity}

    def _cluster(self, ws: Workspace, name: str) -> Cluster:
        if name not in ws.computes:
            message = f"Could not find compute with name {name} in workspace {ws.name}."
            raise Refusal(404, "ResourceNotFound", message, [("ComputeNotFound", message)])
        return ws.computes[name]

    @route("GET", r"\{ws\}/computes/([^/]+)")
    def _get_compute(self, request: Request, ws: Workspace, name: str) -> Answer:
        return Answer(self._compute_body(ws, name))

    @route("GET", r"\{ws\}/computes")
    def _list_computes(self, request: Request, ws: Workspace) -> Answer:
        return Answer({"value": [self._compute_body(ws, name) for name in ws.computes]})

    @route("POST", r"\{ws\}/computes/([^/]+)/listNodes")
    def _nodes(self, request: Request, ws: Workspace, name: str) -> Answer:
        cluster, (host, port) = self._cluster(ws, name), self.node_address
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
    def _sizes(self, request: Request) -> Answer:
        return Answer({"value": VM_SIZES})


def _check_serverless(ws: Workspace, given: Json) -> None:
    """What a job without a cluster may say: https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute

    Without a size the service chooses one with a CPU; jobs of this project must not rely on that.
    """
    size = str((given.get("resources") or {}).get("instanceType") or "Standard_DS3_v2")
    if size.lower() not in {each["name"].lower() for each in VM_SIZES}:
        raise Refusal(400, "UserError", f"The instance type {size} is not supported in {ws.location}.")
    identity = given.get("identity") or {}
    if identity.get("identityType") == "Managed" and not (identity.get("clientId") or identity.get("resourceId")):
        raise Refusal(400, "UserError", "Serverless compute does not support system-assigned identity.")
    given["resources"] = {**(given.get("resources") or {}), "instanceType": size}
    body = {"properties": {"properties": {"vmSize": size, "scaleSettings": {"maxNodeCount": 1}}}}
    ws.serverless.setdefault(size.lower(), Cluster(body, _now()))


def _target(given: Json) -> str:
    """A job's cluster by name."""
    return str(given.get("computeId") or "serverless").rpartition("/")[2]


def _denied(name: str, policy: str, base: str) -> Refusal:
    """403 of a policy: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-policy-requestdisallowedbypolicy"""
    where = "/providers/Microsoft.Management/managementGroups/company/providers/Microsoft.Authorization"
    assignment = {"name": "Company guardrails", "id": f"{where}/policyAssignments/guardrails"}
    definition = {"name": policy, "id": f"{where}/policyDefinitions/{policy}"}
    identifiers = json.dumps([{"policyAssignment": assignment, "policyDefinition": definition}])
    message = f"Resource '{name}' was disallowed by policy. Policy identifiers: '{identifiers}'."
    return Refusal(403, "RequestDisallowedByPolicy", message)


def _guid(of: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, of))


def _asset_properties(kind: str) -> Json:
    """What an asset's properties are where nothing is given."""
    if kind == "environments":  # not recorded
        common: Json = {"description": None, "tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False}
        return {**common, "environmentType": "UserCreated", "osType": "Linux", "provisioningState": "Succeeded"}
    recorded = "GET {ws}/codes/*/versions/*" if kind == "codes" else f"PUT {{ws}}/{kind}/*/versions/*"
    properties = recordings.properties(recorded, 200 if kind == "codes" else 201)
    properties |= {"description": None, "tags": {}, "properties": {}}
    return properties | ({"flavors": {}, "jobName": None} if kind == "models" else {})


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise invalid(f"Name '{name}' must be 1 to 255 letters, digits, '-' and '_', a letter or digit first.")


def _check_version(kind: str, version: str) -> None:
    if kind == "models" and not _MODEL_VERSION.fullmatch(version):
        text = "Model version must be a positive integer."  # as it comes over the wire, with its code
        raise Refusal(400, "UserError", text, [("ModelVersionOutOfRange", text)], inner=("ModelVersionOutOfRange",))
    if kind == "data" and len(version) > _LONGEST_DATA_VERSION:
        raise Refusal(400, "UserError", "Argument 'version' exceeded maximum length of 30 for DatasetId")
    if not _VERSION.fullmatch(version):
        raise invalid(f"Version '{version}' must be 1 to 255 letters, digits, '-', '_' and '.'")


def _is_in_view(request: Request, archived: bool) -> bool:
    """Whether what is archived or not is asked for: `listViewType`, by default ActiveOnly (REST reference)."""
    return (
        archived
        in {"ActiveOnly": (False,), "ArchivedOnly": (True,), "All": (False, True)}[
            request.query.get("listViewType", "ActiveOnly")
        ]
    )


def _disallowed(path: str) -> Json:
    """What Azure Resource Manager says for a policy, with most of its details left out.

    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-policy-requestdisallowedbypolicy,
    https://github.com/dotnet/machinelearning-modelbuilder/issues/3044. The policy is one of
    https://github.com/Azure/Enterprise-Scale/pull/552.
    """
    name, policy = path.rpartition("/")[2], "Deny-MachineLearningComputeCluster-RemoteLoginPortPublicAccess"
    provider = "/providers/Microsoft.Management/managementGroups/company/providers/Microsoft.Authorization"
    definition = {"name": policy, "id": f"{provider}/policyDefinitions/{policy}"}
    assignment = {"name": "Deny public ssh", "id": f"{provider}/policyAssignments/deny-public-ssh"}
    identifiers = json.dumps([{"policyAssignment": assignment, "policyDefinition": definition}])
    info = {
        "evaluationDetails": {"evaluatedExpressions": []},
        "policyDefinitionId": definition["id"],
        "policyDefinitionName": policy,
        "policyDefinitionDisplayName": policy,
        "policyDefinitionEffect": "Deny",
        "policyAssignmentId": assignment["id"],
        "policyAssignmentName": "deny-public-ssh",
        "policyAssignmentDisplayName": assignment["name"],
        "policyAssignmentScope": provider.partition("/providers/Microsoft.Authorization")[0],
        "policyAssignmentParameters": {},
    }
    message = f"Resource '{name}' was disallowed by policy. Policy identifiers: '{identifiers}'."
    violation = {"type": "PolicyViolation", "info": info}
    error = {"code": "RequestDisallowedByPolicy", "target": name, "message": message, "additionalInfo": [violation]}
    return {"error": error}


def only(given: Json, kind: str, request: Request) -> Json:
    """Raise for members that the service does not know, and for values that it does not; else what was given."""
    for member in given:
        if member not in MEMBERS[kind]:
            at = request.raw.find(f'"{member}"'.encode())
            raise invalid(
                f"Could not find member '{member}' on object of type '{kind}'. Path '{member}', line 1, position {at}."
            )
        if member in ENUMS and given[member] is not None and given[member] not in ENUMS[member]:
            raise invalid(f"Error converting value \"{given[member]}\" to type '{member}'. Path '{member}'.")
    return given


def check_tags(given: Json) -> None:
    """Raise for more or longer tags than a run takes."""
    tags = given.get("tags") or {}
    if len(tags) > 50 or any(len(key) > 100 or len(value) > 1000 for key, value in tags.items()):
        raise Refusal(400, "UserError", "At most 50 tags, keys of 100 and values of 1000 characters.")


def invalid(message: str) -> Refusal:
    """400 for a body that cannot be read."""
    text = "Request is invalid and/or missing fields."
    return Refusal(400, "UserError", text, [("RequestInvalid", message)], inner=("RequestInvalid",))


def not_found(code: str, message: str) -> Refusal:
    """404 for an asset, job or datastore."""
    return Refusal(404, "UserError", "The specified resource was not found.", [(code, message)])


def _resource(ws: Workspace, kind: str, name: str, properties: Json, system: Json) -> Json:
    plain = re.sub(r"/[^/]+/versions", "/versions", kind)
    return {
        "id": f"{ws.base}/{kind}/{name}",
        "name": name,
        "type": f"{_TYPE}/{plain}",
        "properties": properties,
        "systemData": system,
    }


def _system_data(modified: str = "") -> Json:
    data = {"createdAt": _now(), "createdBy": "emulator", "createdByType": "User"}
    return (
        {**data, "lastModifiedAt": _now(), "lastModifiedBy": "0", "lastModifiedByType": modified} if modified else data
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _at(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _pascal(kind: str | None) -> str:
    return "".join(part.capitalize() for part in (kind or "uri_folder").split("_"))


def _location(request: Request, ws: Workspace) -> dict[str, str]:
    path = request.path.replace("{ws}", ws.base)
    return {"Location": f"https://management.azure.com{path}?api-version={request.query['api-version']}"}


def _page(request: Request, values: list[Json]) -> Answer:
    """A page of a list, with the link to the next."""
    start, path = int(request.query.get("$skip") or 0), request.headers["path"]
    size = int(request.query.get("$top") or _PAGE)
    body: Json = {"value": values[start : start + size]}
    if "$top" not in request.query and len(values) > start + size:
        query = "&".join(f"{key}={value}" for key, value in {**request.query, "$skip": start + size}.items())
        body["nextLink"] = f"https://management.azure.com{path}?{query}"
    return Answer(body)
