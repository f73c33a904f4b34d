"""Record a workspace: every stage with fixed options, run by a stand-in for the jobs.

`python -m tests.tasks.recorded` adds to tests/data/recorded_workspace what it does not have yet. What it has is kept as
it was recorded: later versions of the program must find these assets again.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

import tasks
from blocks import Asset, LocalWorkspace
from jobs.base_options import Options
from jobs.camera_path import CameraPath, Frame
from jobs.metric.given import Given
from jobs.options import (
    ChangesOptions,
    CompareOptions,
    ExportOptions,
    PageOptions,
    PrepareOptions,
    RenderOptions,
    ScaleOptions,
    ShardOptions,
    TrainOptions,
)
from jobs.web.quality import Facts, Made
from tasks.stages.changes import changes
from tasks.stages.compare import compare
from tasks.stages.page import page
from tasks.stages.scale import scale

__all__ = ["HOME", "as_recorded", "every_stage"]


HOME = Path(__file__).parents[1] / "data" / "recorded_workspace"

STAGE_VERSIONS: dict[type[Options], int] = {
    ChangesOptions: 1,
    CompareOptions: 1,
    ExportOptions: 1,
    PageOptions: 4,
    PrepareOptions: 1,
    RenderOptions: 1,
    ScaleOptions: 1,
    ShardOptions: 1,
    TrainOptions: 1,
}
"""The stages' versions when their assets were recorded. A stage with a higher version makes its results again."""

PATH = CameraPath(
    render_width=64,
    render_height=36,
    seconds=2.0,
    fps=12.0,
    camera_path=[
        Frame(camera_to_world=[1.0, 0, 0, number / 10, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0], fov=50.0)
        for number in range(24)
    ],
)

CORNERS = [{"photo": f"{name}.jpg", "x": 3, "y": 4} for name in ("first", "second")]
DOOR = {"name": "door", "metres": 2.1, "from": CORNERS, "to": CORNERS}

# As if `python -m jobs.<stage> …`: writes small files and reports what the real program reports.
STAND_IN = f"""#!{sys.executable}
import json, pathlib, sys
stage, given = sys.argv[2].removeprefix("jobs."), dict(zip(sys.argv[3:], sys.argv[4:]))
first = "wall-images-to-nerf-dataset:1-"
registered = {{"registered": "20/22", "reprojection_error_px": 0.61, "points": 1234, "frame": "new"}}
if "--reference" in given:
    [frame] = json.loads(given["--reference"])
    registered |= {{"frame": frame, "frame_inliers": 321, "frame_residual": 0.4}}
trained = {{"method": "nerfacto", "psnr": 24.31, "ssim": 0.812, "lpips": "not available", "image_size": 800,
           "steps": 2000, "training_seconds": 61}}
rendered = {{"path": "file", "frames": 24, "size": "64x36", "fps": 12.0, "rendering_seconds": 4}}
output, files, result = {{
    "prepare": ("dataset", ["transforms.json", "dataset.json"], registered),
    "train": ("model", ["config.yml", "dataparser_transforms.json", "model.json"], trained),
    "shard": ("shard", ["camera_path.json", "shard.json"], {{"frames": 12, "rendering_seconds": 2}}),
    "render": ("video", ["video.mp4", "video.json", "camera_path.json"], rendered),
    "compare": ("video", ["video.mp4", "video.json"], {{"layout": "wipe", "frames": 24, "size": "64x36"}}),
    "export": ("export", ["export.json", "index.html"], {{"forms": "pointcloud", "points": 99, "megabytes": 0.1}}),
    "scale": ("metres", ["scene.json", "given.json"], {{"measurements": 1}}),
    "changes": ("changes", ["changes.json", "changes.ply"], {{"changes": 2, "compared": "80 %"}}),
    "page": ("page", ["index.html"], {{"megabytes": 0.1}}),
}}[stage]
for name in files:
    (pathlib.Path(given["--" + output]) / name).write_text("recorded\\n")
print(json.dumps({{"stage": stage, "result": result}}))
"""


def as_recorded(patch: pytest.MonkeyPatch) -> None:
    """Let each stage compute the fingerprints that it had when its assets were recorded."""
    for options, version in STAGE_VERSIONS.items():
        patch.setattr(options, "STAGE_VERSION", version)


@flow(name="every-stage")
async def every_stage(workspace: LocalWorkspace) -> list[Asset]:
    """Return the result of each stage, for two visits."""
    with tempfile.TemporaryDirectory() as name:
        captures = []
        for visit in ("first visit", "second visit"):
            photo = Path(name) / f"{visit}.jpg"
            photo.write_text(visit)
            tags = {"source": "photos", "left_out": "blurred.jpg"}
            captures.append(workspace.take_in("wall", {photo.name: photo}, tags))
    made: list[Asset] = list(captures)
    # The profile took as many rays when the models were recorded.
    options = TrainOptions(max_num_iterations=2000, rays_per_batch=1024).with_profile("preview")
    shown = RenderOptions(camera_path="file").with_profile("preview")
    visits: list[tasks.Visit] = []
    videos: list[Asset] = []
    for capture in captures:
        prepare = PrepareOptions(max_features=2048).with_profile("preview")
        dataset = await tasks.prepare(workspace, capture, prepare, await tasks.find_scene_frames(workspace, "wall"))
        model = await tasks.train(workspace, dataset, options)
        shot = tasks.Shot(shown, PATH)
        visits.append(tasks.Visit(dataset, model))
        videos.append(await tasks.render_in_shards(workspace, visits[-1], shot, shards=1 + len(videos)))
        made += [dataset, model, videos[-1]]
    both = CompareOptions(layout="wipe", then_label="version 1", now_label="version 2")
    made.append(await compare(workspace, videos[0], videos[1], both))
    forms = ExportOptions(forms=("pointcloud",)).with_profile("preview")
    exported = await tasks.export(workspace, dataset, model, forms)
    metres = await scale(workspace, dataset, Given.model_validate({"lengths": [DOOR]}))
    changed = await changes(workspace, visits[0], visits[1], metres)
    facts = Facts(scene="wall", capture="wall:2", made=[Made(role="video", asset="wall-video:2", seconds=4.0)])
    made += [exported, metres, changed, await page(workspace, dataset, model, videos[-1], facts, exported)]
    return made + workspace.assets("wall-video-shard")


def _record(home: Path) -> None:
    program = home.parent / "stand-in"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, prefect_test_harness(server_startup_timeout=180):
        as_recorded(patch)
        asyncio.run(every_stage(LocalWorkspace(root=home, python=str(program))))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        home = Path(shutil.copytree(HOME, Path(folder) / "home"))
        _record(home)
        shutil.copytree(home / "assets", HOME / "assets", dirs_exist_ok=True)
