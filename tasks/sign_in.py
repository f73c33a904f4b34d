"""The password of this machine's Prefect server. It is created once, and every command of this user signs in with it.

Without a password, every local user, and every web page in a browser on this machine, could read the secrets of all
blocks and start runs. The password is in a file that only its owner can read. The file has the format of Prefect's
profiles, so `prefect` commands find it by PREFECT_PROFILES_PATH.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import prefect
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_HOME,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    PREFECT_UI_URL,
    get_current_settings,
)
from pydantic import SecretStr

from blocks.privacy import make_private
from jobs.errors import InvalidInput

__all__ = ["client_settings", "link_settings", "local_server", "password_file", "server_settings", "sign_in_settings"]

_PROFILE = """\
# The password of this machine's Prefect server, made by rebel-nerf. To change it, stop server and worker, delete this
# file, and start them again.
active = "rebel-nerf"

[profiles.rebel-nerf]
PREFECT_API_URL = "{server}"
PREFECT_API_AUTH_STRING = "rebel-nerf:{password}"
"""


def password_file() -> Path:
    """Return the file of the password: `rebel-nerf.toml` in PREFECT_HOME."""
    return Path(PREFECT_HOME.value()) / "rebel-nerf.toml"


def local_server() -> str:
    """Return the address of this machine's server, which is used unless PREFECT_API_URL is set."""
    return f"http://127.0.0.1:{get_current_settings().server.api.port}/api"


def client_settings() -> dict[Any, Any]:
    """Return the Prefect settings that sign a client in to this machine's server, or to one that Prefect starts.

    They are empty for another machine's server (PREFECT_API_URL), or if the user has set PREFECT_API_AUTH_STRING or
    PREFECT_API_KEY.

    Raises:
        InvalidInput: see `server_settings`.
    """
    api = get_current_settings().api
    if api.auth_string or api.key or not _is_here(api.url):
        return {}
    return {PREFECT_API_AUTH_STRING: _password()}


def server_settings(port: int | None = None) -> dict[Any, Any]:
    """Return the Prefect settings with which a server requires the password and admits only its own UI's pages.

    The user's own settings win: PREFECT_SERVER_API_AUTH_STRING (else PREFECT_API_AUTH_STRING, with which clients sign
    in) and PREFECT_SERVER_CORS_ALLOWED_ORIGINS.

    Args:
        port: the port that the server listens on; Prefect's setting if not given.

    Raises:
        InvalidInput: the password cannot be read or written; names the file.
    """
    settings = get_current_settings()
    server = settings.server.api
    found: dict[Any, Any] = {}
    if not server.auth_string:
        found[PREFECT_SERVER_API_AUTH_STRING] = settings.api.auth_string or _password()
    if "cors_allowed_origins" not in server.model_fields_set:
        # The UI can be opened under two names, and its pages call the API under the same one.
        own = {f"http://{host}:{port or server.port}" for host in ("127.0.0.1", "localhost")}
        found[PREFECT_SERVER_CORS_ALLOWED_ORIGINS] = ",".join(sorted(own | _origins(settings.ui_url)))
    return found


def sign_in_settings() -> dict[Any, Any]:
    """Return `client_settings`, and `server_settings` too if Prefect starts a server for the command."""
    return {**client_settings(), **({} if get_current_settings().api.url else server_settings())}


def link_settings(port: int | None = None) -> dict[Any, Any]:
    """Return the Prefect settings with which links to this machine's server open the newer of its two UIs.

    In a browser that has not signed in, the older one answers such a link with "Page not found". The user's own
    PREFECT_UI_URL wins.

    Args:
        port: the port that the server listens on; that of PREFECT_API_URL if not given.
    """
    settings, bundle = get_current_settings(), getattr(prefect, "__ui_v2_static_path__", None)
    if "ui_url" in settings.model_fields_set or not _is_here(settings.api.url) or not (bundle and bundle.is_dir()):
        return {}
    api = f"http://127.0.0.1:{port}/api" if port else settings.api.url or local_server()
    return {PREFECT_UI_URL: f"{api.rstrip('/').removesuffix('/api')}/v2"}


def _is_here(api: str | None) -> bool:
    return api is None or urlsplit(api).hostname in ("127.0.0.1", "localhost", "::1")


def _origins(url: str | None) -> set[str]:
    parts = urlsplit(url or "")
    return {f"{parts.scheme}://{parts.netloc}"} if parts.netloc else set()


def _password() -> SecretStr:
    server = get_current_settings().server.api.auth_string
    if server:  # the user's own
        return server
    file = password_file()
    try:
        if not file.exists():
            _make(file)
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
        return SecretStr(tomllib.loads(file.read_text())["profiles"]["rebel-nerf"]["PREFECT_API_AUTH_STRING"])
    except OSError as error:
        raise InvalidInput(
            f"The Prefect server's password cannot be stored in {file} ({error.strerror}). Make that folder "
            "writable, or set PREFECT_HOME to another."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{file} no longer holds the Prefect server's password ({type(error).__name__}). Delete the file, "
            "and start server and worker again to make a new one."
        ) from None


def _make(file: Path) -> None:
    """Write a new password, unless another process has just written one."""
    make_private(file.parent)
    part = file.with_name(f".{uuid4().hex}.part")
    with open(part, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
        stream.write(_PROFILE.format(server=local_server(), password=secrets.token_urlsafe(24)))
    try:
        with suppress(FileExistsError):  # a link, unlike a rename, never replaces a file
            os.link(part, file)
    finally:
        part.unlink()
