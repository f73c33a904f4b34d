"""Text that somebody else chose, such as a file's name or a camera's tag, as it can be shown and written."""

from __future__ import annotations

import re

__all__ = ["encodable", "in_markdown", "printable"]

_SURROGATE = "\ud800-\udfff"  # how Python reads bytes that are not UTF-8
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"  # and what turns the direction of writing
_NOT_UTF_8 = re.compile(f"[{_SURROGATE}]")
_HIDDEN = re.compile(f"[{_SURROGATE}{_CONTROL}]")
_HIDDEN_OR_BREAK = re.compile(f"[{_SURROGATE}{_CONTROL}\t\n]")


def encodable(text: str) -> str:
    """Return text in which each byte of a file's name that is not UTF-8 is written as `\\xNN`."""
    return _NOT_UTF_8.sub(_escaped, text)


def printable(text: str, *, lines: bool = False) -> str:
    """Return text in which everything that could command a terminal, forge a line or deceive a reader is escaped.

    Args:
        text: such as a file's name.
        lines: keep line breaks and tabs, which are ours.
    """
    return (_HIDDEN if lines else _HIDDEN_OR_BREAK).sub(_escaped, text)


def in_markdown(text: str) -> str:
    """Return text that Markdown shows as it is: no picture, link or HTML of a stranger's is in the page."""
    return re.sub(r"[\\`*_\[\]<>!&~|#]", r"\\\g<0>", printable(text))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
