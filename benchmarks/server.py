"""How long a Prefect server is blocked while eight clients read and write: `python -m benchmarks.server`.

`/api/health` uses no database: if it does not answer, no request is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import urllib.request
from pathlib import Path

from prefect import State, flow
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Completed, Pending, Running, Scheduled

from tests.service import Service

SERVERS = {"prefect server start": ("prefect", "server", "start"), "make server": ("deployments.server",)}
CLIENTS = 8


@flow
def nothing() -> None:
    """Return the flow whose runs the clients create."""


async def longest_silence(service: Service, seconds: float) -> tuple[float, int]:
    """Return the longest time without an answer, and the number of answered requests."""
    end = time.monotonic() + seconds
    answered = 0

    async def use() -> None:
        nonlocal answered
        async with service.client() as client:
            states: list[State[None]] = [Scheduled(), Pending(), Running(), Completed()]
            while time.monotonic() < end:
                try:
                    run = await client.create_flow_run(nothing)
                    for state in states:
                        await client.set_flow_run_state(run.id, state, force=True)
                        answered += 1
                    await client.read_flow_runs(limit=50)
                except PrefectHTTPStatusError:  # the database was locked for longer than a client tries
                    continue

    def ask() -> float:
        start = time.monotonic()
        urllib.request.urlopen(f"{service.url}/health").read()
        return time.monotonic() - start

    users = [asyncio.create_task(use()) for _ in range(CLIENTS)]
    longest = 0.0
    while time.monotonic() < end:
        longest = max(longest, await asyncio.to_thread(ask))
        await asyncio.sleep(0.2)
    for user in users:
        user.cancel()
    await asyncio.wait(users)
    return longest, answered


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--repeat", type=int, default=3, help="of each, in turn")
    given = parser.parse_args()
    print("| server | longest without an answer, s | states set |\n|---|---|---|")
    for name, command in [*SERVERS.items()] * given.repeat:
        with tempfile.TemporaryDirectory() as home:
            service = Service(Path(home))
            try:
                service.start_server(*command)
                longest, answered = asyncio.run(longest_silence(service, given.seconds))
            finally:
                service.close()
        print(f"| `{name}` | {longest:.1f} | {answered} |", flush=True)


if __name__ == "__main__":
    main()
