"""Read the status of a job, and why it waits or ended."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from blocks.azure.connection import Connection
from blocks.azure.errors import plain_errors
from blocks.records import JobState, JobStatus

__all__ = ["Known", "Statuses", "node_lost"]

# https://learn.microsoft.com/python/api/azure-ai-ml/azure.ai.ml.entities.job
_STATES = {
    "Running": JobState.RUNNING,
    "Finalizing": JobState.RUNNING,
    "CancelRequested": JobState.RUNNING,
    "Completed": JobState.COMPLETED,
    "Failed": JobState.FAILED,
    "Canceled": JobState.CANCELED,
    "NotResponding": JobState.INTERRUPTED,
    "Paused": JobState.INTERRUPTED,
}  # all other states come before Running

# How the service names the fault of a job, before everything that it quotes. A preempted job is a
# UserError: https://github.com/microsoft/MLOpsPython/issues/346,
# https://github.com/Azure/MachineLearningNotebooks/issues/1242. The form of other faults:
# https://github.com/Azure/MachineLearningNotebooks/issues/1360, https://github.com/getindata/kedro-azureml/issues/6.
_FAULT = re.compile(r"AzureMLCompute job failed[.:]?\s+(?P<name>\w+):")
# Only PreemptionError is in public reports. The rest is a guess, from the states in which Azure Batch, on which Azure
# ML runs, loses a node: https://learn.microsoft.com/azure/batch/batch-pool-node-error-checking
_NODE_LOST = re.compile(
    r"preempt|pre-empt|evict|heartbeat|node(lost|fail|unusable|unhealthy|unreachable)"
    r"|\bnode\b.*\b(lost|unusable|unhealthy|unreachable)\b",
    re.IGNORECASE,
)

_LONG_QUEUED_SECONDS = 300.0  # after that, ask the cluster why


class Known:
    """What was found out about clusters and waiting jobs. The copies of a block share it."""

    def __init__(self) -> None:
        self.ports: dict[str, bool] = {}
        """Whether the ssh port of a cluster is open. That never changes."""
        self.asked: dict[str, float] = {}
        """When the cluster of a queued job was last asked about it, by the monotonic clock."""
        self.queued: dict[str, str] = {}
        """Why a job waits."""


@dataclass(frozen=True)
class _End:
    """How a job ended: its state, the reason, and how many seconds it ran."""

    state: JobState
    reason: str
    seconds: float


class Statuses:
    """Reads statuses of a workspace's jobs.

    Args:
        connection: the connection to the workspace.
        known: what earlier calls found out.
    """

    def __init__(self, connection: Connection, known: Known) -> None:
        self._connection, self._known = connection, known

    def read(self, job: Any) -> JobStatus:
        state = _STATES.get(job.status, JobState.QUEUED)
        studio = (job.services or {}).get("Studio")
        url = studio.endpoint if studio else ""
        if state.ended:
            end = self._end(job, state)
            return JobStatus(name=job.name, state=end.state, reason=end.reason, url=url, seconds=end.seconds)
        reason = self._why_queued(job) if state is JobState.QUEUED else ""
        return JobStatus(name=job.name, state=state, reason=reason, url=url)

    def _end(self, job: Any, state: JobState) -> _End:
        """Return how a job ended, from run history. The job's own body says nothing about its end."""
        if job.status == "NotResponding":
            return _End(state, "its node no longer responds", 0.0)
        with plain_errors(f"job {job.name}"):
            details = self._connection.client.jobs._runs_operations.get_run_details(job.name)
        error = details.error.error if details.error else None
        code, message = (str(error.code or ""), str(error.message or "")) if error else ("", "")
        words = f"{code}: {message}" if error else ""
        limit, began, ended = getattr(job.limits, "timeout", None), details.start_time_utc, details.end_time_utc
        seconds = (ended - began).total_seconds() if began and ended else 0.0
        if state is JobState.COMPLETED:
            return _End(state, "", seconds)
        if state is JobState.FAILED and node_lost(code, message):
            return _End(JobState.INTERRUPTED, words, seconds)
        if limit and seconds >= limit:
            return _End(JobState.FAILED, f"over its time limit of {limit} s", seconds)
        if state is JobState.CANCELED:
            return _End(state, "cancelled", seconds)
        return _End(state, words or "it failed without an error message; see its log", seconds)

    def _why_queued(self, job: Any) -> str:
        """Return why a job has waited for long; "" if unknown. Ask its cluster every five minutes."""
        if not job.compute:  # a serverless job has no cluster to ask
            return ""
        now = time.monotonic()
        if now - self._known.asked.setdefault(job.name, now) > _LONG_QUEUED_SECONDS:
            self._known.asked[job.name] = now
            cluster = job.compute.rpartition("/")[2]
            with plain_errors(f"cluster {cluster}"):  # the SDK's own Compute omits its errors
                found: Any = self._connection.client.compute._operation.get(
                    self._connection.resource_group, self._connection.workspace, cluster
                )
            errors = found.properties.properties.errors
            errors_text = "; ".join(str(entry.error.message or entry.error.code) for entry in errors or [])
            self._known.queued[job.name] = f"cluster {cluster} gets no node: {errors_text}" if errors_text else ""
        return self._known.queued.get(job.name, "")


def node_lost(code: str, message: str) -> bool:
    """Return whether a job ended because its node was taken away or broke, from the error that the service reports.

    The service quotes the job's own log, which may say anything. So only the name of the fault counts. If the service
    gives no name and the error is not a UserError, the first line counts.
    """
    if named := _FAULT.match(message.strip()):
        return bool(_NODE_LOST.search(named["name"]))
    own = code if code == "UserError" else f"{code} {message.strip().partition(chr(10))[0]}"
    return bool(_NODE_LOST.search(own))
