"""Compare this project's listing of all captures with the storage SDK's, on Azurite: `python -m benchmarks.listing`.

Azurite takes more than half an hour for a hundred thousand uploads. So one scene's photos are uploaded, it is stopped,
and in the file of its index (LokiJS) that scene is copied to all others, each photo with a name, an ETag and an MD5 of
its own. Started on this file, it has them all. The time of Azurite alone, whose pages are requested but not read, is
the least that any client can need.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from benchmarks.transfer import busy
from blocks.azure import AzureCredential, AzureMLWorkspace
from blocks.azure.connection import Datastore
from blocks.azure.container import Container
from blocks.local_captures import list_dropped
from tests.azureml.azurite import Azurite
from tests.azureml.tls import write_certificates

NAME = "captures"


def main() -> None:
    """Print a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--photos", type=int, default=100, help="of each scene")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificates(folder / "certificates")
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(folder / "certificates" / "ca.pem")
        title = f"{given.scenes} scenes of {given.photos} photos"
        print(f"| {title} | seconds | of the processor, here | and by Azurite |\n|---|---|---|---|")
        _on_azurite(folder, given.scenes, given.photos, given.repeat)
        captures = folder / "captures"
        for scene in range(given.scenes):
            (captures / f"scene-{scene}").mkdir(parents=True)
            for photo in range(given.photos):
                (captures / f"scene-{scene}" / f"{photo:03}.jpg").write_bytes(os.urandom(100))
        for which in ("local, the first time", "local, again"):
            with _Row(which):
                found = list_dropped(captures, folder / "checksums.json", None)
            _check([len(dropped.files) for dropped in found], [given.photos] * given.scenes)


def _on_azurite(folder: Path, scenes: int, photos: int, repeat: int) -> None:
    def start() -> Azurite:
        return Azurite("benchmark", folder / "certificates", folder / "azurite.log", folder / "azurite")

    service = start()
    try:
        service.client.create_container(NAME)
        container = Container(*_place(service))
        with ThreadPoolExecutor(16) as pool:
            names = (f"captures/scene-0/{photo:03}.jpg" for photo in range(photos))
            list(pool.map(lambda name: container.write(name, os.urandom(100)), names))
        service.stop()
        _multiply(folder / "azurite" / "__azurite_db_blob__.json", scenes)
        service = start()
        url, name, signature = _place(service)
        workspace = AzureMLWorkspace(
            credential=AzureCredential(), subscription_id=str(uuid.uuid4()), resource_group="none", workspace="none"
        )
        workspace._connection._datastores[""] = Datastore("benchmark", Container(url, name, signature))
        for _ in range(repeat):
            with _Row("Azurite alone", service.pid):
                _pages(url, name, signature())
            with _Row("Azurite, this project", service.pid):
                found = workspace.dropped()
            _check([len(dropped.files) for dropped in found], [photos] * scenes)
            _check(len({file.checksum for dropped in found for file in dropped.files.values()}), photos * scenes)
        with _Row("Azurite, the SDK", service.pid):
            client = ContainerClient(url, name, credential=signature())
            count = sum(1 for _ in client.list_blobs("captures/", include=["metadata", "uncommittedblobs"]))
        _check(count, photos * scenes)
    finally:
        service.close()


def _pages(url: str, name: str, signature: str) -> None:
    """Request all pages without reading them."""
    marker: bytes | None = b""
    with requests.Session() as session:
        while marker is not None:
            query = f"restype=container&comp=list&prefix=captures/&include=metadata&marker={quote(marker)}"
            page = session.get(f"{url}/{name}?{query}&{signature}").content
            found = re.search(rb"<NextMarker>([^<]+)</NextMarker></EnumerationResults>$", page)
            marker = found[1] if found else None


def _place(service: Azurite) -> tuple[str, str, Callable[[], str]]:
    """Return what a container is opened with."""
    signature = generate_container_sas(
        service.account, NAME, service.key,
        permission=ContainerSasPermissions(read=True, write=True, create=True, list=True),
        expiry=datetime.now(timezone.utc) + timedelta(hours=12),
    )  # fmt: skip
    return f"https://127.0.0.1:{service.port}/{service.account}", NAME, lambda: signature


def _multiply(file: Path, scenes: int) -> None:
    """Copy the entries of scene 0 to all other scenes."""
    index = json.loads(file.read_text())
    blobs = next(each for each in index["collections"] if each["name"] == "$BLOBS_COLLECTION$")
    first: list[dict[str, Any]] = blobs["data"]
    blobs["data"] = [_copied(entry, scene) for scene in range(scenes) for entry in first]
    for number, entry in enumerate(blobs["data"], start=1):
        entry["$loki"] = blobs["maxId"] = number
    for key, order in blobs["binaryIndices"].items():
        order["values"] = sorted(range(len(blobs["data"])), key=lambda place: blobs["data"][place][key])
    file.write_text(json.dumps(index))


def _copied(entry: dict[str, Any], scene: int) -> dict[str, Any]:
    """Give a blob its own ETag and MD5, and make it an hour older than in the scene before."""
    properties = dict(entry["properties"])
    written = datetime.fromisoformat(properties["lastModified"]) - timedelta(hours=scene)
    properties["lastModified"] = written.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    properties["etag"] = f'"0x{os.urandom(8).hex().upper()}"'
    properties["contentMD5"] = {"type": "Buffer", "data": [*os.urandom(16)]}
    name = entry["name"].replace("/scene-0/", f"/scene-{scene}/")
    return {**entry, "name": name, "properties": properties, "meta": dict(entry["meta"])}


def _check(found: object, right: object) -> None:
    if found != right:
        raise SystemExit(f"the listing is wrong: {str(found)[:200]} instead of {str(right)[:200]}")


class _Row:
    """Print how long the body takes, and the CPU seconds of this process and of the service."""

    def __init__(self, which: str, service: int | None = None) -> None:
        self._which, self._service = which, service

    def __enter__(self) -> None:
        self._start, self._used, self._served = time.perf_counter(), _cpu(), self._busy()

    def __exit__(self, *_: object) -> None:
        seconds, used, served = time.perf_counter() - self._start, _cpu() - self._used, self._busy() - self._served
        told = f"{served:.1f}" if self._service else ""
        print(f"| {self._which} | {seconds:.1f} | {used:.1f} | {told} |", flush=True)

    def _busy(self) -> float:
        return busy(self._service) if self._service else 0.0


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
