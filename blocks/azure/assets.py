"""Captures and assets: the data assets and custom models of a workspace, and their blobs."""

from __future__ import annotations

import fcntl
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks.azure.connection import Connection, datastore_uri
from blocks.azure.container import Moved
from blocks.azure.entities import asset_of, checksum_of, dropped_of, number_of
from blocks.azure.errors import plain_errors
from blocks.azure.files import file_below, md5_of, md5s
from blocks.azure.listing import Blob
from blocks.azure.tags import KIND, VERSION, cut_to_limits, is_name_taken
from blocks.marks import Marks
from blocks.records import Asset, AssetKind, DroppedCapture, content_fingerprint
from jobs import media
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable
from jobs.names import SUFFIXES, scene_of, scenes_among

__all__ = ["Assets"]

_TRIES = 20  # other runs may take a number between its choice and its registration


class Assets:
    """What is registered in a workspace, and what people upload by hand.

    Args:
        connection: the connection to the workspace.
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
        self.archived(scene)  # raises before anything is uploaded
        path = self._taken(scene, content)
        name, container = self._connection.store()
        container.upload(files, sums, path, self._moved)
        return self._put_capture(scene, content, datastore_uri(name, path), tags)

    def dropped(self, scene: str | None = None) -> list[DroppedCapture]:
        prefix, found = f"{self._captures}/", defaultdict[str, dict[str, Blob]](dict)
        for blob in self._connection.store().container.blobs(prefix + (f"{scene}/" if scene else ""), uncommitted=True):
            name, _, path = f"{scene or ''}/{blob.path}".removeprefix("/").partition("/")
            if media.is_media(path or name):
                found[name][path] = blob
        return [dropped_of(name, blobs) for name, blobs in found.items()]

    def dropped_in(self) -> tuple[str, str, str]:
        """Return where people upload photos: storage account, container, and the folder of the scenes' folders."""
        container = self._connection.store().container
        return container.account, container.name, self._captures

    def find_capture(self, dropped: DroppedCapture) -> Asset | None:
        return self._find_capture(dropped, self.versions(dropped.scene), self.archived(dropped.scene))

    def _find_capture(self, dropped: DroppedCapture, versions: list[Asset], archived: list[Asset]) -> Asset | None:
        left = self._left(dropped, versions + archived)
        contents = {dropped.content, left.content}
        same = (asset for asset in versions + archived if asset.provenance.content in contents)
        # If a person has registered the upload folder itself, its files are known as well.
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
        if dropped_of(scene, blobs).files != left.files:
            raise InvalidInput(
                f"scene {scene}: {self._drop(scene)} has changed since it was listed. Wait for the upload to end."
            )
        path = self._taken(scene, left.content)
        container.copy(self._drop(scene), blobs.values(), path)
        return self._put_capture(scene, left.content, datastore_uri(name, path), tags)

    def _left(self, dropped: DroppedCapture, versions: list[Asset]) -> DroppedCapture:
        """Return the dropped files without those in folders that a person registered themselves."""
        prefix = self._drop(dropped.scene)
        taken = tuple(path for asset in versions if (path := self._connection.path(asset.uri)).startswith(prefix))
        files = {path: file for path, file in dropped.files.items() if not (prefix + path).startswith(taken)}
        return replace(dropped, files=files)

    def _drop(self, scene: str) -> str:
        return f"{self._captures}/{scene}/"

    def _taken(self, scene: str, content: str) -> str:
        """Return the folder of a capture's copy. It is not the upload folder: a registered folder must not grow."""
        return f"{self._folder}/captures/{scene}/{content[:16]}/"

    def _put_capture(self, scene: str, content: str, uri: str, tags: Mapping[str, str]) -> Asset:
        marked = cut_to_limits({**tags, "scene": scene, "content": content, KIND: "capture"})
        return self._put_next("data", scene, lambda: _with_content(self.versions(scene), content), marked, uri)

    # assets

    def scenes(self, is_capture: Callable[[str], bool]) -> list[str]:
        with plain_errors("the names of all assets"):
            listed = [*self._connection.client.data.list(), *self._connection.client.models.list()]
        names = {str(entity.name) for entity in listed}
        products = {name for name in names if scene_of(name) != name}
        captures = {scene for name in products if (scene := scene_of(name)) in names}
        return sorted(scenes_among(products | captures, is_capture))

    def mark(self, asset: Asset, marks: Marks) -> Asset:
        """Replace the marks among a model's tags; everything else about it is immutable."""
        from azure.core.exceptions import ResourceNotFoundError

        models = self._connection.client.models
        with plain_errors(f"changing the note or pin of {asset}"):
            try:
                entity = models.get(asset.name, str(asset.number))
            except ResourceNotFoundError:
                raise NotFound(
                    f"asset {asset} is no longer in {self._connection.workspace}. Choose another model."
                ) from None
            entity.tags = cut_to_limits(marks.put_into(entity.tags or {}))
            return asset_of(models.create_or_update(entity))

    def versions(self, name: str) -> list[Asset]:
        found = [asset for registry in _registries(name) for asset in self._in_registry(registry, name)]
        return sorted((self._completed(asset) for asset in found), key=lambda asset: asset.created)

    def archived(self, name: str) -> list[Asset]:
        found: list[Asset] = []
        for registry in _registries(name):
            if those := self._in_registry(registry, name, "ARCHIVED_ONLY"):
                self._next_number(registry, name)  # raises if the whole name is archived
                found += those
        return sorted((self._completed(asset) for asset in found), key=lambda asset: asset.created)

    def find(self, name: str, version: str) -> Asset | None:
        for registry in _registries(name):
            found = self._model(name, version) if registry == "models" else self._find(registry, name, version)
            if found:
                return self._completed(found)
        return None

    def _model(self, name: str, version: str) -> Asset | None:
        """Find a model by our version, which the service has as a tag."""
        return next((model for model in self._in_registry("models", name) if model.version == version), None)

    def is_there(self, asset: Asset) -> bool:
        """Return whether an asset is still registered and not archived."""
        if asset.number is None:
            return self.find(asset.name, asset.version) is not None
        found = self._find("models", asset.name, str(asset.number))
        return found is not None and found.version == asset.version

    def _find(self, registry: str, name: str, version: str) -> Asset | None:
        """Find an asset by the service's own version; None for an archived one, which the service still returns."""
        from azure.core.exceptions import ResourceNotFoundError

        with plain_errors(f"asset {name}:{version}"):
            try:
                found = asset_of(getattr(self._connection.client, registry).get(name, version))
            except ResourceNotFoundError:
                return None
        archived = self._in_registry(registry, name, "ARCHIVED_ONLY")
        return None if any(each.version == found.version for each in archived) else found

    def fetch(self, asset: Asset) -> Path:
        final = self._copy(asset)
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

    def size(self, asset: Asset) -> int:
        container = self._connection.container(asset.uri)
        return sum(blob.size for blob in container.blobs(self._connection.path(asset.uri)))

    def damage(self, asset: Asset, whole: bool) -> str:
        """Return what is wrong with an asset's blobs, or with their copy on this machine; "" if nothing is.

        The service compares the checksums of blobs itself.

        Args:
            asset: a registered asset.
            whole: compare the checksums of the copy as well, which reads all its files.
        """
        path = self._connection.path(asset.uri)
        if not (blobs := self._connection.container(asset.uri).blobs(path)):
            return f"none of its files is left in {path}"
        copy = self._copy(asset)
        for blob in blobs if copy.is_dir() else ():
            file = file_below(copy, blob.path)
            if not file.is_file() or file.stat().st_size != blob.size:
                return f"the downloaded {file} is missing or has another size than in storage"
            if whole and blob.md5 and md5_of(file) != blob.md5:
                return f"the downloaded {file} differs from the file in storage"
        return ""

    def repair(self, asset: Asset) -> str:
        """Repair what `damage` has found, and return what was done.

        Raises:
            InvalidInput: the files of a capture are gone.
        """
        if self._connection.container(asset.uri).blobs(self._connection.path(asset.uri), most=1):
            shutil.rmtree(self._copy(asset), ignore_errors=True)
            return "the copy was deleted, and is downloaded again when it is needed"
        if asset.kind == "capture":
            raise InvalidInput(f"{asset}: its photos are gone. Give your own copy of them as images again.")
        self.remove(asset)
        return "archived, so that the next run makes it again"

    def _copy(self, asset: Asset) -> Path:
        return self._cache / "assets" / asset.name / asset.version

    def remove(self, asset: Asset) -> None:
        """Archive an asset, and delete its blobs. Azure ML keeps its entry, so that its version stays taken.

        Raises:
            InvalidInput: its files are not where this program writes, so that they are somebody else's.
        """
        path = self._connection.path(asset.uri)
        if not path.startswith(f"{self._folder}/"):
            raise InvalidInput(
                f"{asset} is in {path}, outside of {self._folder}/: it was registered by hand. Remove it by hand."
            )
        registry, version = ("models", str(asset.number)) if asset.number else ("data", asset.version)
        with plain_errors(f"archiving {asset}"):
            getattr(self._connection.client, registry).archive(asset.name, version)
        self._connection.container(asset.uri).delete(path)
        shutil.rmtree(self._copy(asset), ignore_errors=True)

    def read(self, asset: Asset, file: str) -> bytes:
        try:
            return self._connection.container(asset.uri).read(self._connection.path(asset.uri) + file)
        except NotFound:
            raise NotFound(f"asset {asset} has no file {file}. Run the stage that makes it again.") from None

    def _in_registry(self, registry: str, name: str, view: str = "ACTIVE_ONLY") -> list[Asset]:
        from azure.ai.ml.constants import ListViewType
        from azure.core.exceptions import ResourceNotFoundError

        operations: Any = getattr(self._connection.client, registry)
        with plain_errors(f"versions of {name}"):
            try:
                found = list(operations.list(name, list_view_type=ListViewType[view]))
            except ResourceNotFoundError:
                return []
        return [asset_of(entity, archived=view == "ARCHIVED_ONLY") for entity in found]

    def _next_number(self, registry: str, name: str) -> int:
        """Return the next free number of a version. Archived and deleted versions keep theirs.

        Raises:
            InvalidInput: the whole name is archived, so that a new version would be hidden, too.
        """
        from azure.core.exceptions import ResourceNotFoundError

        operations: Any = getattr(self._connection.client, registry)
        # The SDK (1.35.2) has no public way to ask for a name's container.
        containers = operations._model_container_operation if registry == "models" else operations._container_operation
        group, workspace = self._connection.resource_group, self._connection.workspace
        with plain_errors(f"versions of {name}"):
            try:
                container = containers.get(name=name, resource_group_name=group, workspace_name=workspace).properties
            except ResourceNotFoundError:
                return 1
        if container.is_archived:
            raise InvalidInput(
                f"{name} is archived as a whole in {workspace}, so every new version of it would be hidden. Restore it "
                f"(az ml {registry.removesuffix('s')} restore --name {name}), or choose another name for the scene."
            )
        numbers = [number_of(asset) for asset in self._in_registry(registry, name, "ALL")]
        after = str(container.next_version or "")
        return max(1 + max(numbers, default=0), int(after) if after.isdecimal() else 1)

    def _completed(self, asset: Asset) -> Asset:
        """Add to a capture that a person registered the tags that other captures have."""
        if asset.kind != "capture" or "content" in asset.tags:
            return asset
        blobs = self._connection.container(asset.uri).blobs(self._connection.path(asset.uri))
        content = content_fingerprint(checksum_of(blob) for blob in blobs if media.is_media(blob.path))
        tags = {**asset.tags, "scene": asset.name, "content": content}
        return asset.model_copy(update={"tags": tags})

    def register(self, name: str, version: str, kind: AssetKind, tags: Mapping[str, str], uri: str) -> Asset:
        """Register what a job made. A version that exists is left alone and returned.

        Azure takes only positive integers as a model's version, so a model gets the next number.
        """
        if any(asset.version == version for asset in self.archived(name)):
            raise InvalidInput(
                f"{name}:{version} is archived in {self._connection.workspace}. Restore it in the studio, or refresh "
                "the stage, which makes it again under another version."
            )
        marked = {**tags, KIND: kind}
        if kind == "model":
            tagged = cut_to_limits({**marked, VERSION: version})
            return self._put_next("models", name, lambda: self._model(name, version), tagged, uri)
        asset = self._put("data", name, version, cut_to_limits(marked), uri) or self.find(name, version)
        if asset is None:
            raise InvalidInput(f"{name}:{version} was deleted and cannot be registered again. Refresh the stage.")
        return asset

    def _put_next(
        self, registry: str, name: str, find: Callable[[], Asset | None], tags: dict[str, str], uri: str
    ) -> Asset:
        """Register under the next number, unless `find` returns an asset that is registered already.

        Two runs that register the same path at the same time choose the same number, and the second changes nothing.
        Of two runs with different paths, one gets the number; the service refuses the other, which takes the next.
        """
        number = 0
        for _ in range(_TRIES):
            if known := find():
                return known
            number = max(number + 1, self._next_number(registry, name))
            if asset := self._put(registry, name, str(number), tags, uri):
                return asset
        raise WorkspaceUnavailable(f"registering {name}: number {number} and those before it were taken. Try again.")

    def _put(self, registry: str, name: str, version: str, tags: dict[str, str], uri: str) -> Asset | None:
        """Register an asset; None if the version belongs, or belonged, to another."""
        from azure.ai.ml.entities import Data, Model
        from azure.core.exceptions import AzureError

        made: dict[str, Any] = {"name": name, "version": version, "path": uri, "tags": tags}
        entity = Model(**made, type="custom_model") if registry == "models" else Data(**made, type="uri_folder")
        with plain_errors(f"registering {name}:{version}"):
            try:
                return asset_of(getattr(self._connection.client, registry).create_or_update(entity))
            except AzureError as error:  # the SDK's AssetPathException is not an HttpResponseError
                if is_name_taken(error):
                    return None
                raise


def _with_content(versions: list[Asset], content: str) -> Asset | None:
    return next((asset for asset in versions if asset.provenance.content == content), None)


def _registries(name: str) -> tuple[str, ...]:
    return ("models", "data") if name.endswith(SUFFIXES["model"]) else ("data",)
