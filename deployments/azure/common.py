"""What the commands for Azure share: workspaces from options, credentials, and errors without tracebacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from pydantic import BaseModel, SecretStr, ValidationError

from blocks.azure import AzureCredential, AzureMLWorkspace
from blocks.saved import loading
from commands.shell.run import parse_command
from deployments.azure.options import AzureOptions
from jobs.errors import InvalidInput, RebelNerfError, WorkspaceUnavailable
from jobs.program import typed
from jobs.validation import complaints
from tasks.sign_in import sign_in_settings

__all__ = ["AzureOptions", "capture_event", "credential", "described", "has_secret", "load", "run", "server_answers"]


def described(options: AzureOptions, saved: AzureMLWorkspace | None, more: dict[str, Any]) -> AzureMLWorkspace:
    """Return what `AzureOptions.described` returns."""
    given = {
        "subscription_id": options.subscription,
        "resource_group": options.resource_group,
        "workspace": options.workspace,
    }
    if saved is None:
        return _valid({"credential": credential(), **given, **more})
    changes = {**({} if options.block else {name: value for name, value in given.items() if value}), **more}
    changed = _valid({**dict(saved), **changes})
    return saved.model_copy(update={name: getattr(changed, name) for name in changes})


def load(name: str) -> AzureMLWorkspace:
    """Load the saved workspace of that name.

    Raises:
        InvalidInput: there is none, or it is wrong.
    """
    with loading(f"{AzureMLWorkspace.get_block_type_slug()}/{name}"):
        saved = AzureMLWorkspace.load(name)
    assert isinstance(saved, AzureMLWorkspace)
    return saved


def _valid(fields: dict[str, Any]) -> AzureMLWorkspace:
    try:
        return AzureMLWorkspace.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput("\n".join(complaints(error, "options"))) from None


def has_secret() -> bool:
    """Return whether the environment has a service principal's secret or certificate."""
    return bool(os.environ.get("AZURE_CLIENT_SECRET") or os.environ.get("AZURE_CLIENT_CERTIFICATE_PATH"))


def credential() -> AzureCredential:
    """Return a service principal's credential if the variables of Azure's own tools are set, else the Azure CLI's.

    The variables are AZURE_CLIENT_ID, AZURE_TENANT_ID, and AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH.
    """
    given = os.environ.get
    secret, certificate = given("AZURE_CLIENT_SECRET"), given("AZURE_CLIENT_CERTIFICATE_PATH")
    if not has_secret():
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
        raise InvalidInput(
            f"AZURE_CLIENT_CERTIFICATE_PATH: there is no file {certificate}. Correct the path."
        ) from None
    except ValidationError as error:
        raise InvalidInput(f"credential: {'; '.join(complaints(error, 'of the environment'))}") from None


@contextmanager
def server_answers() -> Iterator[None]:
    """Translate the errors of a Prefect server that does not answer. Only Prefect uses httpx; Azure's SDKs do not.

    Raises:
        WorkspaceUnavailable: it does not answer.
    """
    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "Failed to reach API" not in str(error):
            raise
        raise WorkspaceUnavailable(
            f"Prefect's server {PREFECT_API_URL.value() or ''} does not answer ({error}). Start it with "
            f"`{typed('server')}`, or unset PREFECT_API_URL to go on without a server of your own."
        ) from None


def capture_event(what: str, scene: str, workspace: str) -> Event:
    """Return Prefect's event `rebel-nerf.capture.<what>`, as the triggers of `reprocess/captures` expect it.

    Args:
        what: "changed" if more may come, or "uploaded" if the upload is complete.
        scene: the scene's name.
        workspace: the value of a flow's parameter `workspace`.
    """
    resource = {"prefect.resource.id": f"rebel-nerf.capture.{scene}", "scene": scene, "workspace": workspace}
    return Event(event=f"rebel-nerf.capture.{what}", resource=Resource(resource))


def run(command: type[BaseModel], main: Callable[[Any], None], arguments: list[str]) -> None:
    """Run a command with options from a command line; exit with 2 for wrong options and with 1 if the command fails."""
    options = parse_command(command, arguments)
    settings = {
        # Prefect keeps saved blocks. Without a server, it starts one for the command. The first start is slow.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    try:
        with temporary_settings({**settings, **sign_in_settings()}), server_answers():
            main(options)
    except RebelNerfError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
