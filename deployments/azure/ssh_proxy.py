"""Connect ssh with a job's ssh service: `ssh -o ProxyCommand="python -m deployments.azure.ssh_proxy wss://… BLOCK"`.

If a cluster has no public ssh port, Azure ML offers a web socket, which takes the user's token. No public document says
how to open it. This does what Microsoft's Azure Developer CLI does (`azd ai training job connect-ssh`,
https://github.com/Azure/azure-dev/pull/7964): it appends the path below to the service's endpoint, sends a token for
Azure Resource Manager, and sends the stream as binary messages of any length. It is tested with a web socket and an ssh
server of our own, but was never tried with a real endpoint.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import suppress

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from blocks.azure.credential import ARM_SCOPE
from blocks.azure.errors import plain_errors
from deployments.azure.common import credential, load
from jobs.errors import RebelNerfError, WorkspaceUnavailable

_PATH = "/nbip/v1.0/ws-tcp"
_OPEN_SECONDS = 60.0  # a container that has just started answers slowly
_PING_SECONDS = 30.0  # keeps an idle connection open, and detects a broken one


def main(endpoint: str, saved: str = "") -> None:
    """Copy bytes both ways until either side ends.

    Args:
        endpoint: the service's `ProxyEndpoint`.
        saved: name of the workspace's block whose credential signs in; if empty, the environment's or `az login` does.

    Raises:
        RebelNerfError: sign-in failed, Azure refused the connection, or the connection broke.
    """
    with plain_errors("credential"):
        token = (load(saved).credential if saved else credential()).sign_in().get_token(ARM_SCOPE).token
    url = re.sub("^http", "ws", endpoint.rstrip("/")) + _PATH
    try:
        channel = connect(
            url,
            additional_headers={"Authorization": f"Bearer {token}"},
            max_size=None,
            open_timeout=_OPEN_SECONDS,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PING_SECONDS,
        )
    except (OSError, InvalidHandshake) as error:
        raise WorkspaceUnavailable(
            f"the job's ssh service at {url} does not let ssh in: {error}. Does the job run?"
        ) from None
    with channel:

        def send() -> None:
            with suppress(ConnectionClosed):  # the reading side reports it
                while block := os.read(sys.stdin.fileno(), 1 << 12):
                    channel.send(block)
                channel.close()

        threading.Thread(target=send, daemon=True).start()
        try:
            for block in channel:
                _write(block if isinstance(block, bytes) else block.encode())
        except BrokenPipeError:  # ssh has ended
            return
        except ConnectionClosed as error:
            raise WorkspaceUnavailable(
                f"the connection to the job's ssh service broke: {error}. Connect again."
            ) from None


def _write(block: bytes) -> None:
    while block:
        block = block[os.write(sys.stdout.fileno(), block) :]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RebelNerfError as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
