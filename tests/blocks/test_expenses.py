"""The record of what jobs cost, in a folder and in blob storage: the same behaviour."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

import pytest

from blocks import Expense, LocalWorkspace, Workspace
from jobs.errors import InvalidInput
from tests.azure_fixtures import stack, workspace

__all__ = ["stack", "workspace"]


@pytest.fixture(params=["local", "azure"])
def each_workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    if request.param == "local":
        return LocalWorkspace(root=tmp_path)
    found: Workspace = request.getfixturevalue("workspace")
    return found.model_copy(update={"folder": f"rebel-nerf-{uuid4().hex}"})


def expense(job: str, month: str = "2026-11", **more: object) -> Expense:
    given = {"run": "r", "scene": "street", "stage": "train", "tier": "gpu", "price_per_hour": 2.0}
    submitted = datetime(2026, 11, 3, 4, 5, tzinfo=timezone.utc)
    return Expense.model_validate(
        {"job": job, "month": month, "submitted": submitted, "expected_seconds": 3600.0, **given, **more}
    )


def by_job(found: list[Expense]) -> dict[str, Expense]:
    return {each.job: each for each in found}


def test_the_record_of_a_month(each_workspace: Workspace) -> None:
    assert each_workspace.expenses("2026-11") == each_workspace.expenses("2026-11", "a-1") == []
    first, second, before = expense("a-1"), expense("a-12"), expense("b-1", "2026-10")
    for each in (first, second, before):
        each_workspace.write_expense(each)
    assert by_job(each_workspace.expenses("2026-11")) == {"a-1": first, "a-12": second}
    assert each_workspace.expenses("2026-11", "a-1") == [first]
    ended = first.model_copy(update={"seconds": 1800.0})
    assert (first.cost, ended.cost) == (2.0, 1.0)
    each_workspace.write_expense(ended)
    assert by_job(each_workspace.expenses("2026-11")) == {"a-1": ended, "a-12": second}
    for _ in range(2):
        each_workspace.delete_expense(ended)
    assert each_workspace.expenses("2026-11") == [second]
    assert each_workspace.expenses("2026-10") == [before]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    each_workspace = LocalWorkspace(root=tmp_path)
    each_workspace.write_expense(expense("a-1"))
    (tmp_path / "spent" / "2026-11" / "a-1.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"spent/2026-11/a-1\.json"):
        each_workspace.expenses("2026-11")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    each_workspace = LocalWorkspace(root=tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InvalidInput, match=r"spent/2026-11/a-1\.json .*No space left"):
        each_workspace.write_expense(expense("a-1"))
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_who_adds_up_sees_whole_entries(each_workspace: Workspace) -> None:
    jobs = [f"a-{number}" for number in range(1, 25)]

    def write(job: str) -> int:
        each_workspace.write_expense(expense(job))
        each_workspace.write_expense(expense(job, seconds=7.0))
        return len(each_workspace.expenses("2026-11"))

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(write, jobs)) == len(jobs)
    assert {each.seconds for each in each_workspace.expenses("2026-11")} == {7.0}


def test_a_months_spending_is_read_from_azure_once(each_workspace: Workspace, request: pytest.FixtureRequest) -> None:
    if isinstance(each_workspace, LocalWorkspace):
        pytest.skip("a folder is read each time")
    known = each_workspace._shared.expenses  # type: ignore[attr-defined]
    for number in range(3):
        each_workspace.write_expense(expense(f"a-{number}"))
    assert len(each_workspace.expenses("2026-11")) == len(known) == 3
    each_workspace.write_expense(expense("a-1", seconds=1.0))
    assert by_job(each_workspace.expenses("2026-11"))["a-1"].seconds == 1.0
    assert len(known) == 4


@pytest.mark.parametrize("limit", ["max_cost_per_run", "max_cost_per_month"])
def test_a_limit_without_prices_is_refused(each_workspace: Workspace, limit: str) -> None:
    for prices, missing in (
        ({}, "cpu_price_per_hour and gpu_price_per_hour"),
        ({"cpu_price_per_hour": 0.1}, "without gpu_price_per_hour"),
    ):
        with pytest.raises(InvalidInput, match=f"^{limit}: .*{missing}"):
            each_workspace.model_copy(update={limit: 1.0, **prices}).check()
    each_workspace.model_copy(update={limit: 1.0, "cpu_price_per_hour": 0.0, "gpu_price_per_hour": 0.5}).check()
