"""Print tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from jobs.text import printable

__all__ = ["print_table"]

_WIDTH_OF_A_FILE = 240  # characters, if the output is not a terminal


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under the names of their columns. A column that is empty, or only has "–", is left out.

    On a terminal that is too narrow for a table without broken words, each row becomes a list of its cells.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    used = [index for index in range(len(columns)) if any(row[index] not in ("", "–") for row in rows)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_A_FILE)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index in used:
        table.add_column(Text(columns[index]), overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[index]) for index in used))  # Text, because a note may contain rich's markup
    unbroken = console.measure(table, options=console.options.update(max_width=_WIDTH_OF_A_FILE)).minimum
    if unbroken <= console.width:
        _fit(table, [[columns[index], *(row[index] for row in rows)] for index in used], console.width - unbroken)
        console.print(table)
        return
    for row in rows:
        listed = Table.grid(padding=(0, 2, 0, 0))
        for index in used:
            if row[index] not in ("", "–"):
                listed.add_row(Text(columns[index], style="dim"), Text(row[index], overflow="fold"))
        console.print(listed)
        console.print()


def _fit(table: Table, cells: Sequence[Sequence[str]], spare: int) -> None:
    """Set the width of each column to its longest word, and share the spare width among those that need more.

    Rich itself narrows the widest columns first, even if that breaks a word.
    """
    wanted: list[tuple[int, Column]] = []
    for column, texts in zip(table.columns, cells, strict=True):
        column.width = max(cell_len(word) for text in texts for word in text.split() or [""])
        wanted.append((max(map(cell_len, texts)) - column.width, column))
    wanted.sort(key=lambda each: each[0])
    for index, (missing, column) in enumerate(wanted):
        more = min(missing, spare // (len(wanted) - index))
        column.width, spare = (column.width or 0) + more, spare - more
