"""Captures and assets: data assets and custom models of a workspace, and the blobs behind them."""

from __future__ import annotations

import fcntl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from blocks.azure.connection import Connection, datastore_uri
from blocks.azure.container import Moved
from blocks.azure.errors import plain_errors
from blocks.azure.files import md5s
from blocks.azure.listing import Blob
from blocks.azure.tags import KIND, VERSION, exists, fitted
from blocks.workspace import Asset, AssetKind, DroppedCapture, DroppedFile, content_fingerprint
from jobs import media
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable

__all__ = ["Assets"]

_TRIES = 20  # as many can take a number between its choice and its use, or have been deleted


class Assets:
    """What is registered in a workspace, and what people upload to it by hand.

    Args:
        connection: the way to the workspace.
        captures: the datastore's folder with a folder per scene for photos uploaded by hand.
        folder: its folder for what this program writes.
        cache: local folder for what is downloaded.
        moved: called as bytes go up or down.
    """

    def __init__(self, connection: Connection, captures: str, folder: str, cache: Path, moved: Moved) -> None:
        self._connection, self._captures, self._folder = connection, captures, folder
        self._cache, self._moved = cache, moved

    def take_in(self, scene: str, files: Mapping[str, Path], tags: Mapping[str, str]) -> Asset:
        sums = md5s(files)
        content = content_fingerprint(md5.hex() for md5 in sums.values())
        if known := _with_content(self.versions(scene), content):
            return known
        path = self._taken(scene, content)
        name, container = self._connection.store()
        container.upload(files, sums, path, self._moved)
        return self._put_capture(scene, content, datastore_uri(name, path), tags)

    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        prefix, found = f"{self._captures}/", defaultdict[str, dict[str, Blob]](dict)
        for blob in self._connection.store()[1].blobs(prefix + (f"{scene}/" if scene else ""), uncommitted=True):
            name, _, path = f"{scene or ''}/{blob.path}".removeprefix("/").partition("/")
            if media.is_media(path or name):
                found[name][path] = blob
        return [_dropped(name, blobs) for name, blobs in found.items()]

    def dropped_in(self) -> tuple[str, str, str]:
        """Where people upload photos by hand: storage account, container, and the folder of the scenes' folders."""
        container = self._connection.store()[1]
        return container.account, container.name, self._captures

    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        return self._find_capture(dropped, self.versions(dropped.scene), self.archived(dropped.scene))

    def _find_capture(self, dropped: DroppedCapture, versions: list[Asset], archived: list[Asset]) -> Asset | None:
        left = self._left(dropped, versions + archived)
        contents = {dropped.content, left.content}
        same = (asset for asset in versions + archived if asset.tags.get("content") in contents)
        # What lies in folders that are registered where they are is known, too.
        known = [*archived[-1:], *versions[-1:]]
        return next(same, None if left.files or not known else known[-1])

    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        scene = dropped.scene
        versions, archived = self.versions(scene), self.archived(scene)
        if (known := self._find_capture(dropped, versions, archived)) and not known.archived:
            return known
        left = self._left(dropped, versions + archived)
        left = left if left.files else dropped
        name, container = self._connection.store()
        blobs = {blob.path: blob for blob in container.blobs(self._drop(scene)) if blob.path in left.files}
        if _dropped(scene, blobs).files != left.files:
            raise InvalidInput(f"scene {scene}: {self._drop(scene)} has changed since it was listed. Wait for its end.")
        path = self._taken(scene, left.content)
        container.copy(self._drop(scene), blobs.values(), path)
        return self._put_capture(scene, left.content, datastore_uri(name, path), tags)

    def _left(self, dropped: DroppedCapture, versions: list[Asset]) -> DroppedCapture:
        """What is in no folder that a person registered where it was uploaded."""
        prefix = self._drop(dropped.scene)
        taken = tuple(path for asset in versions if (path := self._connection.path(asset.uri)).startswith(prefix))
        files = {path: file for path, file in dropped.files.items() if not (prefix + path).startswith(taken)}
        return replace(dropped, files=files)

    def _drop(self, scene: str) -> str:
        return f"{self._captures}/{scene}/"

    def _taken(self, scene: str, content: str) -> str:
        """Apart from where people upload: a folder that is registered must not grow."""
        return f"{self._folder}/captures/{scene}/{content[:16]}/"

    def _put_capture(self, scene: str, content: str, uri: str, tags: Mapping[str, str]) -> Asset:
        taken, number = {**tags, "scene": scene, "content": content}, 0
        for _ in range(_TRIES):
            versions, archived = self.versions(scene), self.archived(scene)
            if known := _with_content(versions, content):
                return known
            numbers = [int(each.version) for each in versions + archived if each.version.isdecimal()]
            number = max(number + 1, 1 + max(numbers, default=0), self._container("data", scene)[1])
            if asset := self._put("data", scene, str(number), fitted({**taken, KIND: "capture"}), uri):
                return asset
        raise WorkspaceUnavailable(f"scene {scene}: others take every number up to {number}. Try again.")

    # assets

    def versions(self, name: str) -> list[Asset]:
        found = [asset for registry in _registries(name) for asset in self._in_registry(registry, name)]
        return sorted((self._completed(asset) for asset in found), key=lambda asset: asset.created)

    def archived(self, name: str) -> list[Asset]:
        found: list[Asset] = []
        for registry in _registries(name):
            those = self._in_registry(registry, name, archived=True)
            if those and self._container(registry, name)[0]:
                raise InvalidInput(
                    f"{name} is archived as a whole in {self._connection.workspace}: whatever is registered under that "
                    "name stays hidden. Restore it in the studio, or take another name for the scene. "
                    f"The command: az ml {registry.removesuffix('s')} restore --name {name}"
                )
            found += those
        return sorted((self._completed(asset) for asset in found), key=lambda asset: asset.created)

    def find(self, name: str, version: str) -> Asset | None:
        for registry in _registries(name):
            if registry == "models":  # known by their numbers there
                found = next((each for each in self._in_registry(registry, name) if each.version == version), None)
            else:
                found = self._find(registry, name, version)
            if found:
                return self._completed(found)
        return None

    def is_there(self, asset: Asset) -> bool:
        """Whether it is still registered, and not archived."""
        if asset.number is None:
            return self.find(asset.name, asset.version) is not None
        found = self._find("models", asset.name, str(asset.number))
        return found is not None and found.version == asset.version

    def _find(self, registry: str, name: str, version: str) -> Asset | None:
        """By the version that the service knows it by; the service also gives what is archived."""
        from azure.core.exceptions import ResourceNotFoundError

        with plain_errors(f"asset {name}:{version}"):
            try:
                found = _asset(getattr(self._connection.client, registry).get(name, version))
            except ResourceNotFoundError:
                return None
        archived = self._in_registry(registry, name, archived=True)
        return None if any(each.version == found.version for each in archived) else found

    def fetch(self, asset: Asset) -> Path:
        final = self._cache / "assets" / asset.name / asset.version
        if final.is_dir():
            return final
        container = self._connection.container(asset.uri)
        part = final.with_name(f".{asset.version}.part")
        part.mkdir(parents=True, exist_ok=True)
        with (final.parent / f".{asset.version}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.is_dir():
                try:
                    container.download(self._connection.path(asset.uri), part, self._moved)
                except NotFound as error:
                    raise NotFound(f"asset {asset}: {error} Run the stage that makes it again.") from None
                part.rename(final)
        return final

    def read(self, asset: Asset, file: str) -> bytes:
        try:
            return self._connection.container(asset.uri).read(self._connection.path(asset.uri) + file)
        except NotFound:
            raise NotFound(f"asset {asset} has no file {file}.") from None

    def _in_registry(self, registry: str, name: str, archived: bool = False) -> list[Asset]:
        from azure.ai.ml.constants import ListViewType
        from azure.core.exceptions import ResourceNotFoundError

        view = ListViewType.ARCHIVED_ONLY if archived else ListViewType.ACTIVE_ONLY
        operations: Any = getattr(self._connection.client, registry)
        with plain_errors(f"versions of {name}"):
            try:
                return [_asset(entity, archived) for entity in operations.list(name, list_view_type=view)]
            except ResourceNotFoundError:
                return []

    def _container(self, registry: str, name: str) -> tuple[bool, int]:
        """Whether all that has a name is archived, and the number after the highest that any version of it ever had.

        The SDK (1.35.2) has no public way to ask.
        """
        from azure.core.exceptions import ResourceNotFoundError

        operations: Any = getattr(self._connection.client, registry)
        containers = operations._model_container_operation if registry == "models" else operations._container_operation
        group, workspace = self._connection.resource_group, self._connection.workspace
        with plain_errors(f"versions of {name}"):
            try:
                found = containers.get(name=name, resource_group_name=group, workspace_name=workspace).properties
            except ResourceNotFoundError:
                return False, 1
        after = str(found.next_version or "")
        return bool(found.is_archived), int(after) if after.isdecimal() else 1

    def _completed(self, asset: Asset) -> Asset:
        """A capture that a person registered by hand gets the tags that others have from the start."""
        if asset.kind != "capture" or "content" in asset.tags:
            return asset
        blobs = self._connection.container(asset.uri).blobs(self._connection.path(asset.uri))
        content = content_fingerprint(_checksum(blob) for blob in blobs if media.is_media(blob.path))
        tags = {**asset.tags, "scene": asset.name, "content": content}
        return asset.model_copy(update={"tags": tags})

    def register(self, name: str, version: str, kind: AssetKind, tags: Mapping[str, str], uri: str) -> Asset:
        """Register what a job made; if that version exists, it is left alone and returned."""
        marked = {**tags, KIND: kind}
        if kind == "model":
            return self._register_model(name, version, fitted({**marked, VERSION: version}), uri)
        self._refuse_archived(name, version)
        asset = self._put("data", name, version, fitted(marked), uri) or self.find(name, version)
        if asset is None:
            raise InvalidInput(f"{name}:{version} is neither there nor to be had: was it deleted? Refresh the stage.")
        return asset

    def _register_model(self, name: str, version: str, tags: dict[str, str], uri: str) -> Asset:
        """Under the next number: Azure takes only positive integers as a model's version.

        Two that register the same result at the same time choose the same number, and the second changes nothing; of
        two results, one gets the number and the other the next.
        """
        number = 0
        for _ in range(_TRIES):
            models = self._in_registry("models", name)
            if known := next((model for model in models if model.version == version), None):
                return known
            archived = self._refuse_archived(name, version)
            numbers = [model.number or 0 for model in models + archived]
            number = max(number + 1, 1 + max(numbers, default=0), self._container("models", name)[1])
            if model := self._put("models", name, str(number), tags, uri):
                return model
        raise WorkspaceUnavailable(f"{name}:{version}: others take every number up to {number}. Try again.")

    def _refuse_archived(self, name: str, version: str) -> list[Asset]:
        """Raise where that version is archived; else those that are."""
        archived = self.archived(name)
        if any(asset.version == version for asset in archived):
            raise InvalidInput(
                f"{name}:{version} is archived in {self._connection.workspace}. Restore it in the studio, "
                "or run the stage again, which makes it anew under another version."
            )
        return archived

    def _put(self, registry: str, name: str, version: str, tags: dict[str, str], uri: str) -> Asset | None:
        """Register; None if another has that version, or had it."""
        from azure.ai.ml.entities import Data, Model
        from azure.core.exceptions import AzureError

        made: dict[str, Any] = {"name": name, "version": version, "path": uri, "tags": tags}
        entity = Model(**made, type="custom_model") if registry == "models" else Data(**made, type="uri_folder")
        with plain_errors(f"registering {name}:{version}"):
            try:
                return _asset(getattr(self._connection.client, registry).create_or_update(entity))
            except AzureError as error:  # the SDK has one of its own for a path that differs
                if exists(error):
                    return None
                raise


def _with_content(versions: list[Asset], content: str) -> Asset | None:
    return next((asset for asset in versions if asset.tags.get("content") == content), None)


def _registries(name: str) -> tuple[str, ...]:
    return ("models", "data") if name.endswith("-nerf") else ("data",)


def _asset(entity: Any, archived: bool = False) -> Asset:
    """An asset from the SDK's data or model; without a kind, it is a capture that a person registered.

    A model that a person registered has its number as its version, too.
    """
    tags, is_model = dict(entity.tags or {}), type(entity).__name__ == "Model"
    kind = tags.pop(KIND, "model" if is_model else "capture")
    created = entity.creation_context.created_at if entity.creation_context else None
    if isinstance(created, str):
        created = datetime.fromisoformat(created.replace("Z", "+00:00"))
    return Asset(
        name=entity.name,
        version=tags.pop(VERSION, entity.version) if is_model else entity.version,
        kind=kind,
        tags=tags,
        uri=entity.path,
        created=created or datetime.fromtimestamp(0, timezone.utc),
        number=int(entity.version) if is_model else None,
        archived=archived,
    )


def _checksum(blob: Blob) -> str:
    return blob.md5.hex() if blob.md5 else f"{blob.size} {blob.etag}"


def _dropped(scene: str, blobs: Mapping[str, Blob]) -> DroppedCapture:
    """Of blobs by their paths below the scene's folder."""
    return DroppedCapture(
        scene=scene,
        files={path: DroppedFile(blob.size, _checksum(blob)) for path, blob in blobs.items() if blob.committed},
        age=min((blob.age for blob in blobs.values()), default=0.0),
        uploading=tuple(path for path, blob in blobs.items() if not blob.committed),
    )
