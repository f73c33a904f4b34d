"""Damage on the disk: noticed before a job reads it, and found on demand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from blocks import Asset, JobSpec, LocalWorkspace, integrity
from jobs.errors import InvalidInput
from jobs.manifest import checksum


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return LocalWorkspace(root=tmp_path / "home", python="/bin/true")


def take_in(workspace: LocalWorkspace, folder: Path, files: Mapping[str, bytes]) -> Asset:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return workspace.take_in("street", {name: folder / name for name in files}, {})


@pytest.fixture
def capture(workspace: LocalWorkspace, tmp_path: Path) -> Asset:
    return take_in(workspace, tmp_path / "photos", {"1.jpg": b"first", "2.jpg": b"second"})


def job(capture: Asset, attempt: int) -> JobSpec:
    return JobSpec(
        family="street-shell-1-abcd",
        attempt=attempt,
        scene="street",
        stage="shell",
        arguments=(),
        inputs={"images": capture},
    )


def flip_a_bit(file: Path) -> None:
    """Change one bit of a file and nothing else that the file system knows of it, as a failing disk does."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with file.open("r+b") as stream:
        stream.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_boot", lambda: "the next")


def test_a_job_does_not_read_a_damaged_input(workspace: LocalWorkspace, capture: Asset) -> None:
    flip_a_bit(workspace.fetch(capture) / "2.jpg")
    with pytest.raises(InvalidInput, match=r"scene street: .*street:1 .*2\.jpg"):
        workspace.submit(job(capture, 1))
    assert workspace.find_job(job(capture, 1).name) is None
    assert not list((workspace.folder / "jobs").glob("*"))


def test_each_file_is_read_once_until_it_changes_or_the_machine_restarts(
    workspace: LocalWorkspace, capture: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[str]()

    def noting(file: Path) -> str:
        read.append(file.name)
        return checksum(file)

    monkeypatch.setattr(integrity, "checksum", noting)
    for attempt in (1, 2):
        workspace.submit(job(capture, attempt))
    assert sorted(read) == ["1.jpg", "2.jpg"]

    photo = workspace.fetch(capture) / "1.jpg"
    os.utime(photo, ns=(0, 0))
    workspace.submit(job(capture, 3))
    assert sorted(read) == ["1.jpg", "1.jpg", "2.jpg"]

    flip_a_bit(photo)
    restart(monkeypatch)
    with pytest.raises(InvalidInput, match=r"1\.jpg"):
        workspace.submit(job(capture, 4))


def test_notes_that_are_damaged_themselves_only_cost_time(
    workspace: LocalWorkspace, capture: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.submit(job(capture, 1))
    (notes,) = (workspace.folder / "verified").rglob("*.json")
    flip_a_bit(workspace.fetch(capture) / "2.jpg")
    for content in ("", "[]", "{}", '{"boot": 1}', '{"boot": "x", "files": 3}', json.dumps({"files": {"2.jpg": [1]}})):
        notes.write_text(content)
        with pytest.raises(InvalidInput, match=r"2\.jpg"):
            workspace.submit(job(capture, 2))


def test_sizes_are_compared_at_once_and_checksums_on_demand(workspace: LocalWorkspace, capture: Asset) -> None:
    folder = workspace.fetch(capture)
    assert not list(integrity.damaged_assets(workspace.folder, whole=True))
    flip_a_bit(folder / "1.jpg")
    assert not list(integrity.damaged_assets(workspace.folder, whole=False))
    (found,) = integrity.damaged_assets(workspace.folder, whole=True)
    assert found.asset == "street:1" and "1.jpg" in found.fault
    (folder / "1.jpg").write_bytes(b"")
    (found,) = integrity.damaged_assets(workspace.folder, whole=False)
    assert "1.jpg has 0 bytes instead of 5" in found.fault
    (folder / "asset.json").unlink()
    (found,) = integrity.damaged_assets(workspace.folder, whole=False)
    assert "asset.json is missing" in found.fault
    aside = integrity.set_aside(folder)
    assert aside and (aside / "2.jpg").read_bytes() == b"second"
    assert not list(integrity.damaged_assets(workspace.folder, whole=True))


def test_a_file_name_in_latin_1_is_printable_in_messages(workspace: LocalWorkspace, tmp_path: Path) -> None:
    name = os.fsdecode(b"Stra\xdfe.jpg")
    capture = take_in(workspace, tmp_path / "photos", {name: b"first", "2.jpg": b"second"})
    workspace.submit(job(capture, 1))
    flip_a_bit(workspace.fetch(capture) / name)
    os.utime(workspace.fetch(capture) / name, ns=(0, 0))
    with pytest.raises(InvalidInput) as refused:
        workspace.submit(job(capture, 2))
    assert r"Stra\xdfe.jpg" in str(refused.value) and str(refused.value).isprintable()
