"""A person's machine in front of the emulator: the environment, and the commands of `deployments.azure`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from deployments.azure import common, setup, transfer
from tests.azureml.stack import AzureStack

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureStack]:
    with AzureStack(tmp_path_factory.mktemp("azure"), clusters={"other": ("Standard_NC6s_v3", 1)}) as stack:
        yield stack


@pytest.fixture
def stack(_stack: AzureStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AzureStack:
    """Return Azure with one useless cluster, and the environment of a person who is about to run a command."""
    place = {
        "AZURE_SUBSCRIPTION_ID": _stack.subscription,
        "AZURE_RESOURCE_GROUP": _stack.resource_group,
        "AZURE_ML_WORKSPACE": _stack.workspace,
        "HOME": str(tmp_path),
    }
    for name, value in {**_stack.environment, **place}.items():
        monkeypatch.setenv(name, value)
    return _stack


@pytest.fixture
def empty_workspace(stack: AzureStack, monkeypatch: pytest.MonkeyPatch) -> AzureStack:
    """Return Azure with a workspace in which no other test has made anything."""
    stack.renew()
    monkeypatch.setenv("AZURE_ML_WORKSPACE", stack.workspace)
    return stack


@pytest.fixture
def command(stack: AzureStack, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command of `deployments.azure`. Return its exit status and what it printed."""
    commands: dict[str, tuple[type[BaseModel], Callable[[Any], None]]] = {
        "setup": (setup.Setup, setup.main),
        "transfer": (transfer.Transfer, transfer.main),
    }

    def call(name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        status = 0
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            try:
                given = list(arguments)
                if name == "setup" and "--smoke-test" not in given:  # it takes minutes
                    given.append("--no-smoke-test")
                common.run(*commands[name], given)
            except SystemExit as end:
                status = int(end.code or 0)
        said = "".join(capfd.readouterr())
        assert stack.client_secret not in said
        return status, said

    return call
