from __future__ import annotations

from tests.azureml.plugin import azure_environment, azure_stack, azure_workspace

__all__ = ["azure_environment", "azure_stack", "azure_workspace"]
