"""Provenance is stored as tags, as it was before it had a type."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from prefect.serializers import PickleSerializer

from blocks import Asset, Marks, Provenance
from jobs.errors import InvalidInput

DATA = Path(__file__).parents[1] / "data"
RECORDED = {
    f"{content['name']}:{content['version']}": content["tags"]
    for content in (json.loads(file.read_text()) for file in DATA.glob("recorded_workspace/assets/*/*/asset.json"))
}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_tags_are_read_and_written_unchanged(name: str) -> None:
    tags = RECORDED[name]
    known = Provenance.from_tags(tags)
    assert known.tags() == {tag: value for tag, value in tags.items() if Provenance.has(tag)}
    assert known.scene == "wall"


def test_the_fields_of_a_recorded_video() -> None:
    [tags] = [tags for tags in RECORDED.values() if "parts_seconds" in tags]
    known = Provenance.from_tags(tags)
    assert (known.stage, known.capture_version, known.tier, known.work) == ("render", "2", "cpu", 24)
    assert (known.job_seconds, known.parts_seconds) == (0, 0)
    assert set(known.inputs) == {"dataset", "model"} and known.inputs["model"] == "wall-nerf:2-41994b3f"
    made = Asset(name="", version="", kind="video", tags=tags, uri="", created=datetime.now(timezone.utc))
    assert set(made.figures) == {"path", "frames", "size", "fps", "rendering_seconds"}


def test_text_that_a_person_wrote_into_a_tag_does_no_harm() -> None:
    tags = {"scene": "wall", "work": "much", "tier": "fast", "job_seconds": "nan", "inputs": "all", "owner": "me"}
    assert Provenance.from_tags(tags) == Provenance(scene="wall")
    asset = Asset(name="wall", version="1", kind="model", tags=tags, uri="", created=datetime.now(timezone.utc))
    assert asset.seconds is None and asset.figures == {"inputs": "all", "owner": "me"}
    with pytest.raises(InvalidInput, match="wall:1 .*capture_version"):
        _ = asset.capture_version


def test_a_large_number_of_iterations_keeps_its_notation() -> None:
    assert Provenance(work=30000).tags() == {"work": "30000"}
    assert Provenance(work=2_000_000).tags() == {"work": "2e+06"}
    assert Provenance.from_tags({"work": "2e+06"}).work == 2_000_000


def test_a_result_that_prefect_stored_before_is_read() -> None:
    stored = PickleSerializer().loads((DATA / "recorded_result.pickle").read_bytes())
    assert isinstance(stored, Asset) and stored.tags == RECORDED["wall-nerf:2-41994b3f"]
    assert stored.marks == Marks(), "a field that was added since"
