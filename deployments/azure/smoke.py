"""Check a workspace with a job on each cluster, which checks the job environment, and show its report.

The job's name contains a hash of the environment and the cluster. So a check that has passed is found and not repeated,
and one that is running is followed instead of started again.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Sequence
from typing import Literal

from blocks.azure import AzureMLWorkspace
from blocks.azure.errors import plain_errors
from blocks.azure.jobs import SERVERLESS
from blocks.records import JobSpec, JobState, JobStatus
from deployments.azure import clusters
from jobs.errors import JobFailed, WorkspaceUnavailable
from jobs.report import Failure, parse

__all__ = ["TIME_LIMIT", "Check", "follow"]

TIME_LIMIT = 45 * 60
"""Seconds that a check may run. Its stages are tiny; most of the time goes into the first imports on a slow node."""

_LONGEST_WAIT = 90 * 60  # seconds until the job runs; Azure may have to build the image first
_ATTEMPTS = 3  # because Azure can take nodes away
_PATIENCE = 10 * 60  # seconds without an answer of Azure, after which the check fails


class Check:
    """The check of one cluster.

    Args:
        workspace: the workspace's block.
        tier: which of its clusters.
        size: the VM size of its machines.
    """

    def __init__(self, workspace: AzureMLWorkspace, tier: Literal["cpu", "gpu"], size: str) -> None:
        self.workspace, self.tier = workspace, tier
        self.cluster = str(getattr(workspace, f"{tier}_cluster"))
        with plain_errors(f"cluster {self.cluster}"):
            found = None if self.cluster == SERVERLESS else clusters.find(workspace, self.cluster)
        made = str(getattr(found, "created_on", ""))  # a cluster that was created again is checked again
        checked = (size.lower(), made, workspace.environment, workspace.job_identity)
        mark = hashlib.sha256(repr(checked).encode()).hexdigest()[:8]
        self._family = f"rebel-nerf-check-{tier}-{self.cluster}-{mark}"
        self._attempt = self._started = 0
        self._status: JobStatus | None = None
        self._offset, self._shown_state = 0, ""
        self._failure = ""  # in the log, which can be long before the job has ended
        self._began = self._answered = 0.0
        self.problem = ""
        """Why it failed; empty if it has not failed."""

    @property
    def spec(self) -> JobSpec:
        """Return the job of the current attempt."""
        return JobSpec(
            family=self._family,
            attempt=self._attempt,
            scene="rebel-nerf-check",
            stage="check",
            arguments=("--output", "{outputs.report}", *(("--require", "gpu") if self.tier == "gpu" else ())),
            outputs=("report",),
            tier=self.tier,
            tags={"environment": self.workspace.environment, "cluster": self.cluster},
            time_limit=TIME_LIMIT,
        )

    def find(self) -> bool:
        """Find the newest attempt or choose the next one; return whether the check has passed already."""
        newest: JobStatus | None = None
        for self._attempt in itertools.count(1):
            found = self.workspace.find_job(self.spec.name)
            if found is None:
                break
            newest = found
        if newest and (newest.state is JobState.COMPLETED or not newest.state.ended):
            self._attempt -= 1
            self._status = newest
        return self.passed

    @property
    def passed(self) -> bool:
        """Return whether the check has passed."""
        return self._status is not None and self._status.state is JobState.COMPLETED

    @property
    def ended(self) -> bool:
        """Return whether the check has passed or failed."""
        return self.passed or bool(self.problem)

    def start(self) -> None:
        """Submit the job, unless `find` found one that is running."""
        how = "attached to" if self._status else "submitted"
        self._status = self._status or self.workspace.submit(self.spec)
        self._started += 1
        self._offset, self._failure, self._began = 0, "", time.monotonic()
        self._answered = self._began
        self._say(f"{how} job {self.spec.name}: {self._status.url}")

    def poll(self) -> None:
        """Read the job's state and log, show what is new, and start the next attempt if its node was taken away."""
        name = self.spec.name
        try:
            status = self.workspace.find_job(name)
            self._show_log(name)
        except WorkspaceUnavailable as error:  # a failing poll is not a failing job
            if time.monotonic() - self._answered > _PATIENCE:
                raise
            self._say(f"{error}; trying again")
            return
        self._answered, self._status = time.monotonic(), status
        if status is None:
            self.problem = f"job {name} is gone"
            return
        state = f"{status.state.value.lower()}{f': {status.reason}' if status.reason else ''}"
        if state != self._shown_state:
            self._shown_state = state
            self._say(state)
        if status.state is JobState.INTERRUPTED and self._started < _ATTEMPTS:
            self._attempt, self._status = self._attempt + 1, None
            self.start()
        elif status.state.ended and not self.passed:
            self.problem = f"{self._failure or state}. Its log: {status.url}"
        elif status.state is JobState.QUEUED and time.monotonic() - self._began > _LONGEST_WAIT:
            self.workspace.cancel(name)
            self.problem = f"it got no node within {_LONGEST_WAIT // 60} minutes and was cancelled. {status.reason}"

    def _show_log(self, name: str) -> None:
        """Show the new lines of the report, and keep the message of its failure."""
        while True:
            text, self._offset = self.workspace.read_log(name, self._offset)
            for line in text.splitlines():
                report = parse(line)
                if isinstance(report, Failure):
                    self._failure = report.message
                elif report is None:
                    self._say(line)
            if not text:
                return

    def cancel(self) -> None:
        """Cancel the job if it has not ended."""
        if self._status and not self._status.state.ended:
            self.workspace.cancel(self.spec.name)
            self._say("cancelled")

    def _say(self, words: str) -> None:
        print(f"  {self.cluster}: {words}", flush=True)


def follow(checks: Sequence[Check]) -> None:
    """Run the checks that have not passed yet side by side, to their ends.

    Ctrl-C and errors cancel their jobs.

    Raises:
        JobFailed: a check failed. The text says why.
    """
    checks = [check for check in checks if not check.passed]
    began = time.monotonic()
    try:
        for check in checks:
            check.start()
        while waiting := [check for check in checks if not check.ended]:
            time.sleep(waiting[0].workspace.poll_seconds(time.monotonic() - began))
            for check in waiting:
                check.poll()
    except BaseException:
        for check in checks:
            check.cancel()
        raise
    if failed := [check for check in checks if check.problem]:
        raise JobFailed("\n".join(f"The check on {check.cluster} failed: {check.problem}" for check in failed))
