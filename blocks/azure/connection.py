"""Open a workspace: the SDK's clients, and the containers of its datastores."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from blocks.azure.container import Container
from blocks.azure.credential import AzureCredential, quiet
from blocks.azure.errors import plain_errors
from blocks.retries import SDK_RETRIES
from jobs.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

__all__ = ["Connection", "Datastore", "datastore_uri", "naming"]

_SIGNED_FOR = timedelta(hours=1)


class Datastore(NamedTuple):
    """A blob datastore of a workspace: its name and its container."""

    name: str
    container: Container


class _Place(NamedTuple):
    """Where an asset's blobs are: the name of their datastore, and the beginning of their names."""

    datastore: str
    path: str


class Connection:
    """Clients and containers of one workspace, for all threads.

    Args:
        credential: who signs in.
        subscription_id, resource_group, workspace: which workspace.
        datastore: the blob datastore to work in; None for the workspace's default.
        folder: the datastore's folder for what this program writes.
    """

    def __init__(
        self,
        credential: AzureCredential,
        subscription_id: str,
        resource_group: str,
        workspace: str,
        datastore: str | None,
        folder: str,
    ) -> None:
        self.credential = credential
        self.subscription_id, self.resource_group, self.workspace = subscription_id, resource_group, workspace
        self._datastore, self._folder = datastore, folder
        self._threads = threading.local()
        self._datastores: dict[str, Datastore] = {}

    @property
    def client(self) -> MLClient:
        """Return this thread's client of the SDK. Whether threads may share one is not documented."""
        client: MLClient | None = getattr(self._threads, "client", None)
        if client is None:
            from azure.ai.ml import MLClient

            quiet("azure.ai.ml")
            client = self._threads.client = MLClient(
                self.credential.sign_in(),
                self.subscription_id,
                self.resource_group,
                self.workspace,
                enable_telemetry=False,
                retry_total=SDK_RETRIES,  # for 12 s: tasks wait for longer faults
            )
        return client

    def store(self) -> Datastore:
        """Return the datastore to work in."""
        return self.open(self._datastore or "")

    def container(self, uri: str) -> Container:
        """Return the container of an asset's blobs."""
        return self.open(self._place(uri).datastore).container

    def path(self, uri: str) -> str:
        """Return the prefix of a URI's blobs. It ends with a slash."""
        return self._place(uri).path.rstrip("/") + "/"

    def _place(self, uri: str) -> _Place:
        """Return the place of an asset from its URI, which names a datastore's path or a job's output."""
        if found := re.fullmatch(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths)?/?", uri):
            return _Place(self.store().name, f"{self._folder}/jobs/{found[1]}/{found[2]}")
        if found := re.fullmatch(r"azureml://(?:.*/)?datastores/([^/]+)/paths/(.+)", uri):
            return _Place(found[1], found[2])
        raise InvalidInput(f"{uri} is not in a datastore of the workspace. Register a folder of a blob datastore.")

    def open(self, name: str) -> Datastore:
        """Return a datastore. The name "" stands for the default datastore."""
        if name in self._datastores:
            return self._datastores[name]
        datastores = self.client.datastores
        with (
            naming(f"datastore: there is no datastore {name!r} in {self.workspace}."),
            plain_errors(f"datastore {name or '(default)'}"),
        ):
            found: Any = datastores.get(name) if name else datastores.get_default()
            if getattr(found, "container_name", None) is None:
                raise InvalidInput(f"datastore: {found.name} is not a blob datastore. Choose one of type Azure Blob.")
            by_identity = type(found.credentials).__name__ == "NoneCredentialConfiguration"

        def signature() -> str:
            with plain_errors(f"datastore {found.name}"):
                fresh: Any = self.client.datastores.get(found.name, include_secrets=True)
                return _signature(fresh)

        url = f"{found.protocol}://{found.account_name}.blob.{found.endpoint}"
        container = Container(url, found.container_name, self.credential.sign_in() if by_identity else signature)
        self._datastores[name] = self._datastores[found.name] = Datastore(found.name, container)
        return self._datastores[name]


def _signature(datastore: Any) -> str:
    """Return a shared access signature for a datastore's container: its own, or one made with its account's key.

    A signature made here lasts an hour and is valid for this container only.

    Raises:
        InvalidInput: the datastore signs in by other means.
    """
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    secret = datastore.credentials
    if given := getattr(secret, "sas_token", None):
        return str(given)
    key = getattr(secret, "account_key", None)
    if not key:
        raise InvalidInput(
            f"datastore: {datastore.name} has neither an account key nor a shared access signature "
            f"({type(secret).__name__}). Choose one that has either, or one that signs in by identity."
        )
    return generate_container_sas(
        datastore.account_name,
        datastore.container_name,
        account_key=key,
        permission=ContainerSasPermissions(read=True, create=True, write=True, delete=True, list=True),
        expiry=datetime.now(timezone.utc) + _SIGNED_FOR,
        protocol="https",
    )


@contextmanager
def naming(message: str) -> Iterator[None]:
    """Turn `NotFound` from inside into `InvalidInput` with this message: a field of the block has a wrong name."""
    try:
        yield
    except NotFound:
        raise InvalidInput(message) from None


def datastore_uri(datastore: str, path: str) -> str:
    """Return the URI of a datastore's path."""
    return f"azureml://datastores/{datastore}/paths/{path}"
