"""Which model a scene is shown by, in a workspace on this machine and on Azure, and what people note about models."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path

import pytest

import tasks
from blocks import Asset, LocalWorkspace, Marks
from blocks.azure import AzureMLWorkspace
from commands.page import find_page
from commands.shell import usage
from deployments import command
from jobs.errors import InvalidInput, NotFound
from jobs.program import typed
from tests.azure_fixtures import stack, workspace
from tests.azureml.stack import AzureStack
from tests.blocks.test_azure_assets import Trained, trained

__all__ = ["stack", "trained", "workspace"]

START = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def put(local: LocalWorkspace, name: str, version: str, day: int, kind: str = "model", **tags: object) -> None:
    """Put an asset where a job's result would be registered."""
    folder = local.folder / "assets" / name / version
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(version)
    about = {"name": name, "version": version, "kind": kind, "created": (START + timedelta(days=day)).isoformat()}
    sums = {"checksums": {"index.html": "0"}, "sizes": {"index.html": len(version)}}
    (folder / "asset.json").write_text(json.dumps({**about, **sums, "tags": {k: str(v) for k, v in tags.items()}}))


@pytest.fixture
def local(tmp_path: Path) -> LocalWorkspace:
    """Return a workspace with a street whose second model is good, and whose third is a trial."""
    local = LocalWorkspace(root=tmp_path / "home")
    put(local, "street", "1", 0, "capture", scene="street")
    for number, psnr, steps in ((1, 24.1, 1000), (2, 25.8, 2000), (3, 14.1, 60)):
        version = f"1-{number:08x}"
        put(local, "street-nerf", version, number, scene="street", psnr=psnr, image_size=320, steps=steps)
        put(local, "street-page", version, number, "page", scene="street", model=f"street-nerf:{version}")
    return local


def shown(local: LocalWorkspace | AzureMLWorkspace, scene: str = "street") -> int | None:
    return tasks.find_registered_model(local, scene, None).number


def rebel_nerf(local: LocalWorkspace, *arguments: str) -> tuple[int, str, str]:
    """Give a command in this process, because a new one needs two seconds to import Prefect.

    Returns:
        The exit status, and what is printed on standard output and standard error.
    """
    status: str | int | None = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as said,
        redirect_stderr(StringIO()) as errors,
    ):
        patch.setenv("REBEL_NERF_HOME", str(local.folder))
        patch.setattr(sys, "argv", ["rebel-nerf", *arguments])
        patch.setattr(usage, "started_as", usage.started_as)  # the command sets it
        patch.delitem(sys.modules, f"commands.{arguments[0]}", raising=False)  # another test may have imported it
        try:
            command.main()
        except SystemExit as end:
            status = end.code
            if isinstance(status, str):  # as Python does when it exits
                print(status, file=errors)
                status = 1
    return int(status or 0), said.getvalue(), errors.getvalue()


def test_a_trial_does_not_take_the_place_of_a_good_model(local: LocalWorkspace) -> None:
    model, said = tasks.find_shown_model(local, "street")
    assert model.number == 2
    assert said == (
        "Scene street is shown by model 2 (1-00000002, 25.8 dB). The newest, model 3 (1-00000003, 14.1 dB), is 11.7 dB "
        "worse; --model-version 3 takes it."
    )
    page, said = find_page(local, "street", None, None)
    assert page.version == "1-00000002" and "11.7 dB worse" in said
    assert find_page(local, "street", "3", None)[0].version == "1-00000003"
    put(local, "street-nerf", "1-00000004", 4, scene="street", psnr=24.2, image_size=320)
    assert shown(local) == 4, "a newer model that is not much worse is shown"
    assert tasks.find_shown_model(local, "street")[1] == ""
    page, said = find_page(local, "street", None, None)
    assert page.version == "1-00000002", "the newest good one that has a page"
    assert "render --scene street --model-version 4" in said and said.endswith("of model 2 (1-00000002, 25.8 dB).")
    with pytest.raises(NotFound, match="rebel-nerf render --scene street --model-version 4"):
        find_page(local, "street", "4", None)


@pytest.mark.parametrize(
    ("psnr", "size", "steps", "expected", "said"),
    [
        (23.9, 320, 30000, 4, ""),
        (20.0, 320, 30000, 2, "is 5.8 dB worse"),
        (20.4, 640, 30000, 4, ""),  # larger pictures may explain 3.5 dB
        (14.1, 640, 60, 2, "is at least 8.2 dB worse"),
        (23.0, 160, 30000, 2, "is 2.8 dB worse"),  # of smaller pictures, of which it should be higher
        (27.0, 160, 2000, 4, ""),
        (27.0, 160, 1000, 2, "was trained on smaller pictures and in fewer steps"),
        (32.0, 310, 1999, 4, ""),  # so much better that the smaller pictures do not explain it
        ("not available", 320, 30000, 4, ""),
    ],
)
def test_a_trial_is_told_from_a_good_model(
    local: LocalWorkspace, psnr: object, size: int, steps: int, expected: int, said: str
) -> None:
    put(local, "street-nerf", "1-00000004", 4, scene="street", psnr=psnr, image_size=size, steps=steps)
    assert shown(local) == expected
    assert said in tasks.find_shown_model(local, "street").remark


def test_the_light_of_the_photos_does_not_make_a_trial(local: LocalWorkspace) -> None:
    put(local, "street-nerf", "1-00000004", 4, scene="street", psnr=19.0, psnr_colours_fitted=26.5, image_size=320)
    assert shown(local) == 4


