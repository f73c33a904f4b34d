"""Names and tags of flow runs."""

from __future__ import annotations

from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

import tasks
from jobs.options import ExportOptions, PrepareOptions, RenderOptions, TrainOptions
from jobs.profiles import Profile
from tasks.wanted import current_run

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_runs_that_differ_in_an_option_have_different_names() -> None:
    @flow(name="nerf")
    async def run(profile: Profile = "auto", train: TrainOptions = TrainOptions()) -> UUID | None:
        await tasks.label_run("street", "local", "2", *tasks.special_words(profile, PrepareOptions(), train), "")
        return current_run()

    runs = [await run(), await run("preview"), await run(train=TrainOptions(max_num_iterations=3000))]
    async with get_client() as client:
        found = [await client.read_flow_run(each) for each in runs if each]
    assert [each.name for each in found] == ["street", "street · preview", "street · 3,000 steps"]
    assert {*found[0].tags} >= {"scenes", "scene:street", "workspace:local", "version:2"}


def test_every_option_has_words() -> None:
    render = RenderOptions(camera_path="trajectories/street/walk.json", seconds=4, loop=True, outputs=("depth",))
    assert tasks.special_words("auto", render) == ["walk", "4 s", "loop", "outputs depth"]
    train = TrainOptions(method="splatfacto", seed=7, max_image_size=800)
    assert tasks.special_words("full", PrepareOptions(num_frames=90), train) == [
        *("full", "num frames 90", "splatfacto", "photos of 800 px"),
        "1 more option",
    ]
    assert tasks.special_words("auto", RenderOptions(), ExportOptions()) == []
