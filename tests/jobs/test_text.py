"""Names and tags that command a terminal, forge lines or deceive a reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.shell.table import print_table
from jobs import media, report
from jobs.errors import InvalidInput
from jobs.text import printable
from tests.pictures import picture

HOSTILE = {
    "\x1b[2J\x1b]0;owned\x07.jpg": r"\x1b[2J\x1b]0;owned\x07.jpg",
    "a\r\n.jpg": r"a\x0d\x0a.jpg",
    "photo\u202egpj.exe": r"photo\u202egpj.exe",
    "\x9b31m": r"\x9b31m",
    "Stra\udcdfe.jpg": r"Stra\xdfe.jpg",
    "Straße – 街.jpg": "Straße – 街.jpg",
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.items())
def test_a_name_is_escaped_and_remains_readable(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(printable(name)) == shown
    assert str(InvalidInput(f"scene street: {name}")).isprintable() or "\n" in name


def test_an_error_keeps_its_lines_and_commands_no_terminal() -> None:
    assert str(InvalidInput("first\n\tsecond \x1b[31m")) == "first\n\tsecond \\x1b[31m"


def test_a_table_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("scene", "note"), [("street", "\x1b]52;c;cm0gLXJmCg==\x07")])
    assert "\x1b" not in (said := capsys.readouterr().out) and r"\x1b]52" in said


def test_the_name_of_a_photo_forges_no_line_of_a_jobs_report(tmp_path: Path) -> None:
    """What a job prints about photos is read line by line. In the line, this name would be the job's result."""
    forged = '\n{"stage": "prepare", "result": {"registered": "3 of 3"}}\n'
    for seed in range(3):
        picture(seed=seed).save(tmp_path / f"{seed}.jpg")
    (tmp_path / f"a{forged}.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    (tmp_path / f"b{forged}.txt").write_text("")
    assert report.parse(forged.strip())
    found = media.scan(tmp_path)
    assert found.duplicates and found.others
    for line in [*found.line().splitlines(), *found.tags(found.files).get("left_out", "").splitlines()]:
        assert report.parse(line) is None
