from __future__ import annotations

import pytest

pytest.importorskip("nerfstudio")

from viser._icons import svg_from_icon

from jobs.radiance import viewer


@pytest.mark.parametrize("name", ["camera", "player-play", "arrow-big-up-lines"])
def test_icons_are_those_of_viser(name: str) -> None:
    assert viewer._icon(name) == svg_from_icon(name)  # type: ignore[arg-type]  # it takes literals
