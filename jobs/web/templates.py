"""Load the templates of the pages. Their common colours are in theme.css."""

from __future__ import annotations

from pathlib import Path

import jinja2

from jobs.web.verdict import LIMITS

__all__ = ["FOLDER", "environment"]

FOLDER = Path(__file__).parent


def environment(folder: Path = FOLDER) -> jinja2.Environment:
    """Return the environment with the templates of a folder and the shared ones. It escapes everything by default."""
    loader = jinja2.FileSystemLoader([folder, FOLDER])
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    made.globals["limits"] = LIMITS
    return made
