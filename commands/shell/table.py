"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_table"]

_WIDTH_OF_A_FILE = 240  # characters; a terminal has its own width


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns' names. A column in which no row has anything, or only "–", is left out."""
    used = [index for index in range(len(columns)) if any(row[index] not in ("", "–") for row in rows)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_A_FILE)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index in used:
        table.add_column(Text(columns[index]), overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[index]) for index in used))  # plain: a note must not be read as markup
    console.print(table)
