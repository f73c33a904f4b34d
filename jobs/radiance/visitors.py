"""Decide what viser's server answers. By itself, it hands out every file of this machine and serves every web page.

A file's path may contain `..` (viser 0.2.7). Browsers let any page open a web socket to this machine, so each page that
a person has open could watch the scene and press the viewer's buttons.
"""

from __future__ import annotations

from http import HTTPStatus
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import viser  # noqa: F401  # before websockets, whose old module it imports
import websockets.server
from websockets.legacy.server import serve

__all__ = ["guard"]

_HEADERS = {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def guard() -> None:
    """Guard the servers that viser starts in this process from now on."""
    vars(websockets.server)["serve"] = _serve


def _serve(*arguments: Any, process_request: Any = None, **settings: Any) -> Any:
    async def answer(path: str, headers: Any) -> Any:
        if why_not := _refusal(path, headers):
            return HTTPStatus.FORBIDDEN, _HEADERS, why_not.encode()
        answered = await process_request(path, headers)
        if answered is None:  # a web socket
            return None
        status, own, content = answered
        return status, {**own, **_HEADERS}, content

    return serve(*arguments, process_request=answer, **settings)


def _refusal(path: str, headers: Any) -> str:
    """Return why a request is refused; "" if it is not."""
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if not _is_this_machine(host):  # a name of the attacker's, which he lets point to this machine
        return "The viewer is opened by http://localhost and its port.\n"
    if origin is not None and urlsplit(origin).netloc != host:
        return "Only the viewer's own page may use it.\n"
    if ".." in PurePosixPath(path.partition("?")[0]).parts:
        return "There is no such file.\n"
    return ""


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
