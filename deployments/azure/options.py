"""What all commands for Azure have in common: which workspace is meant, and errors without stack frames."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from prefect.events.schemas.events import Event, Resource
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import CliApp

from blocks.azure import AzureCredential, AzureMLWorkspace
from jobs.errors import InvalidInput, RebelNerfError

__all__ = ["Place", "capture_event", "run"]


def _from_environment(name: str) -> Any:
    return Field(default_factory=lambda: os.environ.get(name, ""), description=f"if not given, ${name}")


class Place(BaseModel):
    """An Azure ML workspace: a saved block, or told by options and environment variables."""

    block: str = Field("", description="name of a saved block of the workspace; the other options are not needed then")
    subscription: str = _from_environment("AZURE_SUBSCRIPTION_ID")
    resource_group: str = _from_environment("AZURE_RESOURCE_GROUP")
    workspace: str = _from_environment("AZURE_ML_WORKSPACE")

    def open(self, **more: Any) -> AzureMLWorkspace:
        """The workspace's block.

        Raises:
            InvalidInput: there is no such block, or the options do not tell a workspace.
        """
        if self.block:
            try:
                saved = AzureMLWorkspace.load(self.block)
            except ValueError as error:
                raise InvalidInput(f"block: no block {self.block!r} could be loaded ({error}).") from None
            assert isinstance(saved, AzureMLWorkspace)
            return saved
        try:
            return AzureMLWorkspace(
                credential=credential(),
                subscription_id=self.subscription,
                resource_group=self.resource_group,
                workspace=self.workspace,
                **more,
            )
        except ValidationError as error:
            raise InvalidInput(_sentences(error)) from None


def credential() -> AzureCredential:
    """A service principal, if AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH
    are set as for Azure's own tools; else the Azure CLI's sign-in."""
    given = os.environ.get
    secret, certificate = given("AZURE_CLIENT_SECRET"), given("AZURE_CLIENT_CERTIFICATE_PATH")
    if not (secret or certificate):
        return AzureCredential(tenant_id=given("AZURE_TENANT_ID"))
    password = given("AZURE_CLIENT_CERTIFICATE_PASSWORD")
    try:
        return AzureCredential(
            method="service principal",
            tenant_id=given("AZURE_TENANT_ID"),
            client_id=given("AZURE_CLIENT_ID"),
            client_secret=SecretStr(secret) if secret else None,
            certificate=SecretStr(Path(certificate).read_text()) if certificate and not secret else None,
            certificate_password=SecretStr(password) if password else None,
        )
    except FileNotFoundError:
        raise InvalidInput(f"AZURE_CLIENT_CERTIFICATE_PATH: there is no file {certificate}.") from None
    except ValidationError as error:
        raise InvalidInput(f"credential: {_sentences(error)}") from None


def capture_event(what: str, scene: str, workspace: str) -> Event:
    """Prefect's event `rebel-nerf.capture.<what>`, as the triggers of `reprocess/captures` expect it.

    Args:
        what: "changed" (there may be more to come) or "uploaded" (all is there).
        scene: the scene's name.
        workspace: what a flow's parameter `workspace` takes.
    """
    resource = {"prefect.resource.id": f"rebel-nerf.capture.{scene}", "scene": scene, "workspace": workspace}
    return Event(event=f"rebel-nerf.capture.{what}", resource=Resource(resource))


def run(command: type[BaseModel], main: Callable[[Any], None], arguments: list[str]) -> None:
    """Run a command with options from a command line; exits with 2 for a wrong one and 1 for what goes wrong."""
    try:
        given = CliApp.run(command, cli_args=arguments)
    except ValidationError as error:
        print(_sentences(error), file=sys.stderr)
        sys.exit(2)
    settings = {
        # Saved blocks are Prefect's; without a server, one of its own starts meanwhile, and slowly the first time.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    try:
        with temporary_settings(settings):
            main(given)
    except RebelNerfError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except httpx.TransportError as error:  # nothing here but Prefect's client is httpx
        print(f"\nPrefect's server {PREFECT_API_URL.value()} does not answer: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _sentences(error: ValidationError) -> str:
    """Field and fault, without the values: one of them may be a secret."""
    return "\n".join(f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in error.errors())
