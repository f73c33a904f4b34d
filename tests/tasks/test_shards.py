"""A video in shards, on a real Prefect server and jobs that are real processes, but short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import flow

import tasks
from blocks import Asset, LocalWorkspace
from jobs.camera_path import CameraPath, Frame
from jobs.errors import GateRefused, InvalidInput
from jobs.options import RenderOptions

pytestmark = pytest.mark.usefixtures("prefect_server")

OPTIONS = RenderOptions(camera_path="orbit").with_profile("preview")  # 48 frames

# As if `python -m jobs.<stage> …`: it notes each start, and what it was given is its result. The shard that begins
# with frame 16 is killed the first time; with a file `refuses` beside it, it ends as a gate that refuses does.
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
echo "$given" >"$output/given"
"""


@pytest.fixture
def place(tmp_path: Path) -> LocalWorkspace:
    program = tmp_path / "python"
    program.write_text(JOB)
    program.chmod(0o755)
    return LocalWorkspace(root=tmp_path, python=str(program), jobs_at_once=1000)


def asset(place: LocalWorkspace, scene: str) -> Asset:
    file = place.folder / f"{scene}.txt"
    file.write_text(scene)
    taken = place.take_in(scene, {"file": file}, {})
    return taken.model_copy(update={"tags": taken.tags | {"capture_version": "1"}})


async def render(place: LocalWorkspace, shards: int, **given: Any) -> Asset:
    @flow(name="shards")
    async def run() -> Asset:
        dataset, model = asset(place, "wall"), asset(place, "model")
        model = model.model_copy(update={"tags": model.tags | {"scene": "wall"}})
        given.setdefault("options", OPTIONS)
        return await tasks.render_in_shards(place, dataset, model, given.pop("path", None), shards=shards, **given)

    made: Asset = await run()
    return made


async def test_a_shard_that_fails_runs_again_alone(place: LocalWorkspace) -> None:
    video = await render(place, 3)
    shards = ["shard 0", "shard 16", "shard 32"]
    assert sorted(line for line in log(place) if line in shards) == ["shard 0", "shard 16", "shard 16", "shard 32"]
    assert log(place)[-1] == "render"
    given = (Path(video.uri) / "given").read_text()
    made = place.assets("wall-video-shard")
    assert [given.index(each.uri) for each in sorted(made, key=first)] == sorted(given.index(a.uri) for a in made)
    assert all("--last" in (Path(each.uri) / "given").read_text() for each in made)
    assert {each.kind for each in made} == {"shard"} and len(made) == 3

    before = log(place)
    assert await render(place, 3) == video
    assert await render(place, 1) == video, "its version depends on the shards"
    assert await render(place, 7) == video
    assert log(place) == before
    whole = await render(place, 1, refresh=True)
    assert whole.version == f"{video.version}-2" and log(place) == [*before, "render"]


async def test_what_other_shards_made_stands_when_one_refuses(place: LocalWorkspace) -> None:
    (place.folder / "refuses").touch()
    with pytest.raises(GateRefused, match="scene wall, shard: no good"):
        await render(place, 3)
    assert len(place.assets("wall-video-shard")) == 2 and not place.assets("wall-video")
    (place.folder / "refuses").unlink()
    (place.folder / "killed").mkdir()
    await render(place, 3)
    assert sorted(log(place)) == ["render", "shard 0", "shard 16", "shard 16", "shard 32"]


async def test_a_path_from_a_file_is_split_by_its_own_frames(place: LocalWorkspace) -> None:
    pose = Frame(camera_to_world=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], fov=50)
    path = CameraPath(render_width=64, render_height=36, seconds=1, camera_path=[pose] * 7)
    options = OPTIONS.model_copy(update={"near_plane": 0.25, "outputs": ("depth",)})
    video = await render(place, 2, path=path, options=options)
    assert sorted(log(place)) == ["render", "shard 0", "shard 3"]
    for made in (video, *place.assets("wall-video-shard")):
        given = (Path(made.uri) / "given").read_text()
        assert "--near-plane 0.25" in given and "depth" in given and "camera_path.json" in given
        assert "--width" not in given


def test_what_cannot_be_rendered_is_refused_before_any_job(tmp_path: Path) -> None:
    assert tasks.find_camera_path("wall", RenderOptions(), "preview", 48)[0].frames == 48
    with pytest.raises(InvalidInput, match="scene wall: 48 frames cannot be rendered in 49 shards"):
        tasks.find_camera_path("wall", RenderOptions(), "preview", 49)
    with pytest.raises(InvalidInput, match="scene wall: 0.02 s at 24 frames a second are 0 frames"):
        tasks.find_camera_path("wall", RenderOptions(seconds=0.02), "preview", 1)


def log(place: LocalWorkspace) -> list[str]:
    """The stage of each job that began, and its first frame if it is a shard's, in order."""
    lines = (place.folder / "started").read_text().splitlines()
    return [line.removeprefix("jobs.").strip() for line in lines]


def first(shard: Asset) -> int:
    """The first frame of a shard."""
    words = (Path(shard.uri) / "given").read_text().split()
    return int(words[words.index("--first") + 1])
