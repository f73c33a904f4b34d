"""Tags of the service, and its errors about names that are taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["KIND", "VERSION", "cut_to_limits", "is_name_taken"]

KIND = "kind"
"""The tag with an asset's kind."""

VERSION = "asset_version"
"""The tag with our own version of a model. The service's version is a number."""

# https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 50, 100, 1000


def cut_to_limits(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags, cut to the number and lengths that Azure accepts."""
    return {key[:_LONGEST_KEY]: value[:_LONGEST_VALUE] for key, value in list(tags.items())[-_MOST_TAGS:]}


def is_name_taken(error: Any) -> bool:
    """Return whether the service refuses the name of a job or version because another has it, or had it."""
    taken = r"already (exist|linked)|immutable|cannot be (changed|updated|recreated)"
    return bool(re.search(taken, str(error), re.IGNORECASE))
