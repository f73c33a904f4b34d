"""Jobs: commands that clients submit, list and cancel."""

from __future__ import annotations

from tests.azureml import recordings
from tests.azureml.arm import Arm, route
from tests.azureml.assets import check_name
from tests.azureml.bodies import (
    SOON,
    Json,
    check_tags,
    location,
    not_found,
    now,
    only,
    page,
    resource,
    system_data,
    target,
)
from tests.azureml.members import VM_SIZES
from tests.azureml.runner import ENDED, Cluster, Job
from tests.azureml.service import Answer, Refusal, Request
from tests.azureml.state import Workspace


@route("PUT", r"\{ws\}/jobs/([^/]+)")
def _put_job(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    check_name(name)
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
        return _job_body(ws, known)
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
    ws.jobs[name] = job = Job(name, request_body, ws, now())
    answer = _job_body(ws, job, "PUT {ws}/jobs/*", 201)
    answer.headers = location(request, ws)
    arm.start(job)
    return answer


def _job_body(ws: Workspace, job: Job, operation: str = "GET {ws}/jobs/*", status: int = 200) -> Answer:
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
    place = {
        "_azureml.ComputeTargetType": "amlctrain",
        "_azureml.ClusterName": target(given),
    }
    properties |= {
        **{name: value for name, value in given.items() if value is not None},
        "displayName": given.get("displayName") or job.name,
        "status": job.status,
        "identity": given.get("identity"),
        "services": services,
        "properties": {**(given.get("properties") or {}), **place},
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
    return Answer(resource(ws, "jobs", job.name, properties, {**system_data(), "createdAt": job.created}), status)


def job_of(ws: Workspace, name: str) -> Job:
    """Return a job by its name, or raise if there is none."""
    if name not in ws.jobs:
        raise not_found("RunNotFound", f"Run {name} was not found")
    return ws.jobs[name]


@route("GET", r"\{ws\}/jobs/([^/]+)")
def _get_job(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    return _job_body(ws, job_of(ws, name))


@route("GET", r"\{ws\}/jobs")
def _list_jobs(arm: Arm, request: Request, ws: Workspace) -> Answer:
    tag, _, value = request.query.get("tag", "").partition("=")
    jobs = [_job_body(ws, job).body for job in reversed(ws.jobs.values())]
    chosen = [job for job in jobs if not tag or job["properties"]["tags"].get(tag) == (value or None)]
    return page(request, [job for job in chosen if not job["properties"]["isArchived"]])


@route("POST", r"\{ws\}/jobs/([^/]+)/cancel")
def _cancel(arm: Arm, request: Request, ws: Workspace, name: str) -> Answer:
    job = job_of(ws, name)
    if job.status not in ENDED:
        job.status = "CancelRequested"
        job.cancelled.set()
    return Answer(None, 202, {**_later(arm, ws, f"jc:{ws.id}:{name}"), "x-ms-async-operation-timeout": "PT1H"})


def _later(arm: Arm, ws: Workspace, operation: str) -> dict[str, str]:
    url = f"{arm.url(ws)}/mfeOperationResults/{operation}?api-version=2023-04-01-preview"
    return {"Location": url, **SOON}


@route("GET", r"/subscriptions/[^/]+/providers/[^/]+/locations/[^/]+/mfeOperationResults/jc:([^:]+):([^/]+)")
def _cancelled(arm: Arm, request: Request, workspace_id: str, name: str) -> Answer:
    ws = next(ws for ws in arm.workspaces.values() if ws.id == workspace_id)
    if ws.jobs[name].status in ENDED:
        return Answer(None)
    return Answer({}, 202, _later(arm, ws, f"jc:{ws.id}:{name}"))


def _check_serverless(ws: Workspace, given: Json) -> None:
    """Check a job without a cluster: https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute

    Without a size, the service chooses one without a GPU. This project's jobs must not rely on that.
    """
    size = str((given.get("resources") or {}).get("instanceType") or "Standard_DS3_v2")
    if size.lower() not in {each["name"].lower() for each in VM_SIZES}:
        raise Refusal(400, "UserError", f"The instance type {size} is not supported in {ws.location}.")
    identity = given.get("identity") or {}
    if identity.get("identityType") == "Managed" and not (identity.get("clientId") or identity.get("resourceId")):
        raise Refusal(400, "UserError", "Serverless compute does not support system-assigned identity.")
    given["resources"] = {**(given.get("resources") or {}), "instanceType": size}
    body = {"properties": {"properties": {"vmSize": size, "scaleSettings": {"maxNodeCount": 1}}}}
    ws.serverless.setdefault(size.lower(), Cluster(body, now()))
