"""Show curves on a job's page in the studio, with the MLflow REST API of each Azure ML workspace.

https://mlflow.org/docs/latest/rest-api.html documents the requests. With the scheme https, the tracking URI
(https://learn.microsoft.com/azure/machine-learning/how-to-use-mlflow-configure-tracking) is the URI of the API, as in
https://github.com/Azure/azureml-examples, sdk/python/using-mlflow/using-rest-api. A job's run ID is its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from blocks.azure.connection import Connection
from blocks.azure.credential import ARM_SCOPE
from blocks.azure.errors import plain_errors
from blocks.records import Measured
from blocks.retries import METRICS_RETRIES

if TYPE_CHECKING:
    from azure.core import PipelineClient

__all__ = ["Metrics"]

# https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity; MLflow itself takes 1000 in a batch.
_MOST_NAMES, _MOST_IN_A_BATCH = 50, 250


class Metrics:
    """What was measured in one job.

    A small blob, `<folder>/curves/<job>.json`, says how far each curve has been posted. It is updated before points are
    posted, and only if no other process has updated it. So no point is posted by two processes, even if one of them
    dies. A process that dies while posting leaves a gap of about a minute in a curve.

    Args:
        connection: the connection to the workspace.
        folder: the datastore's folder for what this program writes.
        job: the job's name.
    """

    def __init__(self, connection: Connection, folder: str, job: str) -> None:
        self._connection, self._job = connection, job
        self._reached = f"{folder}/curves/{job}.json"
        self._unposted: list[dict[str, Any]] = []

    def log(self, points: Sequence[Measured]) -> None:
        """Post the points beyond the ends of their curves, and those that could not be posted before."""
        self._unposted += self._claim(points)
        while batch := self._unposted[:_MOST_IN_A_BATCH]:
            self._post(batch)
            del self._unposted[: len(batch)]

    def _claim(self, points: Sequence[Measured]) -> list[dict[str, Any]]:
        """Return the metrics, in MLflow's form, that this process must post."""
        claimed: list[dict[str, Any]] = []

        def claim(before: bytes) -> bytes:
            claimed.clear()
            reached = json.loads(before or b'{"steps": {}, "names": []}')
            steps, names = reached["steps"], reached["names"]
            for point in points:
                if point.step <= steps.get(point.curve, -1):
                    continue
                steps[point.curve] = point.step
                for value_name, value in point.values.items():
                    name = re.sub(r"[^\w.\-/ ]", "_", f"{point.curve}/{value_name}".lstrip("/"))
                    if name not in names and len(names) < _MOST_NAMES:
                        names.append(name)
                    if name in names:
                        at = {"timestamp": round(point.time * 1000), "step": point.step}
                        claimed.append({"key": name, "value": value, **at})
            return json.dumps(reached).encode() if claimed else before

        self._connection.store().container.update(self._reached, claim)
        return claimed

    def _post(self, metrics: list[dict[str, Any]]) -> None:
        from azure.core.rest import HttpRequest

        with plain_errors(f"metrics of job {self._job}"):
            body = {"run_id": self._job, "metrics": metrics}
            client, uri = self._api
            request = HttpRequest("POST", f"{uri}/api/2.0/mlflow/runs/log-batch", json=body)
            # A point that is posted twice counts once: its name, step, time and value are the same.
            with client.send_request(request, retry_on_methods=["POST"]) as response:
                response.raise_for_status()

    @cached_property
    def _api(self) -> tuple[PipelineClient[Any, Any], str]:
        """Return a client that signs in, and the URI of the API."""
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy

        tracking: Any = self._connection.client.workspaces.get(self._connection.workspace).mlflow_tracking_uri
        uri = re.sub("^azureml:", "https:", tracking)
        sign_in = BearerTokenCredentialPolicy(self._connection.credential.sign_in(), ARM_SCOPE)
        return PipelineClient(uri, policies=[RetryPolicy(retry_total=METRICS_RETRIES), sign_in]), uri
