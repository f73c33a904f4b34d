"""The part of a workspace's MLflow REST API that is about metrics of runs; errors have MLflow's form.

Requests and limits: https://mlflow.org/docs/latest/rest-api.html (Log Batch, Get Metric History), and MLflow's own
validation, mlflow/utils/validation.py and mlflow/server/handlers.py of https://github.com/mlflow/mlflow/tree/v2.17.2.
Names and rows: https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity. Not recorded from the
service. Stricter than MLflow: unknown members are refused, and a point that is logged twice is kept twice.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from tests.azureml.arm import Arm, route
from tests.azureml.service import Answer, Refusal, Request
from tests.azureml.state import Workspace

if TYPE_CHECKING:
    from tests.azureml.runner import Job

_API = r"/mlflow/v1.0\{ws\}/api/2.0/mlflow"
_MEMBERS = {"run_id", "metrics", "params", "tags"}
_METRIC: dict[str, type | tuple[type, ...]] = {"key": str, "value": (int, float), "timestamp": int, "step": int}
_MOST_IN_A_BATCH, _MOST_BYTES, _MOST_NAMES, _LONGEST_NAME = 250, 1_000_000, 50, 250


@route("POST", rf"{_API}/runs/log-batch")
def _log_batch(arm: Arm, request: Request, ws: Workspace) -> Answer:
    body = request.body
    if not isinstance(body, dict) or not isinstance(body.get("run_id"), str):
        raise _invalid("Missing value for required parameter 'run_id'.")
    if strange := set(body) - _MEMBERS:
        raise _invalid(f"Unknown members {sorted(strange)}.")
    metrics = body.get("metrics", [])
    if not isinstance(metrics, list):
        raise _invalid("Invalid value for parameter 'metrics' supplied: it is no array.")
    if len(metrics) > _MOST_IN_A_BATCH:
        raise _invalid(f"A batch logging request can contain at most {_MOST_IN_A_BATCH} metrics. Got {len(metrics)}.")
    if len(request.raw) > _MOST_BYTES:
        raise _invalid(f"Batched logging API requests must be at most {_MOST_BYTES} bytes, got {len(request.raw)}.")
    for index, metric in enumerate(metrics):
        _check(metric, f"metrics[{index}]")
    job = _run(ws, body["run_id"])
    if len({metric["key"] for metric in [*job.metrics, *metrics]}) > _MOST_NAMES:
        raise _invalid(f"A run has at most {_MOST_NAMES} metric names.")
    job.metrics += metrics
    return Answer({})


@route("GET", rf"{_API}/metrics/get-history")
def _history(arm: Arm, request: Request, ws: Workspace) -> Answer:
    if "metric_key" not in request.query:
        raise _invalid("Missing value for required parameter 'metric_key'.")
    job = _run(ws, request.query.get("run_id", ""))
    return Answer({"metrics": [metric for metric in job.metrics if metric["key"] == request.query["metric_key"]]})


def _check(metric: Any, path: str) -> None:
    if not isinstance(metric, dict) or set(metric) - set(_METRIC):
        raise _invalid(f"Invalid value for parameter '{path}' supplied.")
    for member, kinds in _METRIC.items():
        if member not in metric and member != "step":
            raise _invalid(f"Missing value for required parameter '{path}.{member}'.")
        value = metric.get(member, 0 if kinds is int else "")
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise _invalid(f"Invalid value {value!r} for parameter '{path}.{member}' supplied.")
    if not math.isfinite(metric["value"]):  # no JSON, which Python reads all the same
        raise _invalid(f"Invalid value {metric['value']} for parameter '{path}.value' supplied.")
    if not re.fullmatch(r"[/\w.\- ]+", metric["key"]) or metric["key"].startswith("/"):
        raise _invalid(
            f"Invalid metric name: '{metric['key']}'. Names may only contain alphanumerics, underscores (_), dashes "
            "(-), periods (.), spaces ( ), and slashes (/)."
        )
    if len(metric["key"]) > _LONGEST_NAME:
        raise _invalid(f"Metric name '{metric['key'][:_LONGEST_NAME]}' had length {len(metric['key'])}.")
    if metric["timestamp"] < 10**12:  # milliseconds since 1970; of this century, seconds are fewer
        raise _invalid(f"Invalid timestamp {metric['timestamp']} of '{path}': it is in milliseconds.")


def _run(ws: Workspace, name: str) -> Job:
    if name not in ws.jobs:
        raise _refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Run with id={name} not found")
    return ws.jobs[name]


def _invalid(message: str) -> Refusal:
    return _refusal(400, "INVALID_PARAMETER_VALUE", message)


def _refusal(status: int, code: str, message: str) -> Refusal:
    refusal = Refusal(status, code, message)
    refusal.answer = Answer({"error_code": code, "message": message}, status)
    return refusal
