"""Turn files into `data:` addresses, so that a page contains them."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["data_address", "shrunk"]


def data_address(content: bytes, kind: str) -> str:
    """Return the address of a file's content.

    Args:
        content: the content of the file.
        kind: its media type, e.g. "image/jpeg".
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def shrunk(picture: Image.Image, longest: int, quality: int) -> str:
    """Return an RGB picture as the address of a JPEG. Shrink it in place if a side is longer than `longest` px."""
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return data_address(stream.getvalue(), "image/jpeg")
