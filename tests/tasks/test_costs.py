"""What scenes cost by month, after real jobs on this machine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from blocks import Asset, LocalWorkspace
from commands.costs import Costs, show
from jobs.errors import JobFailed
from jobs.names import asset_name
from tasks.costs import Work, costs, month_of
from tasks.stage import Plan, Stage
from tests.faults.chain import FirstOptions, SecondOptions, chain_workspace
from tests.tasks.test_choice import put

NOW = datetime.now(timezone.utc)


@Stage
def dataset(capture: Asset) -> Plan:
    """Plan a stage that takes two seconds of a CPU."""
    return Plan(
        scene=capture.scene,
        capture_version="1",
        options=FirstOptions(seconds=2.0),
        asset_name=asset_name(capture.scene, "dataset"),
        kind="dataset",
        output="output",
        inputs={"images": capture},
        tier="cpu",
    )


@Stage
def model(made: Asset, options: SecondOptions, must_have: tuple[str, ...] = ()) -> Plan:
    """Plan a stage that takes some seconds of a GPU."""
    return Plan(
        scene=made.scene,
        capture_version="1",
        options=options,
        asset_name=asset_name(made.scene, "model"),
        kind="model",
        output="output",
        inputs={"dataset": made},
        must_have=must_have,
    )


@flow(name="two-stages")
async def two_stages(workspace: LocalWorkspace, scene: str, seconds: float, must_have: tuple[str, ...] = ()) -> Asset:
    """Make a model from a photo, in two stages."""
    photo = workspace.folder / scene
    photo.write_text(scene)
    made = await dataset(workspace, workspace.take_in(scene, {"photo": photo}, {}))
    result: Asset = await model(workspace, made, SecondOptions(seconds=seconds), must_have)
    return result


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    """Return a workspace in which a second costs 1 EUR on a GPU and 0.1 EUR on a CPU."""
    prices = {"gpu_price_per_hour": 3600.0, "cpu_price_per_hour": 360.0, "currency": "EUR"}
    return chain_workspace(tmp_path / "home").model_copy(update=prices)


def seconds_of(workspace: LocalWorkspace, product: str) -> list[float]:
    return [asset.provenance.job_seconds or 0.0 for asset in workspace.assets(f"street-{product}")]


@pytest.mark.usefixtures("prefect_server")
async def test_what_jobs_took_what_was_lost_and_what_was_used_again(
    workspace: LocalWorkspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_stages(workspace, "street", 1.0)
    await two_stages(workspace, "street", 1.5)
    [took], models = seconds_of(workspace, "images-to-nerf-dataset"), seconds_of(workspace, "nerf")
    assert took >= 2 and len(models) == 2
    [row] = costs(workspace, ["street"])
    assert (row.month, row.scene, row.runs) == (month_of(NOW), "street", 2)
    assert (row.made.gpu, row.made.cpu) == (sum(models), took)
    assert row.made.cost == pytest.approx(sum(models) + 0.1 * took)
    assert (row.saved.gpu, row.saved.cpu) == (0, took) and row.saved.cost == pytest.approx(0.1 * took)
    assert row.lost == Work()

    limited = workspace.model_copy(update={"max_cost_per_month": 1e6})
    with pytest.raises(JobFailed):
        await two_stages(limited, "street", 1.25, ("missing",))
    [again] = costs(limited, ["street"])
    assert (
        again.runs == 3
        and again.made == row.made
        and again.lost.gpu >= 1.25
        and again.lost.cost == pytest.approx(again.lost.gpu)
    )

    monkeypatch.setattr("commands.costs.open_workspace", lambda reference: limited)
    show(Costs(scene="street"))
    said = capsys.readouterr().out
    assert f"{sum(models) + 0.1 * took:.2f} EUR" in said
    assert "<0.01" in said and " 0.00 " not in said, "some seconds are not nothing"
    assert f"Budget of {month_of(NOW)}: {again.lost.cost:.2f} EUR of 1000000.00 EUR, 0 %" in said


@pytest.fixture
def kept(workspace: LocalWorkspace) -> Callable[..., None]:
    """Return a function that registers a model by the day since 1 November 2026."""

    def keep(number: int, day: int, run: str, **tags: object) -> None:
        more: dict[str, Any] = {
            "scene": "mill",
            "job": f"mill-train-1-{number:08x}-1",
            "flow_run": run,
            "tier": "gpu",
            **tags,
        }
        put(workspace, "mill-nerf", f"1-{number:08x}", day, **more)

    return keep


def test_each_month_has_its_own_row(workspace: LocalWorkspace, kept: Callable[..., None]) -> None:
    name = "mill-images-to-nerf-dataset"
    put(workspace, name, "1-00000001", 0, "dataset", scene="mill", flow_run="a", job_seconds=100)
    used = {"dataset": f"{name}:1-00000001"}
    kept(1, 1, "a", job_seconds=10, **used)
    kept(2, 20, "b", job_seconds=20, **used, reference_1="mill-nerf:1-00000001")
    kept(3, 31, "c", job_seconds=40, **used)
    kept(4, 32, "c", job_seconds=80, **used)
    assert [(row.month, row.runs, row.made.gpu, row.made.cpu, row.saved.cpu) for row in costs(workspace, ["mill"])] == [
        ("2026-11", 2, 30.0, 100.0, 100.0),
        ("2026-12", 1, 120.0, 0.0, 100.0),
    ]
    [november, _] = costs(workspace, ["mill"])
    assert november.made.cost == pytest.approx(40.0) and november.saved.cost == pytest.approx(10.0)
    free = workspace.model_copy(update={"gpu_price_per_hour": None})
    assert costs(free, ["mill"])[0].made.cost is None


def test_the_parts_of_a_video_count_once(workspace: LocalWorkspace) -> None:
    own = {"scene": "mill", "flow_run": "a"}
    put(workspace, "mill-video-shard", "1-00000001", 0, "shard", **own, job_seconds=30, tier="gpu")
    put(workspace, "mill-video", "1-00000002", 0, "video", **own, job_seconds=5, tier="cpu", parts_seconds=30)
    [row] = costs(workspace, ["mill"])
    assert (row.made.gpu, row.made.cpu, row.runs) == (30.0, 5.0, 1) and row.made.cost == pytest.approx(30.5)


def test_only_the_wanted_months_are_shown(
    workspace: LocalWorkspace,
    kept: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("commands.costs.open_workspace", lambda reference: workspace)
    kept(1, 1, "a", job_seconds=3600)
    kept(2, 40, "b", job_seconds=7200)
    show(Costs(month="2026-12"))
    said = capsys.readouterr().out
    assert "7200.00 EUR" in said and "3600.00" not in said and "No limit on costs is set" in said
    show(Costs(month="2025-01"))
    assert "There is nothing of 2025-01" in capsys.readouterr().out
