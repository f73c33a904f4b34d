"""What jobs measure, on its way to their own pages."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.settings import PREFECT_UI_URL, temporary_settings

from blocks import Asset, LocalWorkspace
from blocks.azure import AzureMLWorkspace
from jobs.report import Progress, parse
from tasks import curves
from tasks.curves import Curves
from tests.azure_fixtures import sketch, stack, workspace
from tests.azureml.stack import AzureStack
from tests.faults.chain import FirstOptions, chain_workspace, first

__all__ = ["stack", "workspace"]


def line(stage: str, step: int, total: int, at: float, **metrics: float) -> str:
    """Return the line that a job prints `at` seconds after its start."""
    said = {"stage": stage, "step": step, "total": total, "metrics": metrics, "time": 1.7e9 + at}
    return json.dumps(said)


# Of a job whose node is taken away after step 24, when step 20 was saved; a line a second.
STEPS = [*range(2, 25, 2), *range(21, 61, 2), 60]
LOG = [line("train", step, 60, at, loss=1 / step) for at, step in enumerate(STEPS)]
LOG += [line("train:evaluate", step, 3, 90 + step, psnr=20) for step in range(4)]


async def follow(workspace: AzureMLWorkspace, job: str, lines: list[str]) -> Curves:
    following = Curves(workspace, job)
    for each in lines:
        progress = parse(each)
        assert isinstance(progress, Progress)
        following.add(progress)
    await following.end({"psnr": 20.5, "lpips": "not available"})
    return following


async def test_a_run_that_takes_over_continues_the_curve(workspace: AzureMLWorkspace, stack: AzureStack) -> None:
    job = workspace.submit(sketch(f"street-sketch-{uuid4().hex[:8]}")).name
    half = Curves(workspace, job)
    for each in LOG[:16]:
        half.add(parse(each))  # type: ignore[arg-type]
    await half._post()  # and then its process dies

    def posted(name: str) -> list[int]:
        return [metric["step"] for metric in stack.jobs[job].metrics if metric["key"] == name]

    assert posted("loss") == [2, 22]  # every ten seconds of the job's clock
    again = AzureMLWorkspace.model_validate({**dict(workspace), "credential": workspace.credential})
    for _ in range(2):  # the second finds nothing new
        await follow(again, job, LOG)
    assert posted("loss") == [2, 22, 37, 57, 60]
    assert posted("evaluate/psnr") == [0, 3]
    assert [metric["value"] for metric in stack.jobs[job].metrics if metric["key"] == "result/psnr"] == [20.5]
    assert {metric["key"] for metric in stack.jobs[job].metrics} == {"loss", "evaluate/psnr", "result/psnr"}


async def test_posts_are_a_minute_apart(workspace: AzureMLWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, posts = [0.0], list[float]()
    monkeypatch.setattr(AzureMLWorkspace, "log_metrics", lambda self, job, points: posts.append(clock[0]))
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    following = Curves(workspace, "a job")
    for number, each in enumerate(LOG):
        following.add(parse(each))  # type: ignore[arg-type]
        clock[0] = 5.0 * number
        await following.post()
    assert posts == [65, 130]


@pytest.mark.usefixtures("prefect_server")
async def test_a_stage_continues_if_its_curves_cannot_be_posted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = chain_workspace(tmp_path / "home")
    program = workspace.folder / "python"
    lines = "\n".join(LOG).replace("train", "first")
    (workspace.folder / "log").write_text(lines + '\n{"stage": "first", "result": {"psnr": 20.5}}\n')
    program.write_text(program.read_text().replace("echo made", f"cat {workspace.folder}/log\necho made"))
    tried: list[str] = []

    def fail(self: LocalWorkspace, job: str, points: list[object]) -> None:
        tried.append(job)
        raise ValueError("there is no way there")

    monkeypatch.setattr(LocalWorkspace, "log_metrics", fail)
    monkeypatch.setattr(curves, "_SECONDS_BETWEEN_POSTS", 0.0)

    @flow(name="curves")
    async def run() -> Asset:
        photo = workspace.folder / "photo.jpg"
        photo.write_text("photo")
        start = workspace.take_in("street", {"photo.jpg": photo}, {})
        made: Asset = await first(workspace, start, FirstOptions(seconds=1))
        return made

    with caplog.at_level(logging.WARNING), temporary_settings({PREFECT_UI_URL: "http://prefect.test"}):
        made = await run()
    assert made.tags["psnr"] == "20.5" and len(tried) > 1
    # The same record may come by several loggers, depending on how Prefect's logging was set up before.
    said = {id(record) for record in caplog.records if "at the moment: there is no way there" in record.getMessage()}
    assert len(said) == 1
    spec = (workspace.folder / "jobs" / made.tags["job"] / "spec.json").read_text()
    assert re.search(rf"Scene \*\*street\*\*, capture version 1: first, to make `{made}`", spec)
    assert f"(http://prefect.test/runs/flow-run/{made.tags['flow_run']})" in spec
