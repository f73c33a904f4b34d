"""Run checks one after another, and print what they find."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from jobs.errors import RebelNerfError
from jobs.text import printable

__all__ = ["Check", "Finding", "Level", "run_checks"]


class Level(str, Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        level: how it ended.
        text: what was found.
        remedy: what to do; "" if nothing needs to be done.
    """

    level: Level
    text: str
    remedy: str = ""

    @classmethod
    def ok(cls, text: str) -> Finding:
        """Return a finding that needs no action."""
        return cls(Level.OK, text)

    @classmethod
    def warning(cls, text: str, remedy: str = "") -> Finding:
        """Return a finding that does not keep runs from working."""
        return cls(Level.WARNING, text, remedy)

    @classmethod
    def wrong(cls, text: str, remedy: str) -> Finding:
        """Return a finding that keeps runs from working."""
        return cls(Level.WRONG, text, remedy)


Check = tuple[str, Callable[[], Finding]]
"""The name of a check, and the function that runs it."""


def run_checks(checks: Iterable[Check]) -> Level:
    """Run checks in order, print a line for each, and return the worst level."""
    worst = Level.OK
    levels = list(Level)
    for name, check in checks:
        found = _result(check)
        indented = found.text.replace("\n", "\n" + " " * 24)
        print(printable(f"{found.level.value:<8} {name:<14} {indented}", lines=True))
        if found.remedy:
            print(printable("".join(f"{'':24}→ {line}\n" for line in found.remedy.splitlines()), lines=True), end="")
        sys.stdout.flush()
        worst = max(worst, found.level, key=levels.index)
    return worst


def _result(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except RebelNerfError as error:  # its text says what to do
        return Finding.wrong(str(error), "")
    except Exception as error:
        return Finding.wrong(
            f"the check itself failed: {type(error).__name__}: {error}",
            "Report this, with the output of `rebel-nerf --version`.",
        )
