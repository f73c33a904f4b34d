"""An HTTP proxy that routes Azure's host names to the emulator, and refuses all others."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.azureml.faults import Faults

_CHUNK = 1 << 18


class Proxy(ThreadingHTTPServer):
    """Takes CONNECT only.

    `route(host)` is the port of 127.0.0.1 that stands for a host, or None. `refused` lists the hosts without one.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, route: Callable[[str], int | None], faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.route, self.faults = route, faults
        self.refused: list[str] = []
        threading.Thread(target=self.serve_forever, name="proxy", daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore broken connections, which tests ask for."""


class _Tunnel(BaseHTTPRequestHandler):
    server: Proxy

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        port = self.server.route(host)
        if port is None:
            return self._refuse(403)
        if self.server.faults.take("refuse", host):
            return self._refuse(502)
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            self.send_response(200, "Connection Established")
            self.end_headers()
            with suppress(OSError):
                self._relay(upstream, host)

    def _relay(self, upstream: socket.socket, host: str) -> None:
        """Copy bytes both ways until an end closes or a fault strikes."""
        passed, faults = 0, self.server.faults
        other = {upstream: self.connection, self.connection: upstream}
        # Not select.select(), which fails from descriptor 1024 on: the clients of a long test run keep many open.
        with selectors.DefaultSelector() as readable:
            for each in other:
                readable.register(each, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in readable.select()]
                for source in (each for each in other if each in ready):
                    chunk = source.recv(_CHUNK)
                    passed += len(chunk)
                    if not chunk or faults.take("truncate", host, passed):
                        return
                    if faults.take("cut", host, passed):
                        # A linger of zero seconds makes the close a reset.
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        self.connection.close()
                        return
                    if slow := faults.take("slow", host, count=False):
                        time.sleep(len(chunk) / slow["rate"])
                    other[source].sendall(chunk)

    def _refuse(self, status: int) -> None:
        if status == 403:
            self.server.refused.append(self.path)
        self.send_error(status)

    def do_GET(self) -> None:
        self._refuse(403)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass
