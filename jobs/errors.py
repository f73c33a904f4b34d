"""Every error that this project raises for a person to read.

RebelNerfError
├── InvalidInput           the input cannot work; the text names the scene and file, and the remedy
├── GateRefused            a stage's result is not good enough (too few photos registered, NaN loss …)
├── NotFound               a named capture, asset, job or block does not exist
├── JobFailed              a job ended without a result
│   └── JobInterrupted     a job was ended from outside; another attempt can succeed
├── JobCancelled           a job was cancelled
├── RunCancelled           the waiting flow run was cancelled, and its job with it
├── BudgetExceeded         a job would exceed a limit on costs, so it was not submitted
├── ServerUnavailable      the Prefect server does not answer
└── WorkspaceUnavailable   the workspace did not answer; another try can succeed
"""

from __future__ import annotations

import errno

from jobs.text import printable

__all__ = [
    "TRANSIENT",
    "BudgetExceeded",
    "GateRefused",
    "InvalidInput",
    "JobCancelled",
    "JobFailed",
    "JobInterrupted",
    "NotFound",
    "RebelNerfError",
    "RunCancelled",
    "ServerUnavailable",
    "WorkspaceUnavailable",
    "is_disk_full",
    "is_transient",
]


class RebelNerfError(Exception):
    """Base of all errors of this project. Its text is written for the user, and may quote files and services."""

    def __init__(self, *words: object) -> None:
        super().__init__(*(printable(str(word), lines=True) for word in words))


class InvalidInput(RebelNerfError):
    """The input cannot work. Never retried; raised before a job is submitted if possible."""


class GateRefused(RebelNerfError):
    """A stage's result is not good enough for the next stage. Never retried."""


class NotFound(RebelNerfError):
    """A named capture, asset, job or block does not exist."""


class JobFailed(RebelNerfError):
    """A job ended without a result. The text includes what the job reported."""


class JobInterrupted(JobFailed):
    """A job was ended from outside (preempted, killed, its machine lost). Another attempt can succeed."""


class JobCancelled(RebelNerfError):
    """A job was cancelled, and no run waits for it."""


class RunCancelled(RebelNerfError):
    """The flow run that waits for a job was cancelled. So was the job, unless another run also waits for it."""


class BudgetExceeded(RebelNerfError):
    """A job would exceed a limit on costs, so it was not submitted. Never retried: the limit or options must change."""


class ServerUnavailable(RebelNerfError):
    """The Prefect server does not answer. Nothing was started."""


class WorkspaceUnavailable(RebelNerfError):
    """The workspace did not answer (network, throttling, a busy server). Another try can succeed."""


TRANSIENT = (JobInterrupted, WorkspaceUnavailable)
"""Errors after which the same call can succeed later."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same call can succeed later."""
    return isinstance(error, TRANSIENT)


def is_disk_full(error: Exception) -> bool:
    """Return whether an error means that a disk, a quota or a file has no room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
