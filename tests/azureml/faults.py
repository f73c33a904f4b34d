"""Faults that tests inject.

| kind | what it matches | settings |
|---|---|---|
| throttle | an operation, e.g. "GET .*/jobs/": 429 | retry_after: seconds |
| unavailable | an operation: 503 | |
| forbidden | an operation: 403, as if a role were missing | |
| linked | an operation: 403, as if a role on another resource were missing | |
| delay | an operation: answered late | seconds |
| expired_sas | the datastore of a `listSecrets`: a SAS with a shorter lifetime | seconds (0: already expired) |
| read_only_sas | the same: a SAS that does not allow writing | |
| account_key | the same: the account's key instead of a SAS | |
| storage_busy | a blob host: 503 ServerBusy | |
| keyless | a blob host: 403 KeyBasedAuthenticationNotPermitted | |
| firewall | a blob host: 403 AuthorizationFailure, as by network rules | |
| refuse | a host: the proxy answers 502 | |
| cut | a host: the connection is reset | after: bytes passed |
| truncate | a host: the connection closes normally, but early | after: bytes passed |
| slow | a host: its bytes come slowly | rate: bytes per second and connection |
| preempt | a job: it loses its node, and starts again in an empty folder | after: seconds of running |
| preemption_error | a job: it loses its node, and fails with the service's words for that | after |
| not_responding | a job: its node stops answering | after |
| quota | a job: it never gets a node | |
| no_quota | a quota by its name: its limit is 0 | |
| quota_at_creation | a cluster's name: creating it fails | |
| policy | the name of a company policy in policies.py: it is in force | |
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from types import TracebackType

_KINDS = set(re.findall(r"^\| (\w+) \|", __doc__, re.MULTILINE)) - {"kind"}


@dataclass(eq=False)
class Fault:
    """One fault; `hits` counts how often it struck. As a context manager, it removes itself at the end."""

    kind: str
    match: str
    times: int | None
    settings: dict[str, float]
    hits: int = 0
    owner: Faults | None = field(default=None, repr=False)

    def __getitem__(self, setting: str) -> float:
        return self.settings.get(setting, 0)

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.owner
        self.owner.remove(self)


class Faults:
    """The faults that are in force."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, kind: str, match: str = "", times: int | None = None, **settings: float) -> Fault:
        """Add a fault for whatever the regular expression `match` is found in; it strikes at most `times` times."""
        if kind not in _KINDS:
            raise ValueError(f"no fault {kind!r}; there are {sorted(_KINDS)}")
        fault = Fault(kind, match, times, settings, owner=self)
        with self._lock:
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Remove one fault."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults = []

    def take(self, kind: str, subject: str, received: float = 0, count: bool = True) -> Fault | None:
        """Return the fault that strikes now, if any; `received` is the bytes or seconds to compare with its `after`."""
        with self._lock:
            for fault in self._faults:
                left = fault.times is None or fault.hits < fault.times
                if fault.kind == kind and left and received >= fault["after"] and re.search(fault.match, subject):
                    fault.hits += count
                    return fault
        return None
