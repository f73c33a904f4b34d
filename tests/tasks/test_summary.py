"""What a run's summary says of an asset."""

from __future__ import annotations

from datetime import datetime, timezone

from blocks import Asset
from tasks.summary import figures_of


def test_where_an_asset_comes_from_is_no_figure() -> None:
    where = {
        "frame": "new",
        "taken_in_by": "reprocess",
        "reference_1": "a:1",
        "reference_4": "b:2",
        "job_seconds": "41",
    }
    now = datetime.now(timezone.utc)
    asset = Asset(name="a", version="1", kind="dataset", tags={**where, "registered": "9/9"}, uri="/", created=now)
    assert figures_of(asset) == {"registered": "9/9"}
