"""Captures in blob storage: uploaded, taken in, and registered by hand."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.azure import AzureMLWorkspace
from jobs.errors import InvalidInput, NotFound
from tests.azure_fixtures import photos, put, stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


def test_captures_are_versions_of_their_content(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    first = workspace.take_in("square", photos(tmp_path / "a", b"one", b"two"), {"source": "a"})
    assert (first.version, first.kind) == ("1", "capture")
    assert first.tags["scene"] == "square" and first.tags["source"] == "a"
    assert workspace.take_in("square", photos(tmp_path / "b", b"two", b"one"), {}) == first
    second = workspace.take_in("square", photos(tmp_path / "c", b"three"), {})
    assert second.version == "2"
    assert workspace.assets("square") == [first, second]
    assert (workspace.fetch(first) / "1.jpg").read_bytes() == b"two"
    assert workspace.read(first, "1.jpg") == b"two"
    with pytest.raises(NotFound, match="2.jpg"):
        workspace.read(first, "2.jpg")
    assert workspace.dropped("square") == []


def test_photos_uploaded_by_hand_are_taken_in(workspace: AzureMLWorkspace, stack: AzureStack, tmp_path: Path) -> None:
    workspace.take_in("market", photos(tmp_path / "a", b"one"), {})
    put(workspace, photos(tmp_path / "b", b"two", b"three"), "captures/market/2026-11/")
    put(workspace, {"notes.txt": tmp_path / "b" / "0.jpg", ".part.jpg": tmp_path / "b" / "0.jpg"}, "captures/market/")
    [dropped] = workspace.dropped("market")
    assert dropped.files.keys() == {"2026-11/0.jpg", "2026-11/1.jpg"} and dropped.size == len(b"two" + b"three")
    assert workspace.find_capture(dropped) is None
    asset = workspace.take_in_dropped(dropped, {"source": "by hand"})
    assert (asset.version, asset.tags["content"]) == ("2", dropped.content)
    assert workspace.take_in_dropped(dropped, {}) == asset == workspace.find_capture(dropped)
    put(workspace, photos(tmp_path / "c", b"four"), "captures/market/new/")
    [grown] = workspace.dropped("market")
    assert workspace.find_capture(grown) is None
    gone = replace(dropped.files["2026-11/0.jpg"], checksum="of one that is gone")
    with pytest.raises(InvalidInput, match="market"):
        workspace.take_in_dropped(replace(dropped, files={**dropped.files, "gone.jpg": gone}), {})
    folder = workspace.fetch(asset)
    assert {file.read_bytes() for file in folder.rglob("*.jpg")} == {b"two", b"three"}, "a version does not grow"


def test_the_same_photos_under_other_names_are_the_same_version(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    workspace = workspace.model_copy(update={"captures": "places"})
    first = workspace.take_in("bazaar", photos(tmp_path / "a", b"one", b"two"), {})
    put(workspace, {"x.jpg": tmp_path / "a" / "1.jpg", "y.JPG": tmp_path / "a" / "0.jpg"}, "places/bazaar/")
    [dropped] = workspace.dropped("bazaar")
    assert workspace.find_capture(dropped) == first


def test_the_content_and_age_of_all_folders(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    workspace = workspace.model_copy(update={"captures": "all"})
    put(workspace, photos(tmp_path / "a", b"one"), "all/a & b/ä +%/")
    time.sleep(1.5)
    put(workspace, photos(tmp_path / "b", b"one"), "all/")
    put(workspace, photos(tmp_path / "b", b"one"), "all/town/")
    container = workspace._connection.store().container
    container._client.get_blob_client("all/town/tour.mov").stage_block("YQ==", b"begun")
    found = {each.scene: each for each in workspace.dropped()}
    assert found.keys() == {"a & b", "0.jpg", "town"}
    assert found["a & b"].files.keys() == {"ä +%/0.jpg"}
    assert found["a & b"].age > found["town"].age >= 0
    assert found["town"].uploading == ("tour.mov",) and found["town"].files.keys() == {"0.jpg"}
    assert not found["a & b"].uploading


@pytest.mark.parametrize("datastore", [None, "identityblobstore"])
def test_copies_within_the_store(workspace: AzureMLWorkspace, datastore: str | None, tmp_path: Path) -> None:
    workspace = workspace.model_copy(update={"datastore": datastore})
    container = workspace._connection.store().container
    put(workspace, photos(tmp_path / "a", b"one", b"", b"three"), "from/a + ü/")
    listed = container.blobs("from/")
    container.copy("from/", listed, "to/")
    copied = container.blobs("to/")
    assert [(blob.path, blob.md5) for blob in copied] == [(blob.path, blob.md5) for blob in listed]
    container.copy("from/", listed, "to/")
    assert [blob.etag for blob in container.blobs("to/")] == [blob.etag for blob in copied], "what is there is kept"
    container.write("from/a + ü/0.jpg", b"another")
    with pytest.raises(InvalidInput, match="0.jpg"):
        container.copy("from/", listed, "elsewhere/")
    container._client.delete_blob("from/a + ü/0.jpg")
    with pytest.raises(NotFound, match="0.jpg"):
        container.copy("from/", listed, "elsewhere/")


def test_a_capture_registered_by_hand(workspace: AzureMLWorkspace, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Data

    put(workspace, photos(tmp_path / "a", b"one", b"two"), "captures/old-town/1/")
    path = "azureml://datastores/workspaceblobstore/paths/captures/old-town/1"
    workspace.client.data.create_or_update(Data(name="old-town", version="1", path=path, type="uri_folder"))
    [asset] = workspace.assets("old-town")
    assert asset.kind == "capture" and asset.tags["scene"] == "old-town"
    assert workspace.take_in("old-town", photos(tmp_path / "b", b"two", b"one"), {}).version == "1"
    [dropped] = workspace.dropped("old-town")
    assert workspace.find_capture(dropped) == asset
    put(workspace, photos(tmp_path / "c", b"three"), "captures/old-town/2/")
    [dropped] = workspace.dropped("old-town")
    assert workspace.find_capture(dropped) is None
    later = workspace.take_in_dropped(dropped, {})
    assert {file.name for file in workspace.fetch(later).rglob("*.jpg")} == {"0.jpg"}, "what is registered is left out"
    assert workspace.find_capture(dropped) == later
