"""The workspace's storage account: containers, SAS tokens, and copies of folders from and to it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import (
    ContainerClient,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_container_sas,
)

from tests.azureml.azurite import Azurite


class Storage:
    """Does what the service itself does with blobs, with the account's key."""

    def __init__(self, azurite: Azurite, workspace_id: str) -> None:
        self._azurite = azurite
        self.account, self.key = azurite.account, azurite.key
        self.url = f"https://{azurite.account}.blob.core.windows.net:443"
        self.containers = {
            "workspaceblobstore": f"azureml-blobstore-{workspace_id}",
            "workspaceartifactstore": "azureml",
            "identityblobstore": f"azureml-identitystore-{workspace_id}",
        }
        self.by_identity = {"identityblobstore"}
        for container in self.containers.values():
            self.create(container)

    def create(self, container: str) -> None:
        """Create a container unless it exists."""
        with suppress(ResourceExistsError):
            self._azurite.client.create_container(container)

    def open(self, container: str) -> ContainerClient:
        """Return a client with the account's key."""
        return self._azurite.client.get_container_client(container)

    def account_sas(self, lifetime: timedelta, permission: str = "rwdlcu") -> str:
        """Return the SAS of `listSecrets`: for containers and objects of the account, but not the account itself."""
        return generate_account_sas(
            self.account,
            self._azurite.key,
            resource_types=ResourceTypes(container=True, object=True),
            permission=permission,
            expiry=datetime.now(timezone.utc) + lifetime,
            protocol="https",
        )

    def container_sas(self, container: str) -> str:
        """Return a SAS for an hour of reading and writing in one container."""
        return generate_container_sas(
            self.account,
            container,
            self._azurite.key,
            permission=ContainerSasPermissions(read=True, write=True, create=True, list=True, add=True),
            expiry=datetime.now(timezone.utc) + timedelta(hours=1),
        )

    def download(self, container: str, prefix: str, folder: Path) -> Path | None:
        """Copy the blobs under a prefix into a folder, or one blob to a file; return its path, or None if none."""
        client, prefix = self.open(container), prefix.strip("/")
        names = list(client.list_blob_names(name_starts_with=prefix))
        if prefix in names:
            names, root = [prefix], os.path.dirname(prefix)
        else:
            root = prefix
            names = [name for name in names if not prefix or name.startswith(f"{prefix}/")]

        def fetch(name: str) -> Path:
            target = folder / os.path.relpath(name, root or ".")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                client.download_blob(name, max_concurrency=2).readinto(stream)
            return target

        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(8) as pool:
            files = list(pool.map(fetch, names))
        return files[0] if names == [prefix] else folder if files else None

    def upload(self, container: str, prefix: str, folder: Path, files: list[str]) -> None:
        """Copy files, named relative to the folder, to blobs under a prefix."""

        def store(name: str) -> None:
            with suppress(FileNotFoundError), (folder / name).open("rb") as stream:
                self.open(container).upload_blob(f"{prefix.strip('/')}/{name}", stream, overwrite=True)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(store, files))

    def delete(self, container: str, prefix: str) -> int:
        """Delete every blob under a prefix; return how many there were."""
        client = self.open(container)
        names = list(client.list_blob_names(name_starts_with=prefix.strip("/")))
        for name in names:
            client.delete_blob(name)
        return len(names)
