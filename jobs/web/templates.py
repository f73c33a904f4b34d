"""Templates of the pages, and what they share: their colours are in theme.css."""

from __future__ import annotations

from pathlib import Path

import jinja2

__all__ = ["FOLDER", "environment"]

FOLDER = Path(__file__).parent


def environment(folder: Path = FOLDER) -> jinja2.Environment:
    """Return what reads the templates of a folder, and the shared ones. Everything that people wrote is escaped."""
    loader = jinja2.FileSystemLoader([folder, FOLDER])
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
