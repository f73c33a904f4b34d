"""The check of a workspace: a job on each cluster tries the whole job environment, and its report is shown.

A check that passed is its own memory: the job's name stands for the environment and the cluster. So the same check is
never run twice, and one that is under way is followed instead of started anew.
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
from blocks.workspace import JobSpec, JobState, JobStatus
from deployments.azure import clusters
from jobs.errors import JobFailed, WorkspaceUnavailable
from jobs.report import Failure, parse

__all__ = ["TIME_LIMIT", "Check", "follow"]

TIME_LIMIT = 45 * 60
"""Seconds that a check may run. What it runs is tiny: most of the time goes into a slow node's first imports."""

_LONGEST_WAIT = 90 * 60  # seconds for a node; on the way Azure may build the image
_ATTEMPTS = 3  # as nodes can be taken away
_PATIENCE = 10 * 60  # seconds for which Azure may not answer


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
        made = str(getattr(found, "created_on", ""))  # one that is made anew is checked anew
        told = (size.lower(), made, workspace.environment, workspace.job_identity)
        mark = hashlib.sha256(repr(told).encode()).hexdigest()[:8]
        self._family = f"rebel-nerf-check-{tier}-{self.cluster}-{mark}"
        self._attempt = self._started = 0
        self._status: JobStatus | None = None
        self._offset, self._said = 0, ""
        self._began = self._answered = 0.0
        self.problem = ""
        """Why it failed; empty while it did not."""

    @property
    def spec(self) -> JobSpec:
        """The job of the current attempt."""
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
        """Find the newest attempt, or choose the next one; whether the check has passed already."""
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
        """Whether it came to a good end."""
        return self._status is not None and self._status.state is JobState.COMPLETED

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to follow."""
        return self.passed or bool(self.problem)

    def start(self) -> None:
        """Submit the job, unless `find` found one that is under way."""
        how = "attached to" if self._status else "submitted"
        self._status = self._status or self.workspace.submit(self.spec)
        self._started += 1
        self._offset, self._began = 0, time.monotonic()
        self._answered = self._began
        self._say(f"{how} job {self.spec.name}: {self._status.url}")

    def poll(self) -> None:
        """Look at the job, show what is new, and start the next attempt if its node was taken away."""
        name = self.spec.name
        try:
            status, failure = self.workspace.find_job(name), self._show_log(name)
        except WorkspaceUnavailable as error:  # a failing poll is not a failing job
            if time.monotonic() - self._answered > _PATIENCE:
                raise
            self._say(f"{error}; asking again")
            return
        self._answered, self._status = time.monotonic(), status
        if status is None:
            self.problem = f"job {name} is gone"
            return
        said = f"{status.state.value.lower()}{f': {status.reason}' if status.reason else ''}"
        if said != self._said:
            self._said = said
            self._say(said)
        if status.state is JobState.INTERRUPTED and self._started < _ATTEMPTS:
            self._attempt, self._status = self._attempt + 1, None
            self.start()
        elif status.state.ended and not self.passed:
            self.problem = f"{failure or said}. Its log: {status.url}"
        elif status.state is JobState.QUEUED and time.monotonic() - self._began > _LONGEST_WAIT:
            self.workspace.cancel(name)
            self.problem = f"it got no node within {_LONGEST_WAIT // 60} minutes, and was cancelled. {status.reason}"

    def _show_log(self, name: str) -> str:
        """Show the new lines of the report; what its failure line says, if there is one."""
        failure = ""
        while True:
            text, self._offset = self.workspace.read_log(name, self._offset)
            for line in text.splitlines():
                report = parse(line)
                if isinstance(report, Failure):
                    failure = report.message
                elif report is None:
                    self._say(line)
            if not text:
                return failure

    def cancel(self) -> None:
        """End the job."""
        if self._status and not self._status.state.ended:
            self.workspace.cancel(self.spec.name)
            self._say("cancelled")

    def _say(self, words: str) -> None:
        print(f"  {self.cluster}: {words}", flush=True)


def follow(checks: Sequence[Check]) -> None:
    """Run checks side by side to their ends; those that `find` knows to have passed are left out.

    Ctrl-C, like any error here, cancels their jobs.

    Raises:
        JobFailed: a check failed; says what is wrong.
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
