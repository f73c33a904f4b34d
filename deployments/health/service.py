"""Checks of the service: Prefect's server, who may use it, the work pool, workers, deployments and blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from email.utils import parsedate_to_datetime
from functools import partial
from importlib import metadata
from time import time
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

import tasks
from deployments.azure.on_server import POOL, deployed
from deployments.health.finding import Check, Finding
from jobs.errors import RebelNerfError
from jobs.program import typed
from tasks.sign_in import client_settings, local_server

__all__ = ["checks"]

T = TypeVar("T")
_TYPE = "rebel-nerf"  # of the work pool: `SceneWorker.type`
_SECONDS = 30.0  # limit for a busy server's answer
_LARGEST_SKEW = 60.0  # seconds
_SIGN_IN = (
    "Set PREFECT_API_AUTH_STRING to the server's password; for the server of this machine, unset it, and restart "
    "server and worker."
)

_NOT_PREFECT = "That is no Prefect server: set PREFECT_API_URL to its address, which ends in /api."


def checks() -> list[Check]:
    """Return the checks of the server that is set or runs on this machine. Without one, the only check says so."""
    address = PREFECT_API_URL.value() or local_server()
    answer = _ask(address)
    found: list[Check] = [("server", partial(_server, address, answer))]
    if isinstance(answer, httpx.Response) and answer.is_success:
        more = (
            ("server clock", partial(_skew, answer)),
            ("password", partial(_password, address)),
            ("work pool", _pool),
            ("worker", _worker),
            ("deployments", _deployments),
            ("blocks", _blocks),
        )
        found += [(name, partial(_signed_in, address, check)) for name, check in more]
    return found


def _ask(address: str) -> httpx.Response | Exception:
    try:
        return httpx.get(f"{address.rstrip('/')}/health", timeout=httpx.Timeout(_SECONDS, connect=5.0))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return error


def _server(address: str, answer: httpx.Response | Exception) -> Finding:
    is_set = bool(PREFECT_API_URL.value())
    if isinstance(answer, Exception):
        if is_set:
            return Finding.wrong(
                f"nothing answers at {address} (PREFECT_API_URL): {answer}",
                f"Start it with `{typed('server')}`, or unset PREFECT_API_URL to run without a server of your own.",
            )
        return Finding.ok("none runs here and none is set: each command starts one for its own run")
    if not answer.is_success:
        remedy = "See the server's log; is its database up?" if answer.is_server_error else _NOT_PREFECT
        return Finding.wrong(f"{address} answers {answer.status_code}", remedy)
    if not is_set:
        return Finding.warning(
            f"one runs at {address}, but PREFECT_API_URL is not set: commands do not use it",
            f"export PREFECT_API_URL={address}",
        )
    return Finding.ok(f"answers at {address}")


def _signed_in(address: str, check: Callable[[], Finding]) -> Finding:
    with temporary_settings({PREFECT_API_URL: address}), temporary_settings(client_settings()):
        try:
            return check()
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 401:
                return Finding.wrong("not checked, because the server refused the password", _SIGN_IN)
            raise


def _skew(answer: httpx.Response) -> Finding:
    date = answer.headers.get("date")
    if date is None:
        return Finding.ok("the server does not say")
    ahead = parsedate_to_datetime(date).timestamp() - time()
    if abs(ahead) > _LARGEST_SKEW:
        return Finding.wrong(
            f"the server's clock is {ahead:+.0f} s from this machine's",
            "Set both clocks (timedatectl set-ntp true). They decide when runs start and when they are given up.",
        )
    return Finding.ok("agrees with this machine's")


def _password(address: str) -> Finding:
    def version(client: PrefectClient) -> Coroutine[Any, Any, httpx.Response]:
        return client._client.get("/admin/version")

    theirs, ours = _call(version).json(), metadata.version("prefect")
    stranger = httpx.get(f"{address.rstrip('/')}/admin/version", timeout=_SECONDS)
    if stranger.status_code == 200:
        here = urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")
        return Finding.warning(
            "the server admits everybody who can reach it"
            + (": other users of this machine, and web pages that your browser shows" if here else ""),
            f"Start it with `{typed('server')}`, or set PREFECT_SERVER_API_AUTH_STRING where it runs.",
        )
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        return Finding.warning(f"accepted; the server is Prefect {theirs}, and this is {ours}", "Install one version.")
    return Finding.ok("accepted, and requests without it are refused")


def _pool() -> Finding:
    try:
        pool = _call(lambda client: client.read_work_pool(POOL))
    except ObjectNotFound:
        return Finding.wrong(f"{POOL} does not exist, so nothing can be scheduled", typed("deploy"))
    if pool.type != _TYPE:
        return Finding.wrong(
            f"{POOL} is of type {pool.type}, not {_TYPE}",
            f"{typed(f'prefect work-pool delete {POOL}')}, then {typed('deploy')}",
        )
    if pool.is_paused:
        return Finding.wrong(f"{POOL} is paused: no run starts", typed(f"prefect work-pool resume {POOL}"))
    return Finding.ok(POOL)


def _worker() -> Finding:
    try:
        workers = _call(lambda client: client.read_workers_for_work_pool(POOL))
    except (ObjectNotFound, httpx.HTTPStatusError) as error:  # the latter if there is no work pool
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code != 404:
            raise
        workers = []
    online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
    if not online:
        gone = f"; {len(workers)} earlier ones are gone" if workers else ""
        return Finding.wrong(f"none runs{gone}; scheduled runs wait", typed("worker"))
    return Finding.ok(f"{len(online)} online: {', '.join(online)}")


def _deployments() -> Finding:
    if not deployed():
        return Finding.wrong("some are missing, of another folder, or older than this code", typed("deploy"))
    return Finding.ok("registered, and as new as this code")


def _blocks() -> Finding:
    async def look() -> tuple[list[str], list[str]]:
        references = [each for each in await tasks.all_workspaces() if each != tasks.LOCAL]
        faults = []
        for reference in references:
            try:
                await tasks.load_workspace(reference)
            except RebelNerfError as error:
                faults.append(str(error))
        return references, faults

    references, faults = asyncio.run(look())
    if faults:
        return Finding.wrong("\n".join(faults), "Correct or delete them in Prefect's UI, under Blocks.")
    return Finding.ok(f"saved workspaces: {', '.join(references) or 'none; `local` needs none'}")


def _call(request: Callable[[PrefectClient], Coroutine[Any, Any, T]]) -> T:
    async def call() -> T:
        async with get_client() as client:
            return await request(client)

    return asyncio.run(call())
