"""Run history: the state of a job, its services, and the URIs of its outputs."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone

from tests.azureml.arm import Arm, route
from tests.azureml.bodies import Json, now, target
from tests.azureml.jobs import job_of
from tests.azureml.service import Answer, Request
from tests.azureml.state import Workspace


@route("GET", r"/history/v1.0\{ws\}/runs/([^/]+)/details")
def _details(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    job = job_of(ws, name)
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
        error |= {"location": ws.location, "time": now(), "componentName": "globaljobdispatcher"}
    warnings = [{"source": "Execution", "message": job.warning}] if job.warning else None
    times = {"createdTimeUtc": job.created, "startTimeUtc": _at(job.started), "endTimeUtc": _at(job.ended)}
    details = {
        "runId": name,
        "runUuid": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "target": target(job.request),
        "status": job.status,
        "tags": job.request.get("tags") or {},
        "logFiles": {
            log.removeprefix(f"{job.artifacts}/"): f"{ws.storage.url}/{container}/{log}?{sas}" for log in logs
        },
    }
    return Answer({**details, **times, "error": error, "warnings": warnings})


@route("GET", r"/history/v1.0\{ws\}/runs/([^/]+)/serviceinstances/([^/]+)")
def _services(arm: Arm, request: Request, ws: Workspace, name: str, node: str) -> Answer:
    job = job_of(ws, name)
    running = job.status == "Running"
    wanted = (job.request.get("services") or {}) if running and node == "0" else {}
    proxy = f"wss://ssh-{name}.{ws.location}.nodes.azureml.ms"
    instances = {
        key: {
            "type": one["jobServiceType"],
            "port": one.get("port") or arm.node_address[1],
            "status": "Running",
            "error": None,
            "endpoint": None,
            "properties": {**(one.get("properties") or {}), "ProxyEndpoint": proxy},
        }
        for key, one in wanted.items()
    }
    return Answer({"instances": instances})


@route("POST", r"/history/v1.0\{ws\}/rundata")
def _run_data(arm: Arm, request: Request, ws: Workspace) -> Answer:
    job = job_of(ws, request.body["runId"])
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
        "target": target(job.request),
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
def _resolve(arm: Arm, request: Request, ws: Workspace) -> Answer:
    values = {}
    for value in request.body["values"]:
        found = re.fullmatch(r".*/data/azureml_(.+)_output_data_(.+)/versions/1", value)
        assert found
        job = job_of(ws, found[1])
        uri, kind = f"azureml://datastores/workspaceartifactstore/paths/{job.artifacts}/", "UriFolder"
        if output := job.request["outputs"].get(found[2]):
            uri, kind = job.output_uri(found[2]), _pascal(output.get("jobOutputType"))
        values[value] = {"uri": ws.long_form(uri), "type": kind, "legacyDatasetType": None}
    return Answer({"values": values})


def _at(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _pascal(kind: str | None) -> str:
    return "".join(part.capitalize() for part in (kind or "uri_folder").split("_"))
