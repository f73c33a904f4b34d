from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jobs.web.quality import COLUMNS, Facts, Version, fall, plot, previous, row, warning


def version(number: int, capture: int, psnr: float | None, **given: Any) -> Version:
    made = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number)
    common: dict[str, Any] = {"options": "0a1b", "image_size": 320, "method": "nerfacto", "steps": 1000}
    return Version(
        **{**common, "version": f"{capture}-{number}", "capture": capture, "created": made, "psnr": psnr, **given}
    )


def test_a_version_is_compared_with_the_last_of_its_kind() -> None:
    versions = [
        version(1, 1, 24.0),
        version(2, 2, 30.0, options="other"),
        version(3, 2, 31.0, image_size=160),
        version(4, 2, 23.5),
        version(5, 2, 32.0, options=None),
        version(6, 3, 22.0),
        version(7, 2, 25.0),
    ]
    assert [before and before.version for before in (previous(versions, own) for own in versions)] == [
        *(None, None, None, "1-1", None, "2-4"),
        "2-4",  # a later training of an older capture is not compared with the newer capture's
    ]
    found = fall(versions, versions[5])
    assert found and found[0] == pytest.approx(1.5) and found[1].version == "2-4"
    assert warning(versions, versions[5]) == "PSNR is 1.5 dB below that of 2-4, trained with the same options."
    assert warning(versions, versions[3]) == "" == warning(versions, versions[6])
    assert fall(versions, version(8, 4, None)) is None


def test_a_row_says_what_is_known() -> None:
    full = version(1, 1, 24.0, ssim=0.71, registered="32/34", seconds=200, cost=0.456, lpips=0.25)
    figures = ["24.00", "0.710", "0.250", "320 px", "32/34", "1000", "3 min 20 s", "0.46 EUR"]
    assert row(full, "EUR") == ["1-1", "2026-01-02 00:00", *figures]
    assert len(row(full, "")) == len(COLUMNS)
    fitted = row(version(1, 1, 20.0, psnr_colours_fitted=24.0), "")
    assert fitted[2] == "24.00 (colours fitted)"
    bare = Version(version="1", capture=1, created=full.created)
    assert set(row(bare, "EUR")[2:]) == {"–"}


def test_where_the_light_differs_the_psnr_with_colours_fitted_counts() -> None:
    before, own = version(1, 1, 24.0), version(2, 2, 20.0, psnr_colours_fitted=23.5)
    assert own.psnr_words == "23.5 dB with colours fitted" and before.psnr_words == "24.0 dB"
    found = fall([before], own)
    assert found and found.decibels == pytest.approx(0.5) and warning([before], own) == ""
    assert fall([own], version(3, 3, 24.0)) == (-0.5, own)


def test_only_what_can_be_compared_is_joined_by_a_line() -> None:
    drawn = plot([version(1, 1, 24.0), version(2, 2, 25.0), version(3, 3, 30.0, image_size=160)])
    assert drawn.count("<circle") == 3
    assert drawn.count("nerfacto, 1000 steps, ") == 2
    assert plot([version(1, 1, 24.0), version(2, 2, None)]) == ""


def test_an_unknown_figure_leaves_the_facts_as_before() -> None:
    said = Facts(scene="street", versions=[version(1, 1, 24.0), version(2, 2, 24.0, psnr_colours_fitted=25.0)])
    assert [text.count("psnr_colours_fitted") for text in said.as_json().split('"2-2"')] == [0, 1]
    assert Facts.model_validate_json(said.as_json()) == said
