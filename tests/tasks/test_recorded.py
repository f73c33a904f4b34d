"""Assets that an earlier version of this program registered are found again, under the same names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from blocks import LocalWorkspace
from tests.tasks.recorded import HOME, as_recorded, every_stage

MANIFESTS = sorted(HOME.glob("assets/*/*/asset.json"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWorkspace:
    """Return the recorded workspace, in which no job can run."""
    shutil.copytree(HOME, tmp_path / "home")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 65\n")
    program.chmod(0o755)
    as_recorded(monkeypatch)
    return LocalWorkspace(root=tmp_path / "home", python=str(program))


@pytest.mark.usefixtures("prefect_server")
async def test_every_stage_finds_what_was_registered_before(workspace: LocalWorkspace) -> None:
    found = {str(asset): asset for asset in await every_stage(workspace)}
    recorded = {f"{tags['name']}:{tags['version']}": tags for tags in map(json.loads, map(Path.read_text, MANIFESTS))}
    replaced = {"wall-nerf:1-3e17f3a3", "wall-video:1-688396ad", "wall-then-and-now:2-0415153a"}  # by a refresh
    assert found.keys() == recorded.keys() - replaced
    assert all(asset.tags == recorded[name]["tags"] for name, asset in found.items())
    assert not (workspace.folder / "jobs").exists()
