"""Send single requests to one blob container: signed, retried, and with little CPU."""

from __future__ import annotations

import html
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, quote

from blocks.azure.errors import StorageError, is_passing, is_refused
from blocks.retries import REQUEST

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["THREADS", "ContainerRequests"]

THREADS = 16
"""Requests of one transfer at the same time."""

_RENEW_SECONDS = 600.0  # before the end of a signature
_CONNECT_SECONDS = 20.0
_READ_SECONDS = 60.0  # without a byte

T = TypeVar("T")


class ContainerRequests:
    """One blob container: `name` in the storage account `account`.

    Args:
        account_url: `https://<account>.blob.core.windows.net`.
        name: the container's.
        credential: a token credential that keeps its tokens; or a function that returns a new shared access
            signature, "?sv=…".
    """

    def __init__(self, account_url: str, name: str, credential: TokenCredential | Callable[[], str]) -> None:
        from azure.core.credentials import AzureSasCredential
        from azure.storage.blob import ContainerClient

        self._new_signature = credential if callable(credential) else None
        self._token = None if callable(credential) else credential
        self._renewing = threading.Lock()
        self._renewed = 0
        self._ends = 0.0  # of the signature
        self._url = f"{account_url.rstrip('/')}/{name}"
        self.name = name
        self._connections = _connections(account_url)
        self._sas = AzureSasCredential("none yet")
        self._client = ContainerClient(
            account_url,
            name,
            credential=self._sas if self._new_signature else self._token,
            retry_total=0,  # every call goes through _persist, which also knows signatures
            connection_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
        )
        self.account = str(self._client.account_name)

    def _request(
        self,
        method: str,
        name: str,
        body: Iterable[bytes] | None = None,
        query: str = "",
        headers: Mapping[str, str] = {},
    ) -> tuple[Mapping[str, str], bytes]:
        """Return the headers and the body of an answer."""
        with self._answer(method, name, body, query, headers) as answer:
            return answer.headers, answer.read(decode_content=False)

    @contextmanager
    def _answer(
        self,
        method: str,
        name: str,
        body: Iterable[bytes] | None = None,
        query: str = "",
        headers: Mapping[str, str] = {},
    ) -> Iterator[BaseHTTPResponse]:
        """Send one request for a blob, or for the container if `name` is empty, and yield the answer to be read.

        The storage SDK spends 4 ms of CPU on each request, four times what this takes. With hundreds of photos the SDK
        would set the pace, and not the network. A listing costs it four times the CPU, too (`benchmarks/listing.md`).
        """
        sent = {"x-ms-version": "2023-11-03", "x-ms-date": formatdate(usegmt=True), **headers}
        if self._token:
            sent["Authorization"] = self._bearer()
        else:
            query += f"{'&' if query else '?'}{self._sas.signature}"
        url = f"{self._url}{'/' if name else ''}{quote(name)}{query}"
        answer = self._connections.request(method, url, body=body, headers=sent, preload_content=False)
        try:
            if answer.status >= 300:
                raise StorageError(answer.status, answer.headers.get("x-ms-error-code", ""), _message(answer))
            yield answer
            answer.drain_conn()
        except BaseException:
            answer.close()  # what is left of it would be read as the next answer
            raise
        finally:
            answer.release_conn()

    def _bearer(self) -> str:
        assert self._token
        return f"Bearer {self._token.get_token('https://storage.azure.com/.default').token}"

    def _persist(self, call: Callable[[], T]) -> T:
        """Return the call's result. Repeat the call after a busy server, a cut body, or an expired signature."""

        def signed() -> T:
            number = self._sign()
            try:
                return call()
            except Exception as error:
                if self._new_signature is None or not is_refused(error):
                    raise
            self._sign(instead_of=number)
            return call()

        return REQUEST.run(signed, is_passing)

    def _sign(self, instead_of: int | None = None) -> int:
        """Make sure that the signature is good for a while, and return its number.

        Args:
            instead_of: the number of a signature that was refused. If it is still the current one, it is replaced.
        """
        if self._new_signature is None:
            return 0
        with self._renewing:
            if time.time() > self._ends - _RENEW_SECONDS or instead_of == self._renewed:
                signature = self._new_signature().lstrip("?")
                self._sas.update(signature)
                self._ends = _end(signature)
                self._renewed += 1
            return self._renewed


def _connections(url: str) -> PoolManager:
    """Return connections through the proxy and with the certificates that the environment names. Looks them up once."""
    from requests import Session
    from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
    from urllib3 import PoolManager, ProxyManager, Timeout, make_headers
    from urllib3.util import parse_url

    settings = Session().merge_environment_settings(url, {}, None, None, None)
    options: dict[str, Any] = {
        "ca_certs": DEFAULT_CA_BUNDLE_PATH if settings["verify"] is True else settings["verify"],
        "maxsize": THREADS,
        "retries": False,
        "timeout": Timeout(_CONNECT_SECONDS, _READ_SECONDS),
    }
    proxy = select_proxy(url, settings["proxies"])
    if not proxy:
        return PoolManager(**options)
    access = parse_url(proxy).auth
    return ProxyManager(proxy, proxy_headers=make_headers(proxy_basic_auth=access) if access else None, **options)


def _message(answer: BaseHTTPResponse) -> str:
    """Return storage's own words about a fault, "" if there are none."""
    from urllib3.exceptions import HTTPError

    try:
        found = re.search(rb"<Message>([^<\r\n]+)", answer.read(4096, decode_content=False))
    except HTTPError:
        return ""
    return html.unescape(found[1].decode(errors="replace")).strip() if found else ""


def _end(signature: str) -> float:
    """Return when a shared access signature ends, in seconds since 1970: in an hour if it does not say."""
    try:
        ends = datetime.fromisoformat(parse_qs(signature)["se"][0].replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return time.time() + 3600
    return ends.replace(tzinfo=ends.tzinfo or timezone.utc).timestamp()
