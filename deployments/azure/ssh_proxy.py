"""Standard input and output to a job's ssh service, for ssh:
`ssh -o ProxyCommand="python -m deployments.azure.ssh_proxy wss://… BLOCK"`.

Where a cluster has no public ssh port, Azure ML lets people in by a web socket, with a token of theirs.
"""

from __future__ import annotations

import os
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from deployments.azure.options import credential, load

_SCOPE = "https://ml.azure.com/.default"


def main(url: str, saved: str = "") -> None:
    """Carry bytes both ways until either side ends.

    Args:
        url: the service's.
        saved: name of the workspace's block, whose credential signs in; without, the environment's or `az login`.
    """
    signs_in = load(saved).credential if saved else credential()
    token = signs_in.sign_in().get_token(_SCOPE).token
    with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, max_size=None) as channel:

        def send() -> None:
            while block := os.read(sys.stdin.fileno(), 1 << 16):
                channel.send(block)
            channel.close()

        threading.Thread(target=send, daemon=True).start()
        try:
            for block in channel:
                os.write(sys.stdout.fileno(), block if isinstance(block, bytes) else block.encode())
        except ConnectionClosed:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
