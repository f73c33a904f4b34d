"""The table of faults names tests and kinds of rounds that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.faults.strikes import KINDS
from tests.faults.test_rounds import CASES, ROUNDS_OF_EACH
from tests.service import ROOT

TABLE = [line for line in (Path(__file__).parent / "README.md").read_text().splitlines() if re.match(r"\| \d", line)]


def functions(file: Path) -> set[str]:
    """Return the names of all functions of a file."""
    tree = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in tree if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_each_fault_has_a_test_that_exists() -> None:
    assert len(TABLE) == 15
    for line in TABLE:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert named, line
        for file, name in named:
            assert name in functions(ROOT / file), f"{file} has no {name}"


def test_the_kinds_of_rounds_exist() -> None:
    named = {
        kind for line in TABLE for text in re.findall(r"rounds of the kinds? (.*?) \|", line)
        for kind in re.findall(r"`([^`]+)`", text)
    }  # fmt: skip
    assert named and named <= set(KINDS)


def test_the_whole_run_goes_through_a_hundred_rounds() -> None:
    assert sum(ROUNDS_OF_EACH[str(case.values[0])] for case in CASES) >= 100
