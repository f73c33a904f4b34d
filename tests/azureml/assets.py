"""Data, models, environments and code: clients register, list, archive and restore them."""

from __future__ import annotations

import re
import uuid

from tests.azureml import recordings
from tests.azureml.arm import Arm, route
from tests.azureml.bodies import Json, check_tags, invalid, location, not_found, only, page, resource, system_data
from tests.azureml.service import Answer, Refusal, Request
from tests.azureml.state import SINGULAR, URI, Workspace

_KINDS = "data|models|environments|codes"

# Of assets and jobs: learn.microsoft.com/rest/api/azureml, code-versions, environment-containers and
# registry-model-containers, create-or-update: "Regex pattern: ^[a-zA-Z0-9][a-zA-Z0-9\\-_]{0,254}$". Jobs are runs:
# `runId` in azure-ai-ml 1.35.2, _restclient/runhistory, takes one character more; the shorter is taken.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
# learn.microsoft.com/azure/machine-learning/reference-yaml-model (`version | int`), Azure/azureml-examples#2725.
_MODEL_VERSION = re.compile(r"[1-9][0-9]*")
# Azure/azureml-assets#295: "Argument 'version' exceeded maximum length of 30 for DatasetId". No source says which
# characters a version may have: these are what paths and ids can hold.
LONGEST_DATA_VERSION = 30
_VERSION = re.compile(r"[\w.-]{1,255}", re.ASCII)


@route("GET", rf"\{{ws\}}/({_KINDS})")
def _list_containers(arm: Arm, request: Request, ws: Workspace, kind: str) -> Answer:
    chosen = [name for name in ws.assets[kind] if _is_in_view(request, ws.containers[kind, name].archived)]
    return page(request, [_container(ws, kind, name) for name in chosen])


@route("GET", rf"\{{ws\}}/({_KINDS})/([^/]+)")
def _get_container(arm: Arm, request: Request, ws: Workspace, kind: str, name: str) -> Answer:
    return Answer(_container(ws, kind, name))


@route("PUT", rf"\{{ws\}}/({_KINDS})/([^/]+)")
def _put_container(arm: Arm, request: Request, ws: Workspace, kind: str, name: str) -> Answer:
    _versions(ws, kind, name)
    given = only(request.body, "ContainerResource", request)["properties"]
    ws.containers[kind, name].archived = bool(only(given, "Container", request).get("isArchived"))
    return Answer(_container(ws, kind, name))


def _container(ws: Workspace, kind: str, name: str) -> Json:
    """Return an asset's container.

    `nextVersion` is "the next auto incremental version", `latestVersion` "the latest version inside this
    container" (learn.microsoft.com/rest/api/azureml/data-containers/get): of archived ones, no source says more
    than that they keep their number.
    """
    versions, container = _versions(ws, kind, name), ws.containers[kind, name]
    properties: Json = {"description": None, "tags": {}, "properties": {}, "isArchived": container.archived}
    properties |= {"latestVersion": [None, *versions][-1], "nextVersion": str(container.last_number + 1)}
    if kind == "data":
        properties["dataType"] = "uri_folder"
    return resource(ws, kind, name, properties, system_data())


def _versions(ws: Workspace, kind: str, name: str) -> dict[str, Json]:
    if name not in ws.assets[kind]:
        what = SINGULAR[kind]
        raise not_found(f"{what}NotFound", f"{what} container with name: {name} not found.")
    return ws.assets[kind][name]


@route("GET", rf"\{{ws\}}/({_KINDS})/([^/]+)/versions")
def _list_versions(arm: Arm, request: Request, ws: Workspace, kind: str, name: str) -> Answer:
    if kind == "codes":  # found by content, whatever their name
        every = [asset for versions in ws.assets[kind].values() for asset in versions.values()]
        wanted = request.query.get("hash")
        return Answer({"value": [a for a in every if a["properties"]["properties"].get("hash_sha256") == wanted]})
    versions = _versions(ws, kind, name)
    assets = [asset for v, asset in versions.items() if _is_in_view(request, ws.is_archived(kind, name, v))]
    if "desc" in request.query.get("$orderBy", ""):
        assets.reverse()
    return page(request, assets)