def test_a_pin_survives_newer_models(local: LocalWorkspace) -> None:
    done, said, errors = rebel_nerf(local, "pin", "--scene", "street", "--model-version", "1")
    assert done == 0 and said.startswith("Scene street is shown by model 1 (1-00000001, 24.1 dB), which is pinned."), (
        errors
    )
    put(local, "street-nerf", "1-00000004", 4, scene="street", psnr=28.0, image_size=320)
    model, words = tasks.find_shown_model(local, "street")
    assert model.number == 1
    assert words == (
        "Scene street is shown by model 1 (1-00000001, 24.1 dB), which is pinned. It is 3.9 dB worse than model 4 "
        f"(1-00000004, 28.0 dB); to show that one: {typed('pin --scene street --model-version 4')}."
    )
    assert words in rebel_nerf(local, "list")[1] and words in rebel_nerf(local, "list", "--scene", "street")[1]
    pinned = rebel_nerf(local, "pin", "--scene", "street", "--model-version", "3")[1]
    assert "which is pinned. It is 13.9 dB worse than model 4 (1-00000004, 28.0 dB); to show" in pinned
    assert [bool(each.asset.marks.pinned) for each in tasks.model_versions(local, "street")] == [
        False,
        False,
        True,
        False,
    ]
    assert shown(local) == 3
    page = (local.folder / "gallery/street.html").read_text()
    assert "shown by model 3 (1-00000003, 14.1 dB), which is pinned. It is 13.9 dB worse than model 4" in page
    assert (
        "model 4 (1-00000004, 28.0 dB), its newest good one"
        in rebel_nerf(local, "pin", "--scene", "street", "--off")[1]
    )
    assert shown(local) == 4
    done, _, errors = rebel_nerf(local, "pin", "--scene", "street")
    assert done == 2 and "give either --model-version or --off" in errors


def test_the_lists_show_what_a_person_looks_for(local: LocalWorkspace) -> None:
    put(local, "mill", "1", 0, "capture", scene="mill")
    assert local.scenes() == ["mill", "street"]
    rebel_nerf(local, "note", "--scene", "street", "--model-version", "2", "[bold]before the repaint")
    listed = [line.strip() for line in rebel_nerf(local, "list")[1].splitlines()]
    street = next(line for line in listed if line.startswith("street"))
    assert (
        "model 2 (1-00000002)" in street and "25.80" in street and street.rstrip().endswith("[bold]before the repaint")
    )
    assert " good " in street
    assert next(line for line in listed if line.startswith("mill")).split()[:3] == ["mill", "1", "0"]
    rebel_nerf(local, "pin", "--scene", "street", "--model-version", "2")
    listed = rebel_nerf(local, "list", "--scene", "street")[1].splitlines()
    rows = [line for line in listed if line.split("1-0000")[1:] and "dB" not in line]
    assert [rows[0].split()[:2], rows[1].split()[0], "1-00000001" in rows[2]] == [["trial", "3"], "pinned", True]
    assert "[bold]before the repaint" in rows[1] and "11.7 dB worse" in "\n".join(listed)
    done, _, errors = rebel_nerf(local, "list", "--scene", "mil")
    assert done == 1 and "Its scenes: mill, street." in errors and "Traceback" not in errors
    assert "no mill-nerf yet" in rebel_nerf(local, "list", "--scene", "mill")[2]
    assert "no model yet. To make one: " in rebel_nerf(local, "page", "--scene", "mill", "--no-browser")[2]


def test_a_damaged_mark_is_none_and_a_long_note_is_refused(local: LocalWorkspace) -> None:
    model = tasks.find_registered_model(local, "street", 2)
    tasks.note_model(local, model, "x" * 500)
    with pytest.raises(InvalidInput, match="scene street: .*500 .*501"):
        tasks.note_model(local, model, "x" * 501)
    assert tasks.find_registered_model(local, "street", 2).marks.note == "x" * 500
    (local.folder / "assets/street-nerf/1-00000002/marks.json").write_text('{"pinned": ')
    assert tasks.find_registered_model(local, "street", 2).marks == Marks()


def test_marks_on_azure_are_tags_of_the_model(
    workspace: AzureMLWorkspace, stack: AzureStack, trained: Trained, tmp_path: Path
) -> None:
    before = workspace.scenes()  # of other tests

    def register(number: int, psnr: float) -> Asset:
        job = trained(f"street-train-1-0000000{number}")
        tags = {"scene": "street", "psnr": str(psnr), "image_size": "320"}
        return workspace.register(job, "model", "street-nerf", f"1-0000000{number}", "model", tags)

    first, trial = register(1, 25.8), register(2, 14.0)
    assert shown(workspace) == 1
    tasks.pin_model(workspace, tasks.note_model(workspace, trial, "only a trial"), START)
    assert shown(workspace) == 2
    found = workspace.find_asset("street-nerf", "1-00000002")
    assert found and found.marks == Marks(pinned=START, note="only a trial") and found.tags == trial.tags
    seen = workspace.client.models.get("street-nerf", "2")
    assert (seen.tags["note"], seen.tags["psnr"]) == ("only a trial", "14.0"), "the studio shows them"
    tasks.note_model(workspace, tasks.pin_model(workspace, found, None), "")
    assert workspace.find_asset("street-nerf", "1-00000002") == trial
    assert "note" not in workspace.client.models.get("street-nerf", "2").tags
    assert workspace.assets("street-nerf") == [first, trial] and set(workspace.scenes()) == {*before, "street"}
