"""The emulator, through the real SDK and over the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import MLClient, Output, command
from azure.identity import EnvironmentCredential

from tests.azureml.stack import AzureStack


@pytest.fixture
def stack(azure_environment: AzureStack) -> AzureStack:
    return azure_environment


@pytest.fixture
def client(stack: AzureStack) -> Iterator[MLClient]:
    yield MLClient(EnvironmentCredential(), stack.subscription, stack.resource_group, stack.workspace)


def job(name: str, script: str, tmp_path: Path, **settings: Any) -> Any:
    """A command job of one bash script in a code folder."""
    code = tmp_path / "code"
    code.mkdir(exist_ok=True)
    (code / "run.sh").write_text(script)
    path = f"azureml://datastores/workspaceblobstore/paths/jobs/{name}/out"
    defaults: dict[str, Any] = {
        "command": "bash run.sh ${{outputs.out}}",
        "environment": "azureml:AzureML-ubuntu@latest" if False else None,
        "compute": "cpu-cluster",
        "outputs": {"out": Output(type="uri_folder", mode="rw_mount", path=path)},
        "experiment_name": "scene",
        "code": str(code),
    }
    return command(name=name, **{**defaults, **settings})
