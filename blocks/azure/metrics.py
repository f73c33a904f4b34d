"""Curves on a job's page in the studio, by the MLflow REST API that each Azure ML workspace has.

https://mlflow.org/docs/latest/rest-api.html tells the requests; https://learn.microsoft.com/azure/machine-learning/
how-to-use-mlflow-configure-tracking the tracking URI, which leads to the API once its scheme is https (so does
https://github.com/Azure/azureml-examples, sdk/python/using-mlflow/using-rest-api). A job's run ID is its name.
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
from blocks.workspace import Measured

if TYPE_CHECKING:
    from azure.core import PipelineClient

__all__ = ["Metrics"]

# https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity; MLflow itself takes 1000 in a batch.
_MOST_NAMES, _MOST_IN_A_BATCH = 50, 250


class Metrics:
    """What was measured in one job.

    How far its curves were passed on is a small blob, `<folder>/curves/<job>.json`. It is moved on before points are
    posted, and only if nobody else has moved it meanwhile: no point is ever posted by two processes, whichever of them
    dies and when. What a process dies over is a gap in the curve of about a minute.

    Args:
        connection: the way to the workspace.
        folder: the datastore's folder for what this program writes.
        job: its name.
    """

    def __init__(self, connection: Connection, folder: str, job: str) -> None:
        self._connection, self._job = connection, job
        self._reached = f"{folder}/curves/{job}.json"
        self._unposted: list[dict[str, Any]] = []

    def log(self, points: Sequence[Measured]) -> None:
        """Post those of the points that are beyond the ends of their curves; what could not be posted before, too."""
        self._unposted += self._claim(points)
        while batch := self._unposted[:_MOST_IN_A_BATCH]:
            self._post(batch)
            del self._unposted[: len(batch)]

    def _claim(self, points: Sequence[Measured]) -> list[dict[str, Any]]:
        """The metrics, as MLflow takes them, that this process and no other is to post."""
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

        self._connection.store()[1].update(self._reached, claim)
        return claimed

    def _post(self, metrics: list[dict[str, Any]]) -> None:
        from azure.core.rest import HttpRequest

        with plain_errors(f"metrics of job {self._job}"):
            body = {"run_id": self._job, "metrics": metrics}
            client, uri = self._api
            request = HttpRequest("POST", f"{uri}/api/2.0/mlflow/runs/log-batch", json=body)
            # The same point twice is one: its name, step, time and value are the same.
            with client.send_request(request, retry_on_methods=["POST"]) as response:
                response.raise_for_status()

    @cached_property
    def _api(self) -> tuple[PipelineClient[Any, Any], str]:
        """A client that signs in, and the URI below which the API is."""
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy

        tracking: Any = self._connection.client.workspaces.get(self._connection.workspace).mlflow_tracking_uri
        uri = re.sub("^azureml:", "https:", tracking)
        sign_in = BearerTokenCredentialPolicy(self._connection.credential.sign_in(), ARM_SCOPE)
        return PipelineClient(uri, policies=[RetryPolicy(retry_total=3), sign_in]), uri
