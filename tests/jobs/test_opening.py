"""Somebody replaces a file of a capture between its check and its use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from blocks import LocalWorkspace
from jobs import media
from jobs.errors import InvalidInput
from jobs.opening import find_plain, open_plain
from tests.pictures import picture

SECRET = b"-----BEGIN PRIVATE KEY-----"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a capture with photos in a subfolder, beside a private folder with files of the same names."""
    capture = tmp_path / "capture"
    (capture / "inner").mkdir(parents=True)
    for number in range(3):
        picture(seed=number).save(capture / "inner" / f"{number}.jpg")
    (tmp_path / "private").mkdir()
    for number in range(3):
        (tmp_path / "private" / f"{number}.jpg").write_bytes(SECRET)
    return capture


def link_the_file(folder: Path) -> None:
    (folder / "inner" / "0.jpg").unlink()
    (folder / "inner" / "0.jpg").symlink_to(folder.parent / "private" / "0.jpg")


def link_its_folder(folder: Path) -> None:
    shutil.rmtree(folder / "inner")
    (folder / "inner").symlink_to(folder.parent / "private")


def link_the_capture(folder: Path) -> None:
    folder.rename(folder.with_name("before"))
    shutil.copytree(folder.parent / "private", folder.parent / "private" / "inner")
    folder.symlink_to(folder.parent / "private")


def put_a_pipe(folder: Path) -> None:
    (folder / "inner" / "0.jpg").unlink()
    os.mkfifo(folder / "inner" / "0.jpg")


SWAPS = [link_the_file, link_its_folder, link_the_capture, put_a_pipe]


@pytest.mark.parametrize("swap", SWAPS)
def test_what_was_swapped_after_its_check_is_not_opened(folder: Path, swap: Callable[[Path], None]) -> None:
    checked = find_plain(folder / "inner" / "0.jpg", folder)
    with open_plain(checked) as stream:
        assert stream.read(2) == b"\xff\xd8"
    swap(folder)
    with pytest.raises(OSError, match="0.jpg|inner|capture"):
        open_plain(checked)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("swap", SWAPS)
def test_what_was_swapped_after_its_check_gets_into_no_capture(folder: Path, swap: Callable[[Path], None]) -> None:
    workspace = LocalWorkspace(root=folder.parent / "home")
    found = media.scan(folder)
    swap(folder)
    with pytest.raises(InvalidInput, match=r"0\.jpg"):
        workspace.take_in("street", found.files, {})
    assert not list((workspace.folder / "assets").rglob("0.jpg"))


def test_a_drop_folder_may_be_a_link_and_files_in_it_may_not_lead_out(folder: Path) -> None:
    """A link to a folder on another disk is the owner's, who alone can write into `captures`."""
    workspace = LocalWorkspace(root=folder.parent / "home")
    (workspace.folder / "captures").mkdir(parents=True)
    (workspace.folder / "captures" / "street").symlink_to(folder)
    (folder / "key.jpg").symlink_to(folder.parent / "private" / "0.jpg")
    (folder / "again.jpg").symlink_to("inner/2.jpg")
    [dropped] = workspace.dropped()
    assert set(dropped.files) == {"again.jpg", "inner/0.jpg", "inner/1.jpg", "inner/2.jpg"}
    asset = workspace.take_in_dropped(dropped, {})
    taken = Path(asset.uri)
    assert (taken / "inner" / "0.jpg").read_bytes() == (folder / "inner" / "0.jpg").read_bytes()
    assert (taken / "inner" / "0.jpg").stat().st_mtime_ns == (folder / "inner" / "0.jpg").stat().st_mtime_ns
    assert not (taken / "again.jpg").is_symlink() and not (taken / "key.jpg").exists()


def test_a_drop_folder_that_is_linked_elsewhere_after_it_was_listed_is_refused(folder: Path) -> None:
    workspace = LocalWorkspace(root=folder.parent / "home")
    drop = workspace.folder / "captures" / "street"
    drop.parent.mkdir(parents=True)
    drop.symlink_to(folder)
    [dropped] = workspace.dropped()
    other = shutil.copytree(folder, folder.with_name("other"))
    (other / "inner" / "0.jpg").write_bytes(SECRET)
    drop.unlink()
    drop.symlink_to(other)
    with pytest.raises(InvalidInput, match="0.jpg has changed since it was listed"):
        workspace.take_in_dropped(dropped, {})
