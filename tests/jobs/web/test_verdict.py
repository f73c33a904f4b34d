from __future__ import annotations

from jobs.web.verdict import judge


def test_a_model_is_judged_with_colours_fitted_only_where_the_light_differs() -> None:
    plain, fair = judge((48, 48), 20.8), judge((48, 48), 20.8, fitted=25.4)
    assert plain is not None and plain.grade == "poor" and "fitted" not in plain.facts
    assert fair is not None and fair.grade == "good"
    assert "25.4 dB on held-out photos with colours fitted" in fair.facts and "20.8 dB as rendered" in fair.facts
