"""Files of a capture are chosen once, before it is registered, and the dataset still lists what was left out."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from prefect import flow

import tasks
from blocks import Asset, LocalWorkspace
from jobs.options import PrepareOptions
from tasks.summary import figures_of
from tests import pictures

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_dataset_lists_what_was_left_out_before_registration(
    street: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(street / "photos", photos)
    for file in sorted(photos.iterdir()):
        thumbnail = photos / "@eaDir" / file.name / "SYNOPHOTO_THUMB_M.jpg"
        thumbnail.parent.mkdir(parents=True)
        with Image.open(file) as image:
            image.resize((160, 90)).save(thumbnail)
    (photos / "IMG_1.CR2").write_text("raw")
    workspace = LocalWorkspace(root=tmp_path / "home")

    @flow(name="take in and prepare")
    async def run() -> tuple[Asset, Asset]:
        options = PrepareOptions(feature_image_size=320, max_features=1000)
        capture = await tasks.capture(workspace, "street", None, photos, options)
        return capture, await tasks.prepare(workspace, capture, options)

    capture, dataset = asyncio.run(run())
    left_out = "14 thumbnails, IMG_1.CR2 (CR2, a format that is not read: export it as JPEG)"
    assert figures_of(capture) == {"left_out": left_out}, "the run's summary shows it"
    assert f"scene street: 14 photos used; left out: {left_out}." in caplog.text
    kept = {file.name for file in workspace.fetch(capture).rglob("*.*") if file.name != "asset.json"}
    assert kept == {file.name for file in (street / "photos").iterdir()}
    manifest = json.loads((workspace.fetch(dataset) / "dataset.json").read_text())
    assert manifest["selection"] == f"14 photos used; left out: {left_out}."
    assert manifest["used"] == 14


def test_poses_beside_photos_belong_to_the_capture_only_if_they_are_kept(tmp_path: Path) -> None:
    workspace = LocalWorkspace(root=tmp_path / "home")
    dropped = pictures.photos(tmp_path / "home" / "captures" / "wall", 8)
    (dropped / "transforms.json").write_text('{"frames": []}')

    @flow(name="take in")
    async def run() -> list[Asset]:
        options = [PrepareOptions(poses=poses) for poses in ("find", "keep", "find", "keep")]
        return [await tasks.capture(workspace, "wall", None, None, each) for each in options]

    captures = asyncio.run(run())
    assert [capture.version for capture in captures] == ["1", "2", "2", "2"], "the newest has all photos"
    assert [(workspace.fetch(capture) / "transforms.json").exists() for capture in captures[:2]] == [False, True]
    assert "the poses in transforms.json (the photos are registered again" in captures[0].tags["left_out"]
    assert "left_out" not in captures[1].tags
