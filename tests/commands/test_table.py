"""Tables on wide and narrow terminals."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from commands.shell import table

COLUMNS = ("scene", "shown by", "photos registered", "note")
ROWS = [["town-hall", "model 2 (1-0a1b2c3d), pinned", "46/48", "[bold]before"], ["mill", "–", "–", ""]]


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> list[str]:
    monkeypatch.setattr(table, "Console", lambda: Console(width=width, force_terminal=True, no_color=True))
    table.print_table(COLUMNS, ROWS)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_narrow_terminal_gets_lists(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wide = printed(monkeypatch, capsys, 100)
    assert any("town-hall" in line and "46/48" in line and "[bold]before" in line for line in wide)
    fits = " ".join(printed(monkeypatch, capsys, 53))
    assert "─" in fits and all(word in fits for row in (COLUMNS, *ROWS) for cell in row for word in cell.split())
    narrow = [re.sub(r"\x1b\[\d*m", "", line) for line in printed(monkeypatch, capsys, 30)]
    assert max(map(len, narrow)) <= 30
    words = [" ".join(line.split()) for line in narrow]
    assert words[:4] == ["scene town-hall", "shown by model 2", "(1-0a1b2c3d),", "pinned"], "no word is broken"
    assert words[-2:] == ["scene mill", ""], "what is unknown is left out"
