"""A video in shards, on a real Prefect server and jobs that are real processes, but short."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import tasks
from blocks import Asset, LocalWorkspace
from jobs.camera_path import CameraPath, Frame
from jobs.errors import GateRefused, InvalidInput
from jobs.options import RenderOptions
from tasks.stages import render as render_stage
from tasks.stages.page import _made
from tests.faults.chain import chain_workspace

pytestmark = pytest.mark.usefixtures("prefect_server")

OPTIONS = RenderOptions(camera_path="orbit").with_profile("preview")  # 48 frames

# As if `python -m jobs.<stage> …`: it notes each start, and what it was given is its result, beside a path. The shard
# that begins with frame 16 is killed the first time; with a file `refuses` beside it, it ends as a gate that refuses
# does, and with `differs`, it generates another path than the others. With `waits`, the whole waits for its removal.
JOB = """#!/bin/sh
here=$(dirname "$0")
given="$*"
stage="$2"
while [ $# -gt 1 ]; do
  case "$1" in --first) first="$2";; --shard|--video) output="$2";; esac
  shift
done
echo "$stage $first" >>"$here/started"
if [ "$first" = 16 ]; then
  if [ -e "$here/refuses" ]; then
    echo '{"stage": "shard", "error": "GateRefused", "message": "no good"}'; exit 65
  fi
  if mkdir "$here/killed" 2>/dev/null; then kill -9 $$; fi
fi
while [ "$stage" = jobs.render -a -e "$here/waits" ]; do sleep 0.05; done
fov=50
case "$given" in *camera_path.json*) ;; *) [ "$first" = 16 -a -e "$here/differs" ] && fov=60;; esac
frame='{"camera_to_world": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], "fov": '$fov'}'
echo '{"render_width": 64, "render_height": 36, "seconds": 1, "camera_path": ['"$frame, $frame"']}' \\
  >"$output/camera_path.json"
