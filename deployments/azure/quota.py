"""How many vCPUs of a kind of machine a subscription may still use in a workspace's region.

`az ml compute list-usage` shows the same. A dedicated node counts against the quota of its family and against that of
all dedicated nodes of the region, a low-priority one against that of all low-priority nodes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from azure.core.exceptions import HttpResponseError

from blocks.azure import AzureMLWorkspace
from blocks.azure.errors import lacks_role, plain_errors

__all__ = ["Left", "Quota"]

_DEDICATED, _LOW_PRIORITY = "Total Cluster Dedicated Regional vCPUs", "Total Cluster Low Priority Regional vCPUs"


@dataclass(frozen=True)
class Left:
    """What is left of the quota for a machine of a size.

    Args:
        needed: vCPUs of one machine.
        left: vCPUs that may still be used.
        limit: of the quota.
        quota: the name of the quota, as the studio shows it: of those that count, the one with the least left.
    """

    needed: int
    left: int
    limit: int
    quota: str

    def __str__(self) -> str:
        return f"{self.left} of {self.limit} vCPUs left ({self.quota}); a node needs {self.needed}"


class Quota:
    """The quota of a workspace's region, read once.

    Reading it takes a role on the subscription, which many credentials do not have.
    """

    def __init__(self, workspace: AzureMLWorkspace) -> None:
        self._workspace = workspace

    @cached_property
    def _usages(self) -> dict[str, dict[str, Any]]:
        # The SDK (1.35) gives its entity the members of the service, in the service's spelling.
        found = [vars(each) for each in self._workspace.client.compute.list_usage()]
        return {_plain(each["name"]["value"]): each for each in found}

    @cached_property
    def _sizes(self) -> dict[str, dict[str, Any]]:
        return {str(size.name).lower(): vars(size) for size in self._workspace.client.compute.list_sizes()}

    def left(self, size: str, low_priority: bool) -> Left | None:
        """Return what is left for machines of a size; None if Azure does not say."""
        with plain_errors("quota"):
            try:
                known = self._sizes.get(size.lower())
                usages = self._usages
            except HttpResponseError as error:
                if not lacks_role(error):
                    raise
                return None
        if known is None:
            return None
        own = [_LOW_PRIORITY] if low_priority else [f"{known['family']} Cluster Dedicated vCPUs", _DEDICATED]
        counting = [usages[name] for name in map(_plain, own) if name in usages]
        # A limit of -1 means that this quota does not count.
        found = [(each["limit"] - each["currentValue"], each) for each in counting if each["limit"] >= 0]
        if not found:
            return None
        left, scarcest = min(found, key=lambda each: int(each[0]))
        return Left(int(known["vCPUs"]), int(left), int(scarcest["limit"]), str(scarcest["name"]["localizedValue"]))


def _plain(name: str) -> str:
    """Return a name without what Azure writes in two ways: "standardNCSv3Family" is "Standard NCSv3 Family"."""
    return re.sub("[^a-z0-9]", "", name.lower())
