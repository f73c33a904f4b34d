"""The emulator's HTTP server: hosts, api-versions, routes, faults, and a record of all traffic."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.azureml.faults import Faults

__all__ = ["Answer", "Exchange", "Refusal", "Request", "Router", "Service", "operation"]

Json = dict[str, Any]

# https://learn.microsoft.com/azure/templates/microsoft.machinelearningservices/workspaces lists those published.
_API_VERSIONS = re.compile(
    "2022-(05-01|10-01|02-01-preview|10-01-preview|12-01-preview)"
    "|2023-(04-01|10-01|02-01-preview|04-01-preview|06-01-preview|08-01-preview)"
    "|2024-(04-01|10-01|01-01-preview|04-01-preview|07-01-preview|10-01-preview)"
    "|2025-01-01-preview"
)


@dataclass
class Request:
    """A request; `query` has the last of each parameter, `body` is decoded JSON or a form."""

    host: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    raw: bytes = b""


@dataclass
class Answer:
    """An answer: JSON, XML as it is, or nothing."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An error answer in ARM's form; `inner` is the chain of InnerError codes."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: list[tuple[str, str]] | None = None,
        inner: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        info: list[tuple[str, Any]] = [
            ("ComponentName", "managementfrontend"),
            ("Correlation", {"operation": "9518", "request": "2632"}),
            ("Environment", "westeurope"),
            ("Location", "westeurope"),
            ("Time", time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())),
        ]
        chain: Json | None = None
        for part in reversed(inner):
            chain = {"code": part, "innerError": chain}
        info += [("InnerError", chain)] if chain else []
        info += [("MessageFormat", message)] if "RequestInvalid" in inner else []
        additional = [{"type": kind, "info": {"value": value}} for kind, value in info]
        details_json = [{"code": c, "message": m, "details": [], "additionalInfo": []} for c, m in details or []]
        body = {"code": code, "message": message, "details": details_json, "additionalInfo": additional}
        self.answer = Answer({"error": body}, status, headers or {})


@dataclass
class Exchange:
    """One request and its answer; `at` is monotonic seconds."""

    at: float
    operation: str
    host: str
    request: Any
    status: int
    response: Any
    headers: dict[str, str]


def operation(method: str, path: str) -> str:
    """Return a request's operation, with names and ids replaced: "PUT {ws}/jobs/*"."""
    path = re.sub(
        r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+/workspaces/[^/]+", "{ws}", path, flags=re.I
    )
    path = re.sub(r"/subscriptions/[^/]+/providers/.*?/locations/[^/]+", "{loc}", path, flags=re.I)
    named = "data|models|codes|environments|jobs|computes|datastores|computeOperationsStatus|mfeOperationResults|runs"
    return f"{method} " + re.sub(
        r"/versions/[^/]+", "/versions/*", re.sub(rf"/({named})/(?!v1\.0)[^/]+", r"/\1/*", path)
    )


class Router:
    """Finds handlers by method and by a pattern of the whole path."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []

    def __call__(self, method: str, pattern: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
        """Decorate a handler `(arm, request, workspace, *groups)`, or one without workspace for other paths."""

        def add(handler: Callable[..., Answer]) -> Callable[..., Answer]:
            self._routes.append((method, re.compile(pattern, re.I), handler))
            return handler

        return add

    def find(self, request: Request) -> tuple[Callable[..., Answer], tuple[str, ...]] | None:
        """Return the handler and the pattern's groups, or None."""
        for method, pattern, handler in self._routes:
            if method == request.method and (found := pattern.fullmatch(request.path)):
                return handler, found.groups()
        return None


class Service(ThreadingHTTPServer):
    """The TLS server. `answer` decides by host; `log` has the traffic, `failures` what tests must not cause."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, certificates: Path, faults: Faults, answer: Callable[[Request], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
        self.faults, self._answer = faults, answer
        self.log: list[Exchange] = []
        self.failures: list[str] = []
        threading.Thread(target=self.serve_forever, name="azure", daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread."""
        with self._tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore broken connections, which tests ask for."""

    def respond(self, request: Request) -> Answer:
        """Apply faults, then answer; record whatever a handler raises as a failure."""
        name = f"{request.method} {request.path}"
        try:
            if fault := self.faults.take("delay", name):
                time.sleep(fault["seconds"])
            if fault := self.faults.take("throttle", name):
                raise Refusal(
                    429,
                    "TooManyRequests",
                    "The request is being throttled as the limit has been reached for operation type.",
                    headers={"Retry-After": str(int(fault.settings.get("retry_after", 1)))},
                )
            if self.faults.take("unavailable", name):
                raise Refusal(503, "ServiceUnavailable", "The service is temporarily unavailable.")
            return self._answer(request)
        except Refusal as refusal:
            return refusal.answer
        except Exception:
            self.failures.append(f"{name}: {traceback.format_exc()}")
            return Answer({"error": {"code": "InternalServerError", "message": "see stack.failures"}}, 500)

    def check_arm(self, request: Request) -> None:
        """Raise unless the api-version is one of ARM's."""
        version = request.query.get("api-version", "")
        if not _API_VERSIONS.fullmatch(version):
            raise Refusal(
                400, "NoRegisteredProviderFound", f"No registered resource provider for API version {version}."
            )

    def unrouted(self, request: Request) -> Refusal:
        """Record a failure, and return the answer to a request that the emulator does not know."""
        self.failures.append(f"unrouted: {request.method} https://{request.host}{request.path} {request.query}")
        return Refusal(404, "NotFound", f"the emulator has no {request.method} {request.path}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        raw = self.rfile.read(int(headers.get("content-length", 0)))
        form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        try:
            body = dict(parse_qsl(raw.decode())) if form else json.loads(raw) if raw else None
        except ValueError:
            body = None
        host = headers.get("host", "").partition(":")[0]
        path = re.sub("//+", "/", unquote(parts.path))
        request = Request(host, self.command, path, dict(parse_qsl(parts.query)), headers, body, raw)
        answer = self.server.respond(request)
        self.server.log.append(
            Exchange(
                time.monotonic(), operation(self.command, path), host, body, answer.status, answer.body, answer.headers
            )
        )
        is_json = not isinstance(answer.body, bytes)
        content = b"" if answer.body is None else json.dumps(answer.body).encode() if is_json else answer.body
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8" if is_json else "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve

    def log_message(self, format: str, *args: object) -> None:
        pass
