"""Tags, and what the service says of names that are taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["KIND", "VERSION", "exists", "fitted"]

KIND = "kind"
"""The tag that tells an asset's kind."""

VERSION = "asset_version"
"""The tag that holds our own version of a model; the service's version is a number."""

# https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 50, 100, 1000


def fitted(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as many and as long as Azure takes them."""
    return {key[:_LONGEST_KEY]: value[:_LONGEST_VALUE] for key, value in list(tags.items())[-_MOST_TAGS:]}


def exists(error: Any) -> bool:
    """Tell whether the service refuses the name of a job or version because another has it, or had it."""
    taken = r"already (exist|linked)|immutable|cannot be (changed|updated|recreated)"
    return bool(re.search(taken, str(error), re.IGNORECASE))
