"""The emulator's MLflow API, asked as MLflow's own clients ask: what it takes, and what it refuses."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import requests

from blocks.azure import AzureMLWorkspace
from tests.azure_fixtures import sketch, stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]

pytestmark = pytest.mark.slow  # of the emulator, not of the product

NOW = int(time.time() * 1000)
POINT = {"key": "loss", "value": 0.5, "timestamp": NOW, "step": 1}


def ask(workspace: AzureMLWorkspace, method: str, path: str, **given: Any) -> requests.Response:
    uri = str(workspace.client.workspaces.get(workspace.workspace).mlflow_tracking_uri)
    token = workspace.credential.sign_in().get_token("https://management.azure.com/.default").token
    url = f"{uri.replace('azureml://', 'https://')}/api/2.0/mlflow/{path}"
    return requests.request(method, url, headers={"Authorization": f"Bearer {token}"}, timeout=9, **given)


def test_metrics_are_kept_in_their_order(workspace: AzureMLWorkspace) -> None:
    run = workspace.submit(sketch("street-mlflow-1")).name
    points = [POINT, {**POINT, "key": "train/psnr"}, {**POINT, "step": 2, "value": 0}]
    assert ask(workspace, "POST", "runs/log-batch", json={"run_id": run, "metrics": points}).json() == {}
    history = ask(workspace, "GET", "metrics/get-history", params={"run_id": run, "metric_key": "loss"}).json()
    assert history == {"metrics": [points[0], points[2]]}
    assert ask(workspace, "GET", "metrics/get-history", params={"run_id": run}).status_code == 400


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"run_id": None}, "run_id"),
        ({"metrics": {"loss": 1}}, "no array"),
        ({"metric": []}, "Unknown members"),
        ({"metrics": [{"key": "loss", "value": 1.0}]}, r"metrics\[0\].timestamp"),
        ({"metrics": [{**POINT, "value": "0.5"}]}, "value"),
        ({"metrics": [{**POINT, "step": 1.5}]}, "step"),
        ({"metrics": [{**POINT, "timestamp": NOW / 1000}]}, "timestamp"),
        ({"metrics": [{**POINT, "timestamp": NOW // 1000}]}, "milliseconds"),
        ({"metrics": [{**POINT, "key": "gpu %"}]}, "Invalid metric name"),
        ({"metrics": [{**POINT, "key": "k" * 251}]}, "had length 251"),
        ({"metrics": [{**POINT, "colour": "red"}]}, r"metrics\[0\]"),
        ({"metrics": [POINT] * 251}, "at most 250"),
        ({"metrics": [{**POINT, "key": str(number)} for number in range(51)]}, "at most 50 metric names"),
    ],
)
def test_the_emulator_refuses_what_the_service_refuses(
    workspace: AzureMLWorkspace, stack: AzureStack, wrong: dict[str, Any], said: str
) -> None:
    run = workspace.submit(sketch("street-mlflow-2")).name
    answer = ask(workspace, "POST", "runs/log-batch", json={"run_id": run, "metrics": [POINT], **wrong})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert re.search(said, answer.json()["message"])
    assert stack.jobs[run].metrics == []


def test_a_run_that_is_not_there_and_a_number_that_is_none(workspace: AzureMLWorkspace) -> None:
    body = {"run_id": "nobody", "metrics": [POINT]}
    answer = ask(workspace, "POST", "runs/log-batch", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    run = workspace.submit(sketch("street-mlflow-2")).name
    nan = f'{{"run_id": "{run}", "metrics": [{{"key": "loss", "value": NaN, "timestamp": {NOW}}}]}}'
    assert ask(workspace, "POST", "runs/log-batch", data=nan).status_code == 400
