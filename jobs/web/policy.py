"""Make content security policies of pages. They name the scripts that may run, so nothing in a page's data can run."""

from __future__ import annotations

import base64
import hashlib
import re

__all__ = ["script_source", "script_sources"]


def script_sources(template: str) -> str:
    """Return the source expressions of a policy that admit the plain scripts of an HTML template, and no others."""
    scripts = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    return " ".join(map(script_source, scripts))


def script_source(script: str) -> str:
    """Return the source expression that admits one script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
