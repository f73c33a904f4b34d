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
from blocks.azure.tags import KIND, exists, fitted
from blocks.workspace import Asset, AssetKind, DroppedCapture, DroppedFile, content_fingerprint
from jobs import media
from jobs.errors import InvalidInput, NotFound

__all__ = ["Assets"]


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
        return self._find_capture(dropped, self.versions(dropped.scene))

    def _find_capture(self, dropped: DroppedCapture, versions: list[Asset]) -> Asset | None:
        left = self._left(dropped, versions)
        contents = {dropped.content, left.content}
        same = (asset for asset in versions if asset.tags.get("content") in contents)
        # What lies in folders that are registered where they are is known, too.
        return next(same, None if left.files or not versions else versions[-1])

    def take_in_dropped(self, dropped: DroppedCapture, tags: Mapping[str, str]) -> Asset:
        scene, versions = dropped.scene, self.versions(dropped.scene)
        if known := self._find_capture(dropped, versions):
            return known
        left = self._left(dropped, versions)
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
        while True:
            versions = self.versions(scene)
            if known := _with_content(versions, content):
                return known
            number = 1 + max((int(asset.version) for asset in versions if asset.version.isdigit()), default=0)
            taken = {**tags, "scene": scene, "content": content}
            self.put("data", scene, str(number), "capture", taken, uri)

    # assets

    def versions(self, name: str) -> list[Asset]:
        found = [asset for registry in _registries(name) for asset in self._in_registry(registry, name)]
        return sorted((self._completed(asset) for asset in found), key=lambda asset: asset.created)

    def find(self, name: str, version: str) -> Asset | None:
        from azure.core.exceptions import ResourceNotFoundError

        for registry in _registries(name):
            with plain_errors(f"asset {name}:{version}"):
                try:
                    return self._completed(_asset(getattr(self._connection.client, registry).get(name, version)))
                except ResourceNotFoundError:
                    continue
        return None

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

    def _in_registry(self, registry: str, name: str) -> list[Asset]:
        from azure.core.exceptions import ResourceNotFoundError

        with plain_errors(f"versions of {name}"):
            try:
                return [_asset(entity) for entity in getattr(self._connection.client, registry).list(name)]
            except ResourceNotFoundError:
                return []

    def _completed(self, asset: Asset) -> Asset:
        """A capture that a person registered by hand gets the tags that others have from the start."""
        if asset.kind != "capture" or "content" in asset.tags:
            return asset
        blobs = self._connection.container(asset.uri).blobs(self._connection.path(asset.uri))
        content = content_fingerprint(_checksum(blob) for blob in blobs if media.is_media(blob.path))
        tags = {**asset.tags, "scene": asset.name, "content": content}
        return asset.model_copy(update={"tags": tags})

    def put(self, registry: str, name: str, version: str, kind: AssetKind, tags: Mapping[str, str], uri: str) -> Asset:
        """Register; if that version exists, it is left alone and returned."""
        from azure.ai.ml.entities import Data, Model
        from azure.core.exceptions import HttpResponseError

        made: dict[str, Any] = {"name": name, "version": version, "path": uri, "tags": fitted({**tags, KIND: kind})}
        entity = Model(**made, type="custom_model") if registry == "models" else Data(**made, type="uri_folder")
        with plain_errors(f"registering {name}:{version}"):
            try:
                return _asset(getattr(self._connection.client, registry).create_or_update(entity))
            except HttpResponseError as error:
                if not exists(error):
                    raise
        asset = self.find(name, version)
        assert asset is not None
        return asset


def _with_content(versions: list[Asset], content: str) -> Asset | None:
    return next((asset for asset in versions if asset.tags.get("content") == content), None)


def _registries(name: str) -> tuple[str, ...]:
    return ("models", "data") if name.endswith("-nerf") else ("data",)


def _asset(entity: Any) -> Asset:
    """An asset from the SDK's data or model; without a kind, it is a capture that a person registered."""
    tags = dict(entity.tags or {})
    kind = tags.pop(KIND, "model" if type(entity).__name__ == "Model" else "capture")
    created = entity.creation_context.created_at if entity.creation_context else None
    if isinstance(created, str):
        created = datetime.fromisoformat(created.replace("Z", "+00:00"))
    return Asset(
        name=entity.name,
        version=entity.version,
        kind=kind,
        tags=tags,
        uri=entity.path,
        created=created or datetime.fromtimestamp(0, timezone.utc),
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
