"""A front of a server that can answer 500 in its place, as it does while its database restarts."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

__all__ = ["Front"]

_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class Front:
    """Pass connections on to a port of this machine, and answer 500 to requests whose line matches `failing`."""

    def __init__(self, behind: int) -> None:
        self.failing: re.Pattern[bytes] | None = None
        self.failed = 0
        """Requests that were answered with 500."""
        self.record: bytearray | None = None
        """Gets all that is said in both directions."""
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._behind)) as server:
            threading.Thread(target=self._pass_on, args=(server, client), daemon=True).start()
            while content := client.recv(1 << 16):
                self._note(content)
                if self.failing and self.failing.match(content):
                    self.failed += 1
                    client.sendall(_FAILURE)
                    client.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(content)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                self._note(content)
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)

    def _note(self, content: bytes) -> None:
        if self.record is not None:
            self.record += content
