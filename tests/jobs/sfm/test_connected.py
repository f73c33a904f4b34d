from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jobs.sfm import connected
from tests.jobs.sfm.test_search import three_pictures


def test_pictures_that_matches_join_are_a_part(tmp_path: Path) -> None:
    first, _ = three_pictures(tmp_path)
    search = first.with_views([replace(view, focal=None, camera=view.name) for view in first.views])
    assert connected.parts(search) == [{"0.pgm", "1.pgm", "2.pgm"}]
    search.forget([{"0.pgm", "1.pgm"}, {"2.pgm"}])
    assert connected.parts(search) == [{"0.pgm", "1.pgm"}, {"2.pgm"}]
    search.forget([{name} for name in ("0.pgm", "1.pgm", "2.pgm")])
    assert connected.parts(search) == [{"0.pgm"}, {"1.pgm"}, {"2.pgm"}]


def test_pictures_without_room_for_more_features_are_not_tried_again(tmp_path: Path) -> None:
    first, _ = three_pictures(tmp_path)
    assert not connected.can_be_joined(first, {"0.pgm"}, set(), "exhaustive")
    assert first.matching == []
