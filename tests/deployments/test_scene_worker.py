"""What `deployments/scene_worker.py` needs of Prefect's private parts, so that its new versions fail here first."""

from __future__ import annotations

import ast
import inspect

import pytest
from prefect.workers.base import BaseWorker

from deployments import scene_worker

OVERRIDDEN = {
    "run": ["flow_run", "configuration", "task_status"],
    "kill_infrastructure": ["infrastructure_pid", "configuration", "grace_seconds"],
    "get_and_submit_flow_runs": [],
    "sync_with_backend": [],
    "_submit_run": ["flow_run"],
    "_propose_crashed_state": ["flow_run", "message", "client"],
    "_propose_pending_state": ["flow_run"],
    "_propose_submitting_state": ["flow_run"],
}
"""Methods of Prefect's worker that ours overrides, and their parameters."""

CALLED = {"_mark_flow_run_as_cancelled", "_release_limit_slot", "start"}
"""Methods of Prefect's worker that ours calls besides."""

READ = {"_has_successfully_synced", "_logger", "_submitting_flow_run_ids", "_work_pool_name"}
"""Attributes of Prefect's worker that ours reads."""

BASE = inspect.getsource(BaseWorker)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_an_overridden_method_exists_and_prefect_calls_it(name: str) -> None:
    assert list(inspect.signature(getattr(BaseWorker, name)).parameters) == ["self", *OVERRIDDEN[name]]
    assert f"self.{name}" in BASE
    assert inspect.iscoroutinefunction(getattr(BaseWorker, name))


def test_the_private_methods_that_are_used_exist() -> None:
    assert all(callable(getattr(BaseWorker, name)) for name in CALLED)
    assert all(f"self.{name}" in BASE for name in READ)


def test_the_lists_are_complete() -> None:
    [ours] = [
        node
        for node in ast.parse(inspect.getsource(scene_worker)).body
        if isinstance(node, ast.ClassDef) and node.name == "SceneWorker"
    ]
    methods = {node.name for node in ours.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert methods & set(dir(BaseWorker)) - {"__init__"} == set(OVERRIDDEN)
    used = {
        node.attr
        for node in ast.walk(ours)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    assigned = {
        node.attr for node in ast.walk(ours) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert used - methods - assigned - {"client"} <= CALLED | READ
