"""Whether Prefect's server answers: asked before anything needs it, so that one sentence says what to do."""

from __future__ import annotations

import sys
import time

import httpx
from prefect.settings import PREFECT_API_URL

from jobs.errors import ServerUnavailable

__all__ = ["check_server"]

_NOBODY_THERE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


def check_server(patience: float = 0.0) -> None:
    """Check that something listens at PREFECT_API_URL, if that is set; how fast it answers does not matter.

    Args:
        patience: how long to wait for a server that is still starting, in seconds.

    Raises:
        ServerUnavailable: nothing does.
    """
    address, start, said = PREFECT_API_URL.value(), time.monotonic(), False
    while address:
        try:
            httpx.get(f"{address.rstrip('/')}/health", timeout=httpx.Timeout(1.0, connect=10.0))
            return
        except _NOBODY_THERE as error:
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
        except httpx.HTTPError:  # it is there, and busy
            return
