"""Check that Prefect's server answers before anything needs it, so that one sentence says what to do."""

from __future__ import annotations

import sys
import time

import httpx
from prefect.settings import PREFECT_API_URL

from jobs.errors import ServerUnavailable

__all__ = ["check_server"]

_NO_SERVER = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


def check_server(patience: float = 0.0) -> None:
    """Check that a server listens at PREFECT_API_URL, if that is set. A slow answer is enough.

    Args:
        patience: how long to wait for a server that is still starting, in seconds.

    Raises:
        ServerUnavailable: no server listens.
    """
    address, start, said = PREFECT_API_URL.value(), time.monotonic(), False
    while address:
        try:
            httpx.get(f"{address.rstrip('/')}/health", timeout=httpx.Timeout(1.0, connect=10.0))
            return
        except _NO_SERVER as error:
            left = patience - (time.monotonic() - start)
            if left <= 0:
                raise ServerUnavailable(
                    f"no Prefect server answers at {address} (PREFECT_API_URL): start it with `make server`, or unset "
                    "PREFECT_API_URL to run a flow without a server of your own."
                ) from error
            if not said:
                print(f"Waiting for the Prefect server at {address} …", file=sys.stderr, flush=True)
                said = True
            time.sleep(min(left, 1.0))
        except httpx.HTTPError:  # a server that is busy
            return