@route("GET", rf"\{{ws\}}/({_KINDS})/([^/]+)/versions/([^/]+)")
def _get_version(arm: Arm, request: Request, ws: Workspace, kind: str, name: str, version: str) -> Answer:
    _versions(ws, kind, name)
    return Answer(ws.asset(kind, name, version))


@route("POST", r"\{ws\}/codes/([^/]+)/versions/([^/]+)/startPendingUpload")
def _pending_upload(arm: Arm, request: Request, ws: Workspace, name: str, version: str) -> Answer:
    container = ws.pending.setdefault(f"{name}:{version}", f"{ws.id}-{uuid.uuid4().hex[:26]}")
    ws.storage.create(container)
    uri = f"{ws.storage.url}/{container}"
    account = f"{arm.base.rpartition('/providers')[0]}/providers/Microsoft.Storage/storageAccounts/"
    sas = {"credentialType": "SAS", "sasUri": f"{uri}?{ws.storage.container_sas(container)}"}
    blob = {"blobUri": uri, "storageAccountArmId": account + ws.storage.account, "credential": sas}
    upload = {"pendingUploadId": str(uuid.uuid4()), "pendingUploadType": "TemporaryBlobReference"}
    return Answer({**upload, "blobReferenceForConsumption": blob})


@route("PUT", rf"\{{ws\}}/({_KINDS})/([^/]+)/versions/([^/]+)")
def _put_version(arm: Arm, request: Request, ws: Workspace, kind: str, name: str, version: str) -> Answer:
    check_name(name)
    _check_version(kind, version)
    given = only(request.body, "Resource", request)["properties"]
    what = f"{SINGULAR[kind]}Version"
    only(given, what, request)
    check_tags(given)
    key = URI.get(kind)
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
            raise Refusal(400, "UserError", f"{SINGULAR[kind]} container {name} is archived: restore it instead.")
        known["properties"].update(properties)
        return Answer(known)
    if kind == "models" and (when := container.deleted.get(version)):
        # Azure/azureml-assets#3439, of a registry; for workspaces no source says otherwise.
        message = f"Asset azureml://models/{name}/versions/{version} was deleted at {when}, it cannot be recreated. "
        raise Refusal(400, "UserError", f"{message}Please try again with a different version.")
    if version.isdecimal():
        container.last_number = max(container.last_number, int(version))
    body = resource(ws, f"{kind}/{name}/versions", version, properties, system_data(modified="User"))
    ws.assets[kind].setdefault(name, {})[version] = body
    return Answer(body, 201, location(request, ws))


def _asset_properties(kind: str) -> Json:
    """Return the properties of an asset for which a client gave none."""
    if kind == "environments":  # not recorded
        common: Json = {"description": None, "tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False}
        return {**common, "environmentType": "UserCreated", "osType": "Linux", "provisioningState": "Succeeded"}
    recorded = "GET {ws}/codes/*/versions/*" if kind == "codes" else f"PUT {{ws}}/{kind}/*/versions/*"
    properties = recordings.properties(recorded, 200 if kind == "codes" else 201)
    properties |= {"description": None, "tags": {}, "properties": {}}
    return properties | ({"flavors": {}, "jobName": None} if kind == "models" else {})


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise invalid(f"Name '{name}' must be 1 to 255 letters, digits, '-' and '_', a letter or digit first.")


def _check_version(kind: str, version: str) -> None:
    if kind == "models" and not _MODEL_VERSION.fullmatch(version):
        text = "Model version must be a positive integer."  # as it comes over the wire, with its code
        raise Refusal(400, "UserError", text, [("ModelVersionOutOfRange", text)], inner=("ModelVersionOutOfRange",))
    if kind == "data" and len(version) > LONGEST_DATA_VERSION:
        raise Refusal(400, "UserError", "Argument 'version' exceeded maximum length of 30 for DatasetId")
    if not _VERSION.fullmatch(version):
        raise invalid(f"Version '{version}' must be 1 to 255 letters, digits, '-', '_' and '.'")


def _is_in_view(request: Request, archived: bool) -> bool:
    """Return whether a listing includes an asset: `listViewType`, by default ActiveOnly (REST reference)."""
    views = {"ActiveOnly": (False,), "ArchivedOnly": (True,), "All": (False, True)}
    return archived in views[request.query.get("listViewType", "ActiveOnly")]
