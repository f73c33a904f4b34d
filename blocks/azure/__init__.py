"""An Azure ML workspace: how to sign in, where captures and assets are stored, and where jobs run."""

from blocks.azure.credential import AzureCredential
from blocks.azure.workspace import AzureMLWorkspace

__all__ = ["AzureCredential", "AzureMLWorkspace"]
