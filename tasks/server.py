"""Check that Prefect's server answers before anything needs it, so that one sentence says what to do."""

from __future__ import annotations

import sys
import time

import httpx
import prefect
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from jobs.errors import ServerUnavailable
from jobs.program import typed

__all__ = ["check_server"]

_NO_SERVER = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


def check_server(patience: float = 0.0) -> None:
    """Check that a Prefect server at PREFECT_API_URL, if that is set, accepts this client. A slow answer is enough.

    Args:
        patience: how long to wait for a server that is still starting, in seconds.

    Raises:
        ServerUnavailable: no server listens, or it is not Prefect's, or has another version or another password.
    """
    address, start, announced = PREFECT_API_URL.value(), time.monotonic(), False
    while address:
        try:
            _check_answer(address)
            return
        except _NO_SERVER as error:
            left = patience - (time.monotonic() - start)
            if left <= 0:
                raise ServerUnavailable(
                    f"no Prefect server answers at {address} (PREFECT_API_URL): start it with `{typed('server')}`, or "
                    "unset PREFECT_API_URL to run a flow without a server of your own."
                ) from error
            if not announced:
                print(f"Waiting for the Prefect server at {address} …", file=sys.stderr, flush=True)
                announced = True
            time.sleep(min(left, 1.0))
        except httpx.HTTPError:  # a server that is busy
            return


def _check_answer(address: str) -> None:
    with get_client(sync_client=True) as client:  # only for its headers: it would retry for minutes
        headers, in_cloud = client._client.headers, client.server_type == ServerType.CLOUD
    answer = httpx.get(
        f"{address.rstrip('/')}/admin/version", headers=headers, timeout=httpx.Timeout(1.0, connect=10.0)
    )
    if answer.status_code in (401, 403):
        raise ServerUnavailable(
            f"401 Unauthorized: the Prefect server at {address} refuses the password. For the server of this "
            "machine, unset PREFECT_API_AUTH_STRING; otherwise, set it to the server's. If the password has changed, "
            "start the worker again."
        )
    if in_cloud or answer.is_server_error:
        return
    theirs = answer.text.strip().strip('"')
    if not answer.is_success or not theirs[:1].isdigit():
        raise ServerUnavailable(
            f"what answers at {address} (PREFECT_API_URL) is not a Prefect server. The address of the one that "
            f"`{typed('server')}` starts is http://127.0.0.1:4200/api."
        )
    if theirs.partition(".")[0] != prefect.__version__.partition(".")[0]:
        raise ServerUnavailable(
            f"the server at {address} is Prefect {theirs}, and this is Prefect {prefect.__version__}. Install the same "
            "version for both, or unset PREFECT_API_URL to run a flow without a server of your own."
        )
