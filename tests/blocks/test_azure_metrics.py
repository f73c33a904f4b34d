"""Curves of a job in the studio: real requests to the emulator's MLflow API, real blobs that say how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest

from blocks import Measured
from blocks.azure import AzureMLWorkspace
from jobs.errors import WorkspaceUnavailable
from tests.azure_fixtures import sketch, stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


def point(step: int, curve: str = "", metrics: Mapping[str, float] = {}, **values: float) -> Measured:
    return Measured(curve=curve, step=step, time=1.7e9 + step, values={**metrics, **values} or {"loss": 1 / (step + 1)})


def another(workspace: AzureMLWorkspace) -> AzureMLWorkspace:
    """Return the same workspace as another process opens it."""
    return AzureMLWorkspace.model_validate({**dict(workspace), "credential": workspace.credential})


@pytest.fixture
def job(workspace: AzureMLWorkspace) -> str:
    return workspace.submit(sketch(f"street-sketch-{uuid4().hex[:8]}")).name


def steps(stack: AzureStack, job: str) -> list[int]:
    return [metric["step"] for metric in stack.jobs[job].metrics if metric["key"] == "loss"]


def test_a_curve_is_read_back_as_it_was_measured(workspace: AzureMLWorkspace, stack: AzureStack, job: str) -> None:
    workspace.log_metrics(job, [point(10, loss=0.25, psnr=20.5), point(3, "evaluate", psnr=21)])
    at, evaluated = 1_700_000_010_000, 1_700_000_003_000
    assert stack.jobs[job].metrics == [
        {"key": "loss", "value": 0.25, "timestamp": at, "step": 10},
        {"key": "psnr", "value": 20.5, "timestamp": at, "step": 10},
        {"key": "evaluate/psnr", "value": 21.0, "timestamp": evaluated, "step": 3},
    ]


def test_no_point_is_posted_by_two_processes(workspace: AzureMLWorkspace, stack: AzureStack, job: str) -> None:
    """After a crash, the next process reads the whole log again. A job that starts again repeats its steps."""
    workspace.log_metrics(job, [point(1), point(2)])
    another(workspace).log_metrics(job, [point(1), point(2), point(3), point(2), point(4)])
    another(workspace).log_metrics(job, [point(4)])
    assert steps(stack, job) == [1, 2, 3, 4]


def test_of_many_at_the_same_time_one_posts_a_point(workspace: AzureMLWorkspace, stack: AzureStack, job: str) -> None:
    many, start = [another(workspace) for _ in range(4)], Barrier(4)

    def post(each: AzureMLWorkspace) -> None:
        start.wait()
        for last in range(5, 30, 5):
            each.log_metrics(job, [point(step) for step in range(last)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(post, many))
    assert sorted(steps(stack, job)) == list(range(25))


def test_metrics_that_could_not_be_posted_are_posted_later_once(
    workspace: AzureMLWorkspace, stack: AzureStack, job: str
) -> None:
    with stack.faults.add("unavailable", "POST .*log-batch"), pytest.raises(WorkspaceUnavailable, match=job):
        workspace.log_metrics(job, [point(1)])
    workspace.log_metrics(job, [point(1), point(2)])
    assert steps(stack, job) == [1, 2]


def test_batches_and_names_are_as_many_as_azure_takes(workspace: AzureMLWorkspace, stack: AzureStack, job: str) -> None:
    def names(many: Iterable[int]) -> dict[str, float]:
        return {f"gpu {number} %": number for number in many}

    workspace.log_metrics(job, [point(step, metrics=names(range(40))) for step in range(10)])
    another(workspace).log_metrics(job, [point(10, metrics=names(range(60)))])
    kept = stack.jobs[job].metrics
    assert len(kept) == 450
    assert {metric["key"] for metric in kept} == {f"gpu {number} _" for number in range(50)}


def test_a_jobs_page_has_its_description(workspace: AzureMLWorkspace) -> None:
    spec = sketch("street-described", description="Scene **street**" + "!" * 6000)
    workspace.submit(spec)
    described = workspace.client.jobs.get(spec.name).description
    assert described.startswith("Scene **street**!") and len(described) == 5000
    assert workspace.submit(spec.model_copy(update={"description": "of another run"})).name == spec.name


def test_posting_takes_few_requests(workspace: AzureMLWorkspace, stack: AzureStack, job: str) -> None:
    workspace.log_metrics(job, [point(1)])
    before = len(stack.log)
    began = time.monotonic()
    workspace.log_metrics(job, [point(2)])
    asked = [exchange.operation for exchange in stack.log[before:] if exchange.at > began]
    assert [name for name in asked if "mlflow" in name] == ["POST /mlflow/v1.0{ws}/api/2.0/mlflow/runs/*"]
    workspace.log_metrics(job, [point(2)])
    assert sum("mlflow" in exchange.operation for exchange in stack.log[before:]) == 1
