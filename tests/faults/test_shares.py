"""Kill rounds can be divided among processes, interrupted and continued."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.faults.rounds import Outcome, record, recorded, shares
from tests.faults.strikes import KINDS
from tests.service import ROOT

_WRITERS, _EACH = 2, 200


def outcome(faults: tuple[str, ...] = ()) -> Outcome:
    return Outcome("job", 1.5, True, {"first": 2, "second": 1}, 0.4, 9.0, faults)


def record_many(file: Path, first: int) -> None:
    for number in range(first, first + _EACH):
        record(file, number, outcome((f"{number} " + "x" * 20_000,)))  # more than a buffer holds


@pytest.mark.parametrize("processes", [1, 7, 19, 44])
def test_each_process_gets_about_as_many_rounds_of_each_kind(processes: int) -> None:
    parts = shares(range(1000), len(KINDS), processes)
    assert sorted(number for part in parts for number in part) == list(range(1000))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for kind in range(len(KINDS)):
        of_kind = [Counter(number % len(KINDS) for number in part)[kind] for part in parts]
        assert max(of_kind) - min(of_kind) <= 1


def test_processes_record_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "record"
    with ProcessPoolExecutor(_WRITERS, get_context("spawn")) as pool:
        list(pool.map(record_many, [file] * _WRITERS, range(0, _WRITERS * _EACH, _EACH)))
    found = recorded(file)
    assert list(found) == list(range(_WRITERS * _EACH))
    assert all(each == outcome((f"{number} " + "x" * 20_000,)) for number, each in found.items())


def rounds(record: Path, *options: str) -> int:
    """Run rounds of a kind that takes little time; return how the command ended."""
    command = [sys.executable, "-m", "tests.faults.rounds", "--only", "two at once", "--record", str(record), *options]
    return subprocess.run(command, cwd=ROOT, timeout=300).returncode


@pytest.mark.slow
def test_rounds_that_the_time_limit_interrupts_are_made_up_for(tmp_path: Path) -> None:
    file = tmp_path / "record"
    assert rounds(file, "--rounds", "3", "--processes", "2", "--seconds", "1") == 0
    assert not recorded(file)
    assert rounds(file, "--rounds", "3", "--processes", "2") == 0
    first = recorded(file)
    assert list(first) == [0, 1, 2]
    assert rounds(file, "--rounds", "4") == 0
    assert list(recorded(file)) == [0, 1, 2, 3]
    assert {number: recorded(file)[number] for number in first} == first


@pytest.mark.slow
def test_a_wrong_round_is_kept_and_the_next_one_gets_a_new_server(tmp_path: Path) -> None:
    file, kept = tmp_path / "record", tmp_path / "kept"
    no_patience = ("--patience", "0")  # every run that has not ended yet is called lost
    assert rounds(file, "--rounds", "2", "--at-once", "1", *no_patience, "--keep", str(kept)) == 1
    assert all("for ever" in each.faults[0] for each in recorded(file).values())
    for number in (0, 1):
        assert (kept / f"r{number}" / "worker.log").exists()
        assert list(kept.glob(f"r{number}/r{number}t*/jobs"))
    assert "r0t" not in (kept / "r1" / "worker.log").read_text()
