from __future__ import annotations

from jobs.metric.scene import Check, Entry, Scale, SceneInMetres, Up
from jobs.web.metres import section
from jobs.web.quality import Facts

UP = Up(direction=(0, 0, 1), error=5.0)


def test_the_section_has_the_scale_its_error_and_the_worst_check() -> None:
    checks = tuple(
        Check(kind="length", name=name, given=2.0, found=found, error=0.005)
        for name, found in (("a", 2.0), ("b", 2.01))
    )
    entries = (Entry(kind="length", name="a", used=True), Entry(kind="length", name="b", used=True))
    text = section(SceneInMetres(scale=Scale(metres=7.3, error=0.001), up=UP, entries=entries, checks=checks))
    assert "1 unit = 7.3 m ± 0.2 % (95 %), by 2 lengths" in text
    assert "b: measured 2.000 m, the others say 2.010 m (+0.5 %, standard error 0.25 %)" in text


def test_what_people_wrote_is_text_on_the_page() -> None:
    text = section(SceneInMetres(scale=None, up=UP, warnings=("length <script>alert(1)</script> is not used",)))
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_without_metres_nothing_is_said_and_the_facts_are_as_before() -> None:
    assert section(None) == ""
    assert "metres" not in Facts(scene="street").as_json()
    assert Facts.model_validate_json(Facts(scene="street").as_json()) == Facts(scene="street")
