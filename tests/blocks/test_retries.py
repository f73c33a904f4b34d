"""The policy of retries, without waiting."""

from __future__ import annotations

import time

import pytest

from blocks import retries
from blocks.retries import Retries


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.mark.parametrize(("failures", "waits"), [(0, 0), (1, 1), (2, 2)])
def test_a_fault_that_passes_is_retried(slept: list[float], failures: int, waits: int) -> None:
    left = [ConnectionError("cut")] * failures

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    assert Retries((1.0, 4.0)).run(call, lambda error: isinstance(error, ConnectionError)) == "done"
    assert len(slept) == waits
    assert all(0.75 * wait <= slept[index] <= 1.25 * wait for index, wait in enumerate((1.0, 4.0)[:waits]))


def test_the_last_error_is_raised_and_others_at_once(slept: list[float]) -> None:
    numbers = iter(range(10))

    def call() -> None:
        raise ConnectionError(next(numbers))

    with pytest.raises(ConnectionError, match="2"):
        Retries((1.0, 4.0)).run(call, lambda error: True)
    assert len(slept) == 2
    with pytest.raises(ConnectionError, match="3"):
        Retries((1.0, 4.0)).run(call, lambda error: False)
    assert len(slept) == 2


def test_each_policy_waits_longer_than_the_one_inside_it() -> None:
    ladder = (retries.SIGN_IN.waits, retries.REQUEST.waits, retries.CALL.waits, (retries.POLL_SECONDS,))
    totals = [sum(waits) for waits in ladder]
    assert totals == sorted(totals)
