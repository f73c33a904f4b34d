"""What a run's summary says of an asset."""

from __future__ import annotations

import base64
import io
from datetime import datetime, timezone
from pathlib import Path

import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from blocks import Asset, LocalWorkspace
from jobs.program import typed
from tasks.summary import figures_of, summarize
from tests.tasks.test_choice import put


def test_where_an_asset_comes_from_is_no_figure() -> None:
    where = {
        "frame": "new",
        "taken_in_by": "reprocess",
        "reference_1": "a:1",
        "reference_4": "b:2",
        "job_seconds": "41",
    }
    now = datetime.now(timezone.utc)
    asset = Asset(name="a", version="1", kind="dataset", tags={**where, "registered": "9/9"}, uri="/", created=now)
    assert figures_of(asset) == {"registered": "9/9"}


@pytest.mark.usefixtures("prefect_server")
async def test_a_run_is_seen_at_a_glance(tmp_path: Path) -> None:
    workspace = LocalWorkspace(root=tmp_path)
    put(
        workspace,
        "street-images-to-nerf-dataset",
        "1-0a",
        1,
        "dataset",
        registered="46/48",
        points=9,
        notice="3 photos by ![x](https://evil.example/a.png) <img src=https://evil.example>",
    )  # a camera's name in EXIF
    put(workspace, "street-nerf", "1-0b", 1, psnr=15.2, image_size=96, steps=60, lpips="not available")
    put(workspace, "street-nerf", "1-0c", 0, psnr=25.8, image_size=96, steps=1000)
    put(workspace, "street-video", "1-0d", 1, "video", size="640x360")
    put(workspace, "street-page", "1-0e", 1, "page")
    poster = workspace.folder / "assets/street-video/1-0d/poster.jpg"
    Image.effect_noise((1920, 1080), 90).convert("RGB").save(poster)
    made = [workspace.assets(name)[-1] for name in ("street-images-to-nerf-dataset", "street-nerf", "street-video")]

    @flow(name="summarize")
    async def run() -> None:
        await summarize(workspace, "street", *made, workspace.assets("street-page")[-1])

    await run()
    async with get_client() as client:
        key = ArtifactFilter(key=ArtifactFilterKey(any_=["street-summary"]))
        shown = max(await client.read_artifacts(artifact_filter=key), key=lambda artifact: artifact.created or 0)
    parts = str(shown.data).split("\n\n")
    picture = parts[0].partition("base64,")[2].rstrip(")")
    assert parts[0].startswith("![street](data:image/jpeg;base64,") and len(picture) < 150_000
    with Image.open(io.BytesIO(base64.b64decode(picture))) as small:
        assert small.size == (480, 270)
    assert parts[1].startswith("**46 of 48 photos, 15.2 dB on held-out photos: poor**. Held-out photos reach only")
    assert (
        "reach only 15.2 dB: it was trained for only 60 steps" in parts[1] and "--train.max-num-iterations" in parts[1]
    )
    assert "shown by model 1 (1-0c, 25.8 dB)" in parts[2]
    command = typed("page --scene street")
    assert parts[3].startswith(
        f"- page: `{workspace.folder}/assets/street-page/1-0e/index.html`\n- open it with: `{command}"
    )
    assert "not available" not in str(shown.data) and "steps 60" in parts[4]
    poster.write_bytes(b"no picture")
    workspace.note_served_at("http://127.0.0.1:4201/")
    await run()
    async with get_client() as client:
        shown = max(await client.read_artifacts(artifact_filter=key), key=lambda artifact: artifact.created or 0)
    assert "notice 3 photos by \\!\\[x\\](https:" in str(shown.data) and "\\<img src=" in str(shown.data)
    links = next(part for part in str(shown.data).split("\n\n") if part.startswith("Open: "))
    assert "[page](http://127.0.0.1:4201/assets/street-page/1-0e/index.html) · [video](http://127.0.0.1:4201/" in links
    assert links.endswith("[scene](http://127.0.0.1:4201/gallery/street.html)")
