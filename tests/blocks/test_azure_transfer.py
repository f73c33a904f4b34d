"""Files to blobs and back, over the emulator's proxy, on real blob storage, with what can go wrong on the way."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.storage.blob import BlobBlock, ContentSettings

from blocks.azure import AzureMLWorkspace
from blocks.azure.container import Container
from blocks.azure.files import file_below, md5s
from blocks.azure.listing import PIECE
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack

__all__ = ["stack", "workspace"]


def nothing(done: int, total: int) -> None:
    pass


@pytest.fixture
def container(workspace: AzureMLWorkspace) -> Container:
    return workspace._connection.store().container


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return small files, an empty one, one with the longest possible name, and one of several pieces."""
    sizes = {f"photos/{index:02} ä.jpg": 1000 * index for index in range(12)} | {"model.ckpt": 7 * PIECE + 5}
    sizes[f"photos/{'ä' * 125}a.jpg"] = 77
    found = {}
    for name, size in sizes.items():
        found[name] = tmp_path / "source" / name
        found[name].parent.mkdir(parents=True, exist_ok=True)
        found[name].write_bytes(random.randbytes(size))
    return found


def same(files: dict[str, Path], folder: Path) -> bool:
    there = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return there == {name: file.read_bytes() for name, file in files.items()}


def test_files_go_up_and_come_down(container: Container, files: dict[str, Path], tmp_path: Path) -> None:
    moved = []
    container.upload(files, md5s(files), "both/", lambda done, total: moved.append((done, total)))
    size = sum(file.stat().st_size for file in files.values())
    assert moved[-1] == (size, size) and moved == sorted(moved)
    blobs = {blob.path: blob for blob in container.blobs("both/")}
    assert set(blobs) == set(files)
    for name, file in files.items():
        assert blobs[name].md5 == hashlib.md5(file.read_bytes()).digest()
    container.download("both/", tmp_path / "down", nothing)
    assert same(files, tmp_path / "down")
    assert [blob.path for blob in container.blobs("both/", most=1)] == ["model.ckpt"]
    container.delete("both/")
    assert container.blobs("both/") == []


def test_existing_blobs_are_not_sent_again(
    stack: AzureStack, container: Container, files: dict[str, Path], tmp_path: Path
) -> None:
    sums = md5s(files)
    container.upload(files, sums, "again/", nothing)
    before = {blob.path: blob.etag for blob in container.blobs("again/")}
    next(iter(files.values())).write_bytes(b"another")
    container.upload(files, md5s(files), "again/", nothing)
    after = {blob.path: blob.etag for blob in container.blobs("again/")}
    assert [name for name in files if before[name] != after[name]] == [next(iter(files))]
    container.download("again/", tmp_path / "down", nothing)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.glob("down/**/*")}
    container.download("again/", tmp_path / "down", nothing)
    assert stamps and stamps == {file: file.stat().st_mtime_ns for file in tmp_path.glob("down/**/*")}


