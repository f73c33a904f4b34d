"""Compare this project's uploads and downloads of blobs with the SDK's, on Azurite: `python -m benchmarks.transfer`.

Each transfer runs in a process of its own, so that its peak memory is its own. On this machine the blob service takes
as much of the processor as its client does, and where it is busy all the time, no client can be faster: the table says
how many seconds it was, and how many the client. A network has latency instead, which `--latency` puts before each
answer (milliseconds), and a limit to what one connection carries, which `--rate` sets (MB/s, each way); both sides of
the comparison go through the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

from jobs import manifest
from tests.azureml.azurite import Azurite
from tests.azureml.tls import write_certificates

SETS = {"400 × 100 kB": (400, 100_000), "4 × 200 MB": (4, 200_000_000)}
CONTAINER = "captures"


def main() -> None:
    """Print a table of seconds and megabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each answer")
    parser.add_argument("--rate", type=float, default=0.0, help="MB/s of each connection; 0 for no limit")
    parser.add_argument("--repeat", type=int, default=3, help="of which the fastest counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificates(folder / "certificates")
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(folder / "certificates" / "ca.pem")
        network = f"{given.latency:g} ms latency" + (f", {given.rate:g} MB/s a connection" if given.rate else "")
        print(f"| {network} | direction | this project | the SDK | times as fast |")
        print("|---|---|---|---|---|")
        for title, (count, size) in SETS.items():
            source = folder / "source"
            shutil.rmtree(source, ignore_errors=True)
            source.mkdir()
            for index in range(count):
                with (source / f"{index:04}.bin").open("wb") as stream:
                    for _ in range(0, size, 1_000_000):
                        stream.write(os.urandom(min(size, 1_000_000)))
            times: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
            for _ in range(given.repeat):
                for who in ("project", "sdk"):
                    service = Azurite("benchmark", folder / "certificates", folder / "azurite.log")
                    try:
                        service.client.create_container(CONTAINER)
                        port = service.port
                        if given.latency or given.rate:
                            port = _delayed(port, given.latency / 1000, given.rate * 1e6)
                        for what in ("upload", "download"):
                            shutil.rmtree(folder / "target", ignore_errors=True)
                            call = [sys.executable, "-m", "benchmarks.transfer", who, what, str(port), service.key]
                            before = busy(service.pid)
                            done = subprocess.run(
                                [*call, str(source), str(folder / "target")], capture_output=True, text=True, check=True
                            )
                            seconds, used, memory = json.loads(done.stdout.splitlines()[-1])
                            taken = (seconds, used, busy(service.pid) - before, memory)
                            times.setdefault((who, what), []).append(taken)
                    finally:
                        service.close()
            for what in ("upload", "download"):
                ours, theirs = min(times["project", what]), min(times["sdk", what])
                told = (
                    f"{seconds:.1f} s (client {used:.1f} s, service {served:.1f} s), {memory:.0f} MB"
                    for seconds, used, served, memory in (ours, theirs)
                )
                print(f"| {title} | {what} | {' | '.join(told)} | {theirs[0] / ours[0]:.1f} |", flush=True)


def busy(process: int) -> float:
    """Return the CPU time of a process with all its threads, in seconds (see proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def transfer(who: str, what: str, port: int, key: str, source: Path, target: Path) -> None:
    """Run one transfer and measure it from the moment when the client exists."""
    url = f"https://127.0.0.1:{port}/benchmark"
    run = (_project if who == "project" else _sdk)(what, url, key, source, target)
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    run()
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if what == "download":
        assert {f.name: f.stat().st_size for f in source.iterdir()} == {
            f.name: f.stat().st_size for f in target.rglob("*.bin")
        }
    print(json.dumps([seconds, used, manifest.peak_memory() / 2**20]))


def _project(what: str, url: str, key: str, source: Path, target: Path) -> Callable[[], None]:
    from blocks.azure.container import Container
    from blocks.azure.files import md5s

    def signature() -> str:
        allowed = ContainerSasPermissions(read=True, write=True, create=True, list=True, delete=True)
        end = datetime.now(timezone.utc) + timedelta(hours=1)
        return generate_container_sas("benchmark", CONTAINER, key, permission=allowed, expiry=end)

    container = Container(url, CONTAINER, signature)
    files = {file.name: file for file in sorted(source.iterdir())}
    if what == "upload":
        return lambda: container.upload(files, md5s(files), "photos/", lambda done, total: None)
    return lambda: container.download("photos/", target, lambda done, total: None)


def _sdk(what: str, url: str, key: str, source: Path, target: Path) -> Callable[[], None]:
    from azure.ai.ml._artifacts._blob_storage_helper import BlobStorageClient
    from azure.ai.ml._utils._asset_utils import get_ignore_file, get_object_hash

    client = BlobStorageClient(key, url, CONTAINER)
    # The account is in the path here and not in the host's name, from which the SDK takes it.
    client.service_client = BlobServiceClient(url, {"account_name": "benchmark", "account_key": key})
    client.container_client = client.service_client.get_container_client(CONTAINER)

    def upload() -> None:
        ignore = get_ignore_file(source)
        client.upload(str(source), "photos", "1", ignore, get_object_hash(source, ignore))

    if what == "upload":
        return upload
    prefix = next(iter(client.container_client.list_blob_names())).rpartition("/")[0]
    return lambda: client.download(prefix, target)


def _delayed(port: int, seconds: float, rate: float) -> int:
    """Forward a port to another one and delay each answer, like a network.

    Args:
        port: the other.
        seconds: before what comes back.
        rate: bytes a second of each connection, either way; 0 for no limit.
    """
    ready = threading.Event()
    found: list[int] = []

    async def serve() -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait: float) -> None:
            due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

            async def write() -> None:
                while True:
                    at, block = await due.get()
                    await asyncio.sleep(max(0.0, at - time.monotonic()))
                    if not block:
                        break
                    writer.write(block)
                    await writer.drain()
                writer.close()

            task, free = asyncio.create_task(write()), 0.0
            try:
                while block := await reader.read(1 << 18):
                    free = max(free, time.monotonic()) + (len(block) / rate if rate else 0.0)
                    await due.put((free + wait, block))
                    if rate:
                        await asyncio.sleep(free - time.monotonic())  # what comes later waits on the sender's side
                await due.put((time.monotonic(), b""))
                await task
            finally:
                task.cancel()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(carry(reader, back, 0.0), carry(there, writer, seconds), return_exceptions=True)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return found[0]


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in ("project", "sdk"):
        _, who, what, port, key, source, target = sys.argv
        transfer(who, what, int(port), key, Path(source), Path(target))
    else:
        main()
