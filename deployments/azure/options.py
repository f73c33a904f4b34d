"""The options of the commands for Azure that name a workspace. Imports nothing that delays their `--help`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from blocks.azure import AzureMLWorkspace

__all__ = ["DEFAULT_SIZES", "AzureOptions", "own_key"]

DEFAULT_SIZES = {"cpu": "Standard_D4s_v3", "gpu": "Standard_NC4as_T4_v3"}
"""VM sizes of clusters, by tier."""


def own_key() -> Path | None:
    """Return the file with this person's public ssh key, if there is one."""
    found = (Path.home() / ".ssh" / f"{name}.pub" for name in ("id_ed25519", "id_rsa", "id_ecdsa"))
    return next((key for key in found if key.is_file()), None)


def _from_environment(name: str, what: str) -> Any:
    return Field(default_factory=lambda: os.environ.get(name, ""), description=f"{what}. Defaults to ${name}.")


class AzureOptions(BaseModel):
    """An Azure ML workspace: a saved block, or described by options and environment variables."""

    block: str = Field("", description="Name of a saved block of the workspace. The options below are not needed then.")
    subscription: str = _from_environment("AZURE_SUBSCRIPTION_ID", "ID of the Azure subscription")
    resource_group: str = _from_environment("AZURE_RESOURCE_GROUP", "Resource group of the workspace")
    workspace: str = _from_environment("AZURE_ML_WORKSPACE", "Name of the Azure ML workspace")

    def open(self) -> AzureMLWorkspace:
        """Return the workspace's block.

        Raises:
            InvalidInput: there is no such block, it is wrong, or the options name no workspace.
        """
        from deployments.azure import common

        return common.load(self.block) if self.block else self.described()

    def described(self, saved: AzureMLWorkspace | None = None, **more: Any) -> AzureMLWorkspace:
        """Return the workspace that the options describe, or the saved one with what they change.

        Raises:
            InvalidInput: they name no workspace.
        """
        from deployments.azure import common

        return common.described(self, saved, more)
