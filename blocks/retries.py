"""One policy for faults that may pass, and one table of how long each kind of call is retried.

The innermost policy that covers a call retries it first. When it gives up, the next one retries:

| policy | covers | retried after |
|---|---|---|
| `REQUEST` | one request to blob storage | a busy server, a cut connection |
| `SIGN_IN` | getting a token, which Azure's SDK does not retry | `WorkspaceUnavailable` |
| `SDK_RETRIES`, `METRICS_RETRIES` | one request of Azure's SDK, with its own waits | what the SDK retries |
| `CALL` | one call of a workspace by a task | `WorkspaceUnavailable` |
| `POLL_SECONDS` | polls of a job that runs | `WorkspaceUnavailable`; the job goes on |
| `STAGE` | a whole stage, with another job if the last one was interrupted | `jobs.errors.TRANSIENT` |
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["CALL", "METRICS_RETRIES", "POLL_SECONDS", "REQUEST", "SDK_RETRIES", "SIGN_IN", "STAGE", "Retries"]

T = TypeVar("T")
_JITTER = 0.25  # as a share of a wait: callers that failed together do not come back together


@dataclass(frozen=True)
class Retries:
    """How often a call is retried.

    Args:
        waits: seconds before each retry. The first try comes before them.
    """

    waits: tuple[float, ...]

    def delays(self) -> Iterator[float]:
        """Yield the seconds to wait before each retry, varied at random."""
        return (wait * random.uniform(1 - _JITTER, 1 + _JITTER) for wait in self.waits)

    def run(self, call: Callable[[], T], may_pass: Callable[[Exception], bool]) -> T:
        """Return the result of a call. Retry it after errors that may pass, and raise the last one."""
        for delay in self.delays():
            try:
                return call()
            except Exception as error:
                if not may_pass(error):
                    raise
            time.sleep(delay)
        return call()


REQUEST = Retries((0.75, 1.5, 3.0, 6.0, 12.0))
SIGN_IN = Retries((1.0, 4.0))
SDK_RETRIES = 4
METRICS_RETRIES = 3
CALL = Retries((2.0, 5.0, 15.0, 30.0))
POLL_SECONDS = 30 * 60.0
STAGE = Retries((5.0, 10.0, 20.0))
