"""Fixtures: `azure_stack` runs for the whole session, `azure_environment` sets a client's variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.azureml.stack import AzureStack


@pytest.fixture(scope="session")
def azure_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureStack]:
    """Run the emulator."""
    from tests.azureml.stack import AzureStack  # the Azure SDKs are slow to import, and most tests don't need them

    with AzureStack(tmp_path_factory.mktemp("azure")) as stack:
        yield stack


@pytest.fixture(scope="module")
def azure_workspace(azure_stack: AzureStack) -> AzureStack:
    """Give each file of tests a workspace of its own."""
    azure_stack.renew()
    return azure_stack


@pytest.fixture
def azure_environment(azure_workspace: AzureStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureStack]:
    """Set the environment of a client that can sign in; start without faults, and fail if the emulator had failures."""
    for name, value in azure_workspace.environment.items():
        monkeypatch.setenv(name, value)
    azure_workspace.faults.clear()
    azure_workspace.failures.clear()
    yield azure_workspace
    azure_workspace.faults.clear()
    assert not azure_workspace.failures
