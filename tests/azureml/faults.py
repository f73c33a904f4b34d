"""What can go wrong, on demand.

| kind | what it matches | settings |
|---|---|---|
| throttle | an operation, e.g. "GET .*/jobs/": 429 | retry_after: seconds |
| unavailable | an operation: 503 | |
| forbidden | an operation: 403, as if a role were missing | |
| disallowed | an operation: 403, as a company's policy does it | |
| linked | an operation: 403, as if a role on another resource were missing | |
| delay | an operation: answered late | seconds |
| expired_sas | the datastore of a `listSecrets`: a SAS of a shorter life | seconds (0: expired when it comes) |
| read_only_sas | the same: a SAS that lets nobody write | |
| account_key | the same: the account's key instead of a SAS | |
| storage_busy | a blob host: 503 ServerBusy | |
| keyless | a blob host: 403 KeyBasedAuthenticationNotPermitted | |
| firewall | a blob host: 403 AuthorizationFailure, as by network rules | |
| refuse | a host: the proxy answers 502 | |
| cut | a host: the connection is reset | after: bytes passed |
| truncate | a host: the connection ends as if all were said | after: bytes passed |
| slow | a host: its bytes come slowly | rate: bytes a second and connection |
| preempt | a job: its node goes, it starts again in an empty folder | after: seconds of running |
| preemption_error | a job: its node goes, it fails with the service's words for that | after |
| not_responding | a job: its node falls silent | after |
| quota | a job: no node is ever given to it | |
| quota_at_creation | a cluster's name: it cannot be made | |
| policy | a company policy, by its name in arm.py: it is in force | |
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from types import TracebackType

_KINDS = set(re.findall(r"^\| (\w+) \|", __doc__, re.MULTILINE)) - {"kind"}


@dataclass(eq=False)
class Fault:
    """One fault; `hits` counts how often it struck. As a context manager it is gone at the end."""

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
    """The faults that are on."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, kind: str, match: str = "", times: int | None = None, **settings: float) -> Fault:
        """Have something go wrong where the regular expression `match` is found, at most `times` times."""
        if kind not in _KINDS:
            raise ValueError(f"no fault {kind!r}; there are {sorted(_KINDS)}")
        fault = Fault(kind, match, times, settings, owner=self)
        with self._lock:
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Put it right again."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        """Put everything right."""
        with self._lock:
            self._faults = []

    def take(self, kind: str, subject: str, received: float = 0, count: bool = True) -> Fault | None:
        """The fault to strike now, if any; `received`: bytes or seconds, to be compared with its `after`."""
        with self._lock:
            for fault in self._faults:
                left = fault.times is None or fault.hits < fault.times
                if fault.kind == kind and left and received >= fault["after"] and re.search(fault.match, subject):
                    fault.hits += count
                    return fault
        return None
