"""Serve what people look at in this machine's workspace, read-only, over HTTP: pages, videos, 3D views and posters.

`rebel-nerf server` does so on a port of its own, because the content is not trusted: in a browser, another port is
another origin. A page can therefore neither read the password that Prefect's UI keeps, nor use the API with it.
Besides, a content security policy gives each page an origin of its own (`sandbox`), and no network.

The addresses are the paths of the files below the workspace's folder, so links between its pages work over HTTP, too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blocks import LocalWorkspace
from blocks.local_files import read_manifest
from jobs.errors import InvalidInput
from jobs.program import typed

__all__ = ["application", "serve", "serve_workspace"]

_IMAGES = {".jpg": "image/jpeg", ".png": "image/png", ".gif": "image/gif"}
_PAGES = {".html": "text/html; charset=utf-8", ".svg": "image/svg+xml"}
_VIDEOS = {".mp4": "video/mp4"}
_POINTS = {".ply": "application/octet-stream", ".spz": "application/octet-stream", ".glb": "model/gltf-binary"}
_SHOWN = {
    "page": _PAGES | _VIDEOS,
    "video": _VIDEOS | _IMAGES,
    "export": _PAGES | _POINTS,
    "changes": _IMAGES | _POINTS | {".json": "application/json"},
}
"""The content type of each file that is served, by the asset's kind and the file's ending. Photos are not."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEALED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SCRIPTED = (
    f"{_SEALED}; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "sandbox allow-scripts allow-downloads"
)
"""The policy of pages that are one file: they run scripts, but cannot request anything."""
_PLAIN = f"{_SEALED}; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
"""The policy of everything else: it can show videos of this origin, but cannot run scripts."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": f"{_SEALED}; sandbox",
    "Cache-Control": "private, no-cache",
}
"""Headers of every response that does not set them itself."""


def application(root: Path, auth: str) -> ASGIApp:
    """Return the application that serves a workspace.

    Args:
        root: the workspace's folder.
        auth: USER:PASSWORD, which each request must have.
    """
    root = root.resolve()

    def asset_file(request: Request) -> Response:
        found = _find(root, **request.path_params)
        if found is None:
            return _nothing("There is no such file, or files of this kind are not shown.")
        file, kind = found
        policy = _SCRIPTED if file.suffix in _PAGES else _PLAIN
        headers = {"Cache-Control": "private, max-age=600", "Content-Security-Policy": policy}
        return FileResponse(file, media_type=kind, headers=headers)

    def gallery(request: Request) -> Response:
        file = root / request.url.path.lstrip("/")
        if not _is_plain(file, root):
            return _nothing(f"There is no such page yet. `{typed('gallery')}` makes the pages of all scenes.")
        return FileResponse(file, media_type=_PAGES[".html"], headers={"Content-Security-Policy": _PLAIN})

    routes = [
        Route("/", lambda request: RedirectResponse("gallery.html")),
        Route("/gallery.html", gallery),
        Route("/gallery/{scene}.html", gallery),
        Route("/assets/{name}/{version}/{path:path}", asset_file),
    ]
    served = Starlette(routes=routes)
    served.router.redirect_slashes = False  # such a redirect goes to the host that the request names
    return _Guard(served, auth)


def serve_workspace(auth: str, host: str, port: int) -> None:
    """Serve this machine's workspace in a thread until the process ends, and note in the workspace where.

    The address is REBEL_NERF_ASSETS_URL, if people reach it by another one. If the port is 0, nothing is served. If it
    cannot be listened on, a line says so, and the note stays: another server is likely to serve the workspace there.
    """
    workspace, address = LocalWorkspace(), ""
    if port:
        here = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
        try:
            serve(workspace.folder, auth, host, port)
        except OSError as error:
            print(
                f"Pages and videos are not served: {host}:{port} cannot be listened on ({error.strerror}). Choose "
                "another port with --assets-port.",
                flush=True,
            )
            return
        address = os.environ.get("REBEL_NERF_ASSETS_URL") or f"http://{here}:{port}"
        print(f"Pages and videos, with the same password: {address}", flush=True)
    try:
        workspace.note_served_at(address)
    except OSError as error:
        print(f"Runs will not link to pages: {workspace.folder} cannot be written ({error.strerror}).", flush=True)


def serve(root: Path, auth: str, host: str, port: int) -> None:
    """Serve a workspace's folder in a thread, until the process ends.

    Raises:
        OSError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    server = uvicorn.Server(uvicorn.Config(application(root, auth), log_config=None, access_log=False, lifespan="off"))
    threading.Thread(target=server.run, args=([listener],), name="assets", daemon=True).start()


def _nothing(text: str) -> Response:
    return PlainTextResponse(f"{text}\n", 404)


def _find(root: Path, name: str, version: str, path: str) -> tuple[Path, str] | None:
    """Return a file of a registered asset and its content type; None if no such file is served."""
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(version)):
        return None
    folder = root / "assets" / name / version
    file = folder / path
    try:
        if not _is_plain(file, folder):
            return None
        content = read_manifest(folder / "asset.json")
    except (OSError, ValueError, InvalidInput):
        return None
    if content is None:
        return None
    asset = content.asset
    kind = _SHOWN.get(asset.kind, {}).get(file.suffix)
    if (asset.name, asset.version) != (name, version) or path not in content.sizes or kind is None:
        return None
    return file, kind


def _is_plain(file: Path, folder: Path) -> bool:
    """Return whether a path is a regular file below a folder, without links and `..` on the way."""
    try:
        return file.is_relative_to(folder) and file.resolve() == file and file.is_file()
    except (OSError, ValueError):  # a loop of links, a null byte or a name that is too long
        return False


class _Guard:
    """Asks for the password, and completes the headers of every response."""

    def __init__(self, app: ASGIApp, auth: str) -> None:
        self._app, self._auth = app, auth.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # nothing else is served

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app: Any = self._app if self._admits(Headers(scope=scope)) else _refused()
        await app(scope, receive, complete)

    def _admits(self, headers: Headers) -> bool:
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, self._auth)


def _refused() -> Response:
    challenge = {"WWW-Authenticate": 'Basic realm="rebel-nerf", charset="UTF-8"'}
    return PlainTextResponse("The user and the password are those of Prefect's server.\n", 401, challenge)