def test_a_listing_reads_all_pages(
    workspace: AzureMLWorkspace, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.azure.container._PAGE", 2)
    container.delete("captures/")  # of other tests
    scenes = ["inn", "mill", "mint"]  # of no other test: they stay in storage
    photos = [f"{scene}/{name}.jpg" for scene in scenes for name in ("1 & 2", "<3>", "ä")]
    for photo in photos:
        container.write(f"captures/{photo}", photo.encode())
    container._client.get_blob_client("captures/mill/still coming.jpg").stage_block("0" * 8, b"half")
    asked: list[str] = []

    request = container._request

    def noting(method: str, path: str, content: Iterable[bytes] | None = None, query: str = "") -> Any:
        asked.append(query)
        return request(method, path, content, query)

    monkeypatch.setattr(container, "_request", noting)
    found = container.blobs("captures/")
    assert [(blob.path, blob.md5, blob.size) for blob in found] == [
        (photo, hashlib.md5(photo.encode()).digest(), len(photo.encode())) for photo in photos
    ]
    assert all(blob.committed and -5 <= blob.age < 600 for blob in found)
    assert len(asked) == 5
    assert [blob.path for blob in container.blobs("captures/m")] == [photo[1:] for photo in photos[3:]]
    assert [blob.path for blob in container.blobs("captures/", most=3)] == photos[:3]

    both = container.blobs("captures/mill/", uncommitted=True)
    assert [(blob.path, blob.committed) for blob in both] == [
        ("1 & 2.jpg", True), ("<3>.jpg", True), ("still coming.jpg", False), ("ä.jpg", True)
    ]  # fmt: skip
    asked.clear()
    assert [blob.path for blob in container.blobs("captures/", most=1)] == photos[:1]
    assert len(asked) == 1, "no page is asked for that nobody wants"

    dropped = {each.scene: each for each in workspace.dropped()}
    assert list(dropped) == scenes
    for scene, each in dropped.items():
        assert [f"{scene}/{path}" for path in each.files] == [photo for photo in photos if photo.startswith(scene)]
        assert each.uploading == (("still coming.jpg",) if scene == "mill" else ())
    assert workspace.dropped("mill")[0].files == dropped["mill"].files


class Stop(Exception):
    """The connection is cut, as if somebody pulled the plug."""


def test_an_interrupted_transfer_resumes_where_it_was(
    container: Container, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"model.ckpt": files["model.ckpt"]}
    seen: list[int] = []

    def stop_half_way(done: int, total: int) -> None:
        seen.append(done)
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        container.upload(large, md5s(large), "half/", stop_half_way)
    assert container.blobs("half/") == []
    staged = container._client.get_blob_client("half/model.ckpt").get_block_list("uncommitted")[1]
    assert staged
    sent: list[str] = []

    def note(self: Container, name: str, block: str, *content: Any) -> None:
        sent.append(block)
        stage(self, name, block, *content)

    stage = Container._stage
    monkeypatch.setattr(Container, "_stage", note)
    container.upload(large, md5s(large), "half/", nothing)
    assert len(sent) == 8 - len(staged), "what was staged was sent again"

    with pytest.raises(Stop):
        container.download("half/", tmp_path / "down", stop_half_way)
    assert not (tmp_path / "down/model.ckpt").exists()
    seen.clear()
    container.download("half/", tmp_path / "down", lambda done, total: seen.append(done))
    assert seen[0] > 2 * PIECE, "the pieces that were there count at once"
    assert same(large, tmp_path / "down")
    assert [file.name for file in (tmp_path / "down").iterdir()] == ["model.ckpt"]


def test_pieces_count_only_in_the_file_that_they_came_into(
    container: Container, files: dict[str, Path], tmp_path: Path
) -> None:
    large = {"model.ckpt": files["model.ckpt"]}
    container.upload(large, md5s(large), "lost/", nothing)

    def stop(after: float) -> Callable[[int, int], None]:
        def moved(done: int, total: int) -> None:
            if done >= after * total:
                raise Stop

        return moved

    with pytest.raises(Stop):
        container.download("lost/", tmp_path / "down", stop(0.5))
    [part] = [file for file in (tmp_path / "down").iterdir() if file.stat().st_size == 7 * PIECE + 5]
    part.unlink()
    with pytest.raises(Stop):  # before anything has come
        container.download("lost/", tmp_path / "down", stop(0))
    assert part.exists()
    container.download("lost/", tmp_path / "down", nothing)
    assert same(large, tmp_path / "down")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("cut", {"after": 1_000_000}), ("truncate", {"after": 1_000_000}), ("storage_busy", {}), ("refuse", {})],
)
def test_transfers_survive(
    stack: AzureStack,
    container: Container,
    files: dict[str, Path],
    tmp_path: Path,
    kind: str,
    settings: dict[str, float],
) -> None:
    with stack.faults.add(kind, "blob", times=2, **settings) as fault:
        container.upload(files, md5s(files), f"{kind}/", nothing)
        assert fault.hits == 2
    container._connections.clear()  # new connections: those of the upload have passed bytes already
    with stack.faults.add(kind, "blob", times=2, **settings) as fault:
        container.download(f"{kind}/", tmp_path / "down", nothing)
        assert fault.hits == 2
    assert same(files, tmp_path / "down")


def test_a_signature_that_runs_out_is_renewed(
    stack: AzureStack, workspace: AzureMLWorkspace, files: dict[str, Path], tmp_path: Path
) -> None:
    with stack.faults.add("expired_sas", times=1) as fault:
        container = workspace._connection.store().container
        container.upload(files, md5s(files), "sas/", nothing)
        assert fault.hits == 1
    container.download("sas/", tmp_path / "down", nothing)
    assert same(files, tmp_path / "down")


