"""What this project makes can only be read, and locked, by its owner."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks import LocalWorkspace, supervisor
from blocks.privacy import make_private


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_workspace_is_its_owners(tmp_path: Path) -> None:
    workspace = LocalWorkspace(root=tmp_path / "deep" / "home")
    workspace.check()
    assert mode(workspace.folder) == 0o700


def test_an_open_folder_stays_as_it_is_and_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    workspace = LocalWorkspace(root=tmp_path / "open")
    for _ in range(2):
        workspace.check()
    assert mode(workspace.folder) == 0o755
    [warning] = {record.getMessage() for record in caplog.records}
    assert warning.endswith(f"chmod 700 {workspace.folder}")
    assert len([record for record in caplog.records if record.name.endswith("blocks.privacy")]) == 1
    make_private(tmp_path / "shut")
    make_private(tmp_path / "shut")
    assert len({record.getMessage() for record in caplog.records}) == 1


def test_nobody_else_can_open_a_lock(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch(mode=0o666)
    for file in (new, old):
        with supervisor.lock(file) as held:  # type: ignore[union-attr]
            assert held and mode(file) == 0o600
            assert supervisor.lock(file) is None and not supervisor.unlocked(file)
        assert supervisor.unlocked(file)
