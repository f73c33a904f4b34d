"""Many scenes that wait at once: `python -m benchmarks.waiting --scenes 200 --seconds 600`.

A real server and worker; each scene's flow submits a job that sleeps, and waits for it. Measures the memory and
processor time of the worker and of the server, the requests between them (counted by a proxy), and how long after the
end of its job each run noticed it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit, urlunsplit

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Scheduled

from tests.faults.chain import chain_workspace
from tests.service import Service

_REQUEST = re.compile(rb"^(?:GET|POST|PATCH|PUT|DELETE) \S+ HTTP/1\.1\r$", re.MULTILINE)


async def main(scenes: int, seconds: float) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        service = Service(home / "service")
        try:
            service.start_server()
            requests = [0]
            direct = service.url
            service.url = service.environment["PREFECT_API_URL"] = await _counting(direct, requests)
            async with service.client(direct) as client:
                await _measure(service, client, home, scenes, seconds, requests)
        finally:
            service.close()


async def _measure(
    service: Service, client: PrefectClient, home: Path, scenes: int, seconds: float, requests: list[int]
) -> None:
    await asyncio.to_thread(service.run, "deployments.worker", "--pool-only")
    flow = await client.create_flow_from_name("one")
    deployment = await client.create_deployment(
        flow, "one", entrypoint="tests/faults/chain.py:one", work_pool_name="rebel-nerf"
    )
    service.start_worker()
    workspace = chain_workspace(home / "workspace")

    async def start(number: int) -> None:
        parameters = {"scene": f"s{number}", "root": str(home / "workspace"), "seconds": seconds}
        while True:
            try:
                # The key makes it one run, however often it is asked for.
                await client.create_flow_run_from_deployment(
                    deployment, parameters=parameters, state=Scheduled(), idempotency_key=f"{number}"
                )
                return
            except httpx.HTTPError:  # with SQLite, some requests fail
                await asyncio.sleep(1)

    def submitted_jobs() -> int:
        return len(list((workspace.folder / "jobs").glob("s*/spec.json")))

    await start(0)
    while not submitted_jobs():
        await asyncio.sleep(0.5)
    await asyncio.sleep(10)
    alone = _memory(service.pid("worker"))
    began = time.monotonic()
    for number in range(1, scenes):  # one by one, because with SQLite many requests at once fail
        await start(number)
    while submitted_jobs() < scenes:
        await asyncio.sleep(0.5)
    submitted = time.monotonic() - began
    await asyncio.sleep(15)
    before = (time.monotonic(), _processor(service.pid("worker")), _processor(service.pid("server")), requests[0])
    await asyncio.sleep(max(30.0, seconds - (time.monotonic() - began) - 30))
    together = _memory(service.pid("worker"))
    after = (time.monotonic(), _processor(service.pid("worker")), _processor(service.pid("server")), requests[0])
    passed, worker, server, asked = (late - early for early, late in zip(before, after, strict=True))
    done = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])))
    while await client.count_flow_runs(flow_run_filter=done) < scenes:
        await asyncio.sleep(2)
    late = []
    for number in range(scenes):
        [asset] = workspace.assets(f"s{number}-first")
        ended = (workspace.folder / "jobs" / asset.tags["job"] / "exit_code").stat().st_mtime
        late.append(asset.created.timestamp() - ended)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {scenes} scenes that wait for jobs of {seconds:.0f} s.\n")
    print("| | |\n|---|---|")
    print(f"| all jobs submitted after | {submitted:.0f} s |")
    print(f"| memory of the worker with one scene waiting | {alone:.0f} MB |")
    print(f"| … with all | {together:.0f} MB: {(together - alone) / (scenes - 1):.1f} MB a scene |")
    print(f"| worker, while all wait | {100 * worker / passed:.0f} % of a core |")
    print(f"| server, while all wait | {100 * server / passed:.0f} % of a core |")
    print(f"| requests to the server, while all wait | {asked / passed:.1f} a second |")
    print(f"| from a job's end to its registered result | {median(late):.1f} s, at most {max(late):.1f} s |")


def _memory(pid: int) -> float:
    """Return the memory of a process in MB: its own, and its share of shared memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1000  # type: ignore[index]


def _processor(group: int) -> float:
    """Return the CPU time of a process group in seconds."""
    total = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        fields = file.read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12]) if int(fields[2]) == group else 0
    return total / os.sysconf("SC_CLK_TCK")


async def _counting(url: str, requests: list[int]) -> str:
    """Return the URL of a proxy to `url` that counts requests."""
    there = urlsplit(url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: bool) -> None:
        while block := await reader.read(1 << 16):
            requests[0] += len(_REQUEST.findall(block)) if count else 0
            writer.write(block)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(there.hostname, there.port)
        with suppress(asyncio.CancelledError, ConnectionError):
            await asyncio.gather(carry(reader, forth, True), carry(back, writer, False))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return urlunsplit(there._replace(netloc=f"127.0.0.1:{port}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    asyncio.run(main(given.scenes, given.seconds))
