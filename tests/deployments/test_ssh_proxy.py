"""The way through a job's ssh service: the real program, and a web socket that answers as Azure's is known to."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import IO

import jwt
import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.azure_fixtures import stack
from tests.azureml.stack import AzureStack

__all__ = ["stack"]


class Endpoint:
    """A job's ssh service on this machine; `received` has the messages of its one visitor."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.tokens: list[str] = []
        self.received: list[str | bytes] = []
        self.breaks = False
        self.server = serve(self._answer, "127.0.0.1", 0, process_request=self._enter)
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _enter(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        self.tokens.append(token)
        known = kind == "Bearer" and jwt.decode(token, options={"verify_signature": False})["aud"] == _ARM
        return None if known else connection.respond(HTTPStatus.UNAUTHORIZED, "not this token")

    def _answer(self, connection: ServerConnection) -> None:
        connection.send(b"SSH-2.0-here\r\n")
        for message in connection:
            self.received.append(message)
            if self.breaks:
                connection.socket.shutdown(socket.SHUT_RDWR)
                return
            connection.send(message)


_ARM = "https://management.azure.com"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()


def run(endpoint: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "deployments.azure.ssh_proxy", endpoint]
    return subprocess.run(command, input=given, capture_output=True, timeout=120)


def talk(endpoint: Endpoint, given: bytes, expected: int) -> tuple[bytes, subprocess.Popen[bytes]]:
    """Send something, and return up to a number of bytes of the answer. The program's input stays open."""
    command = [sys.executable, "-m", "deployments.azure.ssh_proxy", endpoint.url + "/"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stdout
    threading.Thread(target=_write, args=(process.stdin, given), daemon=True).start()
    return process.stdout.read(expected), process


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)
    stream.flush()


def test_bytes_go_both_ways_with_a_token_for_arm(stack: AzureStack, endpoint: Endpoint) -> None:
    given = b"SSH-2.0-there\r\n" + bytes(range(256)) * 1000
    said, process = talk(endpoint, given, len(b"SSH-2.0-here\r\n") + len(given))
    assert said == b"SSH-2.0-here\r\n" + given
    assert endpoint.paths == ["/nbip/v1.0/ws-tcp"]
    assert all(isinstance(message, bytes) for message in endpoint.received), "binary messages"
    process.communicate(timeout=60)  # ssh ends
    assert process.returncode == 0


def test_a_connection_that_breaks_is_no_success(stack: AzureStack, endpoint: Endpoint) -> None:
    endpoint.breaks = True
    _, process = talk(endpoint, b"hello", 14)
    assert process.wait(timeout=60) == 1, "its input is still open"
    errors = process.communicate()[1].decode()
    assert "the connection to the job's ssh service broke" in errors and "Traceback" not in errors


def test_a_refusal_is_reported_without_the_token(
    stack: AzureStack, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}._ARM", "https://elsewhere")
    ended = run(endpoint.url, b"")
    errors = ended.stderr.decode()
    assert ended.returncode == 1 and not ended.stdout
    assert "does not let ssh in" in errors and "401" in errors and "Traceback" not in errors
    assert endpoint.tokens[0] and endpoint.tokens[0] not in errors


def test_without_a_sign_in_it_says_so(stack: AzureStack, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    ended = run(endpoint.url, b"")
    assert ended.returncode == 1 and b"client_secret: Azure does not know this secret" in ended.stderr
    assert endpoint.paths == []