echo "$given" >"$output/given"
for file in shard.json video.json video.mp4; do echo made >"$output/$file"; done
"""


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return chain_workspace(tmp_path, JOB)


def asset(workspace: LocalWorkspace, scene: str) -> Asset:
    file = workspace.folder / f"{scene}.txt"
    file.write_text(scene)
    taken = workspace.take_in(scene, {"file": file}, {})
    return taken.model_copy(update={"tags": taken.tags | {"capture_version": "1"}})


def visit(workspace: LocalWorkspace) -> tasks.Visit:
    """Register a dataset and a model."""
    dataset, model = asset(workspace, "wall"), asset(workspace, "model")
    return tasks.Visit(dataset, model.model_copy(update={"tags": model.tags | {"scene": "wall"}}))


async def render_here(
    workspace: LocalWorkspace,
    shards: int,
    path: CameraPath | None = None,
    options: RenderOptions = OPTIONS,
    **more: Any,
) -> Asset:
    """Render in a flow run."""
    return await tasks.render_in_shards(workspace, visit(workspace), tasks.Shot(options, path), shards=shards, **more)


async def render(workspace: LocalWorkspace, shards: int, **more: Any) -> Asset:
    @flow(name="shards")
    async def run() -> Asset:
        return await render_here(workspace, shards, **more)

    made: Asset = await run()
    return made


async def test_a_shard_that_fails_runs_again_alone(workspace: LocalWorkspace) -> None:
    video = await render(workspace, 3)
    shards = ["shard 0", "shard 16", "shard 32"]
    assert sorted(line for line in log(workspace) if line in shards) == ["shard 0", "shard 16", "shard 16", "shard 32"]
    assert log(workspace)[-1] == "render"
    given = (Path(video.uri) / "given").read_text()
    made = workspace.assets("wall-video-shard")
    assert [given.index(each.uri) for each in sorted(made, key=first)] == sorted(given.index(a.uri) for a in made)
    assert all("--last" in (Path(each.uri) / "given").read_text() for each in made)
    assert {each.kind for each in made} == {"shard"} and len(made) == 3

    async with get_client() as client:
        keys = ArtifactFilterKey(any_=[f"wall-shard-from-{frame}-progress" for frame in (0, 16, 32)])
        shown = await client.read_artifacts(artifact_filter=ArtifactFilter(key=keys))
    assert len({each.key for each in shown}) == 3

    before = log(workspace)
    assert await render(workspace, 3) == video
    assert await render(workspace, 1) == video, "its version depends on the shards"
    assert await render(workspace, 7) == video
    assert log(workspace) == before
    whole = await render(workspace, 1, refresh=True)
    assert whole.version == f"{video.version}-2" and log(workspace) == [*before, "render"]


async def test_a_refresh_makes_new_shards_but_none_twice(workspace: LocalWorkspace) -> None:
    video = await render(workspace, 3)
    before = log(workspace)
    (workspace.folder / "refuses").touch()
    with pytest.raises(GateRefused):
        await render(workspace, 3, refresh=True)
    (workspace.folder / "refuses").unlink()
    again = await render(workspace, 3, refresh=True)
    assert again.version == f"{video.version}-2"
    assert sorted(log(workspace)[len(before) :]) == ["render", "shard 0", "shard 16", "shard 16", "shard 32"]
    given = (Path(again.uri) / "given").read_text()
    assert sum(each.uri in given for each in workspace.assets("wall-video-shard") if each.version.endswith("-2")) == 3
    assert await render(workspace, 3) == again


async def test_a_run_that_is_repeated_refreshes_once(workspace: LocalWorkspace) -> None:
    video = await render(workspace, 3)

    @flow(name="repeated")
    async def twice() -> tuple[list[Asset], list[str]]:
        made = [await render_here(workspace, 3, refresh=True)]
        before = log(workspace)
        return [*made, await render_here(workspace, 3, refresh=True)], before

    (one, other), before = await twice()
    assert one == other and one.version == f"{video.version}-2" and log(workspace) == before


async def test_the_whole_is_waited_for_where_it_is_begun(workspace: LocalWorkspace) -> None:
    (workspace.folder / "waits").touch()
    whole = asyncio.create_task(render(workspace, 1))
    while not (workspace.folder / "started").exists():
        await asyncio.sleep(0.05)
    parts = asyncio.create_task(render(workspace, 3))
    [job] = workspace.followers()
    while len(workspace.followers(job)[job]) < 2:
        assert not parts.done()
        await asyncio.sleep(0.05)
    (workspace.folder / "waits").unlink()
    assert await parts == await whole and log(workspace) == ["render"]


async def test_a_whole_that_nobody_registered_is_taken(workspace: LocalWorkspace) -> None:
    plan = render_stage.render.plan(visit(workspace), tasks.Shot(OPTIONS))
    workspace.submit(plan.spec(1))
    video = await render(workspace, 3)
    assert video.tags["job"].endswith("-1") and log(workspace) == ["render"]


async def test_a_shard_of_another_path_is_rendered_on_that_of_the_first(workspace: LocalWorkspace) -> None:
    for name in ("killed", "differs"):
        (workspace.folder / name).mkdir()
    video = await render(workspace, 3)
    assert sorted(log(workspace)) == ["render", "shard 0", "shard 16", "shard 16", "shard 32"]
    joined = (Path(video.uri) / "given").read_text()
    own, again = (each for each in workspace.assets("wall-video-shard") if first(each) == 16)
    assert again.uri in joined and own.uri not in joined
    assert "camera_path.json" in (Path(again.uri) / "given").read_text()


async def test_a_short_path_has_fewer_shards(workspace: LocalWorkspace) -> None:
    await render(workspace, 5, options=OPTIONS.model_copy(update={"seconds": 0.1, "fps": 30}))
    assert sorted(log(workspace)) == ["render", "shard 0", "shard 1", "shard 2"]


async def test_other_shards_keep_their_results_if_one_refuses(workspace: LocalWorkspace) -> None:
    (workspace.folder / "refuses").touch()
    with pytest.raises(GateRefused, match="scene wall, shard: "):
        await render(workspace, 3)
    assert len(workspace.assets("wall-video-shard")) == 2 and not workspace.assets("wall-video")
    (workspace.folder / "refuses").unlink()
    (workspace.folder / "killed").mkdir()
    await render(workspace, 3)
    assert sorted(log(workspace)) == ["render", "shard 0", "shard 16", "shard 16", "shard 32"]


async def test_a_path_from_a_file_is_split_by_its_own_frames(workspace: LocalWorkspace) -> None:
    pose = Frame(camera_to_world=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], fov=50)
    path = CameraPath(render_width=64, render_height=36, seconds=1, camera_path=[pose] * 7)
    options = OPTIONS.model_copy(update={"near_plane": 0.25, "outputs": ("depth",)})
    video = await render(workspace, 2, path=path, options=options)
    assert sorted(log(workspace)) == ["render", "shard 0", "shard 3"]
    for made in (video, *workspace.assets("wall-video-shard")):
        given = (Path(made.uri) / "given").read_text()
        assert "--near-plane 0.25" in given and "depth" in given and "camera_path.json" in given
        assert "--width" not in given


def test_the_time_of_a_video_in_shards_includes_its_shards(tmp_path: Path) -> None:
    workspace = LocalWorkspace(root=tmp_path, cpu_price_per_hour=3600.0, gpu_price_per_hour=36_000.0)
    shown, shot = visit(workspace), tasks.Shot(OPTIONS)
    dataset = shown.dataset
    parts = [dataset.model_copy(update={"tags": {"job_seconds": seconds}}) for seconds in ("30", "40")]
    plan = render_stage.render.plan(shown, shot, parts)
    video = dataset.model_copy(update={"tags": {**plan.provenance().tags(), "job_seconds": "6", "frames": "48"}})
    assert video.seconds == {"cpu": 6, "gpu": 70}
    assert workspace.cost(video) == 706
    made = _made(workspace, "video", video)
    assert (made.seconds, made.cost, made.figures) == (76, 706, {"frames": "48"})
    assert workspace.model_copy(update={"gpu_price_per_hour": None}).cost(video) is None
    alone = render_stage.render.plan(shown, shot)
    assert "parts_seconds" not in alone.provenance().tags()


def test_an_impossible_division_into_shards_is_refused_before_any_job(tmp_path: Path) -> None:
    assert tasks.read_shot("wall", RenderOptions(), "preview", 48).frames == 48
    with pytest.raises(InvalidInput, match="scene wall: 48 .*49 shards"):
        tasks.read_shot("wall", RenderOptions(), "preview", 49)
    with pytest.raises(InvalidInput, match="scene wall: .* 0 frames"):
        tasks.read_shot("wall", RenderOptions(seconds=0.02), "preview", 1)


def log(workspace: LocalWorkspace) -> list[str]:
    """Return the stage of each job that began, and its first frame if it is a shard's, in order."""
    lines = (workspace.folder / "started").read_text().splitlines()
    return [line.removeprefix("jobs.").strip() for line in lines]


def first(shard: Asset) -> int:
    """Return the first frame of a shard."""
    words = (Path(shard.uri) / "given").read_text().split()
    return int(words[words.index("--first") + 1])
