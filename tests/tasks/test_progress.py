"""What a run's log and artifacts say while a job goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from jobs.report import Progress
from tasks import progress
from tasks.progress import ProgressReporter
from tests.faults.chain import FirstOptions, capture, chain_workspace, first

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_the_log_has_a_line_for_each_tenth_and_the_artifact_has_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_UPDATES", 0.0)
    spec = first.plan(capture(chain_workspace(tmp_path), "progress"), FirstOptions(seconds=0.0)).spec(1)

    @flow(name="follow")
    async def follow() -> None:
        reporter = ProgressReporter(spec)
        for step in range(41):
            await reporter.update(Progress("train", step, 50))
        for step in (0, 30):
            await reporter.update(Progress("train:evaluate", step, 60))

    with caplog.at_level(logging.INFO, "prefect.flow_runs"):
        await follow()
    said = [record.getMessage().split(" (")[0] for record in caplog.records if " train" in f" {record.getMessage()}"]
    assert said == [*(f"train {step}/50" for step in range(0, 41, 5)), "train:evaluate 0/60", "train:evaluate 30/60"]
    chosen = ArtifactFilter(key=ArtifactFilterKey(any_=["progress-first-progress"]))
    async with get_client() as client:
        [shown] = await client.read_artifacts(artifact_filter=chosen)
    assert shown.description == "train:evaluate 30/60 (50 %)"