@pytest.mark.slow
def test_a_signature_that_expires_half_way_is_renewed(
    stack: AzureStack,
    workspace: AzureMLWorkspace,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = {"model.ckpt": files["model.ckpt"]}
    # One piece after the other; and nothing is renewed ahead, as where this machine's clock is an hour slow.
    monkeypatch.setattr("blocks.azure.container.THREADS", 1)
    monkeypatch.setattr("blocks.azure.requests._RENEW_SECONDS", -3600.0)

    def in_two_halves(direction: Callable[[Container, Callable[[int, int], None]], None]) -> None:
        container = AzureMLWorkspace.model_validate(dict(workspace))._connection.store().container
        done: list[int] = []

        def moved(count: int, total: int) -> None:
            if count == 0:  # nothing is left of an earlier try
                return
            if not done:
                assert (container._renewed, count) == (1, PIECE)
                time.sleep(max(0.0, container._ends + 1.5 - time.time()))
            done.append(count)

        with stack.faults.add("expired_sas", times=1, seconds=12):
            direction(container, moved)
        assert container._renewed == 2, "refused once, and renewed once"
        assert done == sorted(set(done)) and done[-1] == large["model.ckpt"].stat().st_size, "no piece went twice"

    in_two_halves(lambda container, moved: container.upload(large, md5s(large), "half-way/", moved))
    in_two_halves(lambda container, moved: container.download("half-way/", tmp_path / "down", moved))
    assert same(large, tmp_path / "down")


def test_an_account_key_signs_for_an_hour_and_for_its_container(
    stack: AzureStack, workspace: AzureMLWorkspace, files: dict[str, Path], tmp_path: Path
) -> None:
    with stack.faults.add("account_key") as fault:
        container = workspace._connection.store().container
        container.upload(files, md5s(files), "keyed/", nothing)
        assert fault.hits == container._renewed == 1
        container.copy("keyed/", container.blobs("keyed/"), "copied/")
        container.delete("keyed/")
        container.download("copied/", tmp_path / "down", nothing)
        assert same(files, tmp_path / "down") and container.blobs("keyed/") == []
        signed = {name: value for name, [value] in parse_qs(container._sas.signature).items()}
        assert (signed["sr"], signed["spr"]) == ("c", "https"), "the container, and not the account"
        assert 3300 < container._ends - time.time() <= 3600
        container._ends = time.time() + 60
        container.blobs("copied/")
        assert fault.hits == container._renewed == 2, "renewed as any other signature"


def test_damaged_content_is_noticed(container: Container, files: dict[str, Path], tmp_path: Path) -> None:
    container.blobs("damaged/")  # signs in
    for name, size in (("small.jpg", 100), ("large.ckpt", 2 * PIECE + 1)):
        wrong = ContentSettings(content_md5=bytearray(hashlib.md5(b"other").digest()))
        blob = container._client.get_blob_client(f"damaged/{name}/{name}")
        blob.stage_block("0" * 8, b"x" * size)
        blob.commit_block_list([BlobBlock("0" * 8)], content_settings=wrong)
    with pytest.raises(WorkspaceUnavailable, match="damaged"):
        container.download("damaged/large.ckpt/", tmp_path / "down", nothing)
    assert not list((tmp_path / "down").glob("*.ckpt"))


def test_a_blob_without_an_md5_is_checked_by_ranges(container: Container, tmp_path: Path) -> None:
    content = random.randbytes(PIECE + 1)
    container.blobs("ranges/")
    blob = container._client.get_blob_client("ranges/model.ckpt")
    blob.stage_block("0" * 8, content)
    blob.commit_block_list([BlobBlock("0" * 8)])
    assert [(found.md5, found.pieces) for found in container.blobs("ranges/")] == [(None, 3)]
    container.download("ranges/", tmp_path / "down", nothing)
    assert (tmp_path / "down/model.ckpt").read_bytes() == content


def test_a_file_that_changes_is_refused(container: Container, files: dict[str, Path]) -> None:
    sums = md5s(files)
    name = "photos/05 ä.jpg"
    files[name].write_bytes(b"changed")
    with pytest.raises(InvalidInput, match=str(files[name])):
        container.upload(files, sums, "changed/", nothing)
    os.unlink(files[name])
    with pytest.raises(InvalidInput, match="vanished"):
        container.upload(files, sums, "changed/", nothing)


def test_nothing_there_and_no_way_out_of_the_folder(container: Container, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none/"):
        container.download("none/", tmp_path, nothing)
    for name in ("../../etc", "a/../../b", "/etc/passwd", "", "..", f"{'ä' * 126}.jpg/a"):
        with pytest.raises(InvalidInput):
            file_below(tmp_path, name)
