"""Every error that this project raises for a person to read.

RebelNerfError
├── InvalidInput           what was given cannot work; the text says which scene and file, and the remedy
├── GateRefused            a stage looked at what it made and refuses it (too few photos registered, NaN loss …)
├── NotFound               a capture, asset, job or block that was named does not exist
├── JobFailed              a job ended without its result
│   └── JobInterrupted     … because something outside ended it: worth another attempt
├── JobCancelled           a job was cancelled
├── RunCancelled           the flow run that waits was cancelled, and its job with it
├── BudgetExceeded         a job was not submitted, as a limit on costs does not allow it
├── ServerUnavailable      the server that keeps the runs does not answer
└── WorkspaceUnavailable   the workspace did not answer: worth another try
"""

from __future__ import annotations

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
    "is_transient",
]


class RebelNerfError(Exception):
    """Base of all errors here; its text is meant for the person at the screen."""


class InvalidInput(RebelNerfError):
    """The input cannot work as given. Never retried, raised before a job is asked for where that is possible."""


class GateRefused(RebelNerfError):
    """A stage's result is not good enough to go on with. Never retried."""


class NotFound(RebelNerfError):
    """A capture, asset, job or block that was named does not exist."""


class JobFailed(RebelNerfError):
    """A job ended without its result; the text carries the job's own words."""


class JobInterrupted(JobFailed):
    """A job was ended from outside (preempted, killed, its machine lost); another attempt can succeed."""


class JobCancelled(RebelNerfError):
    """A job was cancelled; nobody waits for it any more."""


class RunCancelled(RebelNerfError):
    """The flow run that waits for a job was cancelled; so was the job, unless another run waits for it, too."""


class BudgetExceeded(RebelNerfError):
    """A job would exceed a limit on costs, and was not submitted. Never retried: limit or options must change."""


class ServerUnavailable(RebelNerfError):
    """The server that keeps the runs does not answer; nothing was begun."""


class WorkspaceUnavailable(RebelNerfError):
    """The workspace did not answer (network, throttling, a busy server); another try can succeed."""


TRANSIENT = (JobInterrupted, WorkspaceUnavailable)
"""After these, the same call can succeed later with nothing changed."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call can succeed later with nothing changed."""
    return isinstance(error, TRANSIENT)
