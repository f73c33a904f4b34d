"""A workspace block on the emulator, as the set-up command would have left it: `from tests.azure_fixtures import …`."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Environment
from azure.identity import ClientSecretCredential
from pydantic import SecretStr

from blocks.azure import AzureCredential, AzureMLWorkspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


@pytest.fixture
def stack(azure_environment: AzureStack) -> AzureStack:
    client = MLClient(
        ClientSecretCredential(
            azure_environment.tenant, azure_environment.client_id, azure_environment.client_secret
        ),
        azure_environment.subscription, azure_environment.resource_group, azure_environment.workspace,
    )  # fmt: skip
    client.environments.create_or_update(Environment(name="rebel-nerf", version="1", image="ubuntu"))
    return azure_environment


@pytest.fixture
def workspace(stack: AzureStack, tmp_path: Path) -> AzureMLWorkspace:
    credential = AzureCredential(
        method="service principal",
        tenant_id=stack.tenant,
        client_id=stack.client_id,
        client_secret=SecretStr(stack.client_secret),
    )
    return AzureMLWorkspace(
        credential=credential,
        subscription_id=stack.subscription,
        resource_group=stack.resource_group,
        workspace=stack.workspace,
        cache=tmp_path / "cache",
    )
