"""A listing of all captures: this project's beside the storage SDK's, on Azurite: `python -m benchmarks.listing`."""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from blocks.azure_transfer import Container
from blocks.local_captures import list_dropped
from tests.azureml.azurite import Azurite
from tests.azureml.tls import write_certificates


def main() -> None:
    """Print a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--photos", type=int, default=100, help="of each scene")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificates(folder / "certificates")
        os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(folder / "certificates" / "ca.pem")
        print(
            f"| {given.scenes} scenes of {given.photos} photos | seconds | of them this process's CPU |\n|---|---|---|"
        )
        service = Azurite("benchmark", folder / "certificates", folder / "azurite.log")
        try:
            _on_azurite(service, given.scenes, given.photos)
        finally:
            service.close()
        captures = folder / "captures"
        for scene in range(given.scenes):
            (captures / f"scene-{scene}").mkdir(parents=True)
            for photo in range(given.photos):
                (captures / f"scene-{scene}" / f"{photo:03}.jpg").write_bytes(os.urandom(100))
        for which in ("local, the first time", "local, again"):
            with _Row(which):
                assert len(list_dropped(captures, folder / "checksums.json", None)) == given.scenes


def _on_azurite(service: Azurite, scenes: int, photos: int) -> None:
    service.client.create_container("captures")
    signature = generate_container_sas(
        service.account, "captures", service.key,
        permission=ContainerSasPermissions(read=True, write=True, create=True, list=True),
        expiry=datetime.now(timezone.utc) + timedelta(hours=12),
    )  # fmt: skip
    url = f"https://127.0.0.1:{service.port}/{service.account}"
    container = Container(url, "captures", lambda: signature)
    with ThreadPoolExecutor(16) as pool:
        names = (f"captures/scene-{scene}/{photo:03}.jpg" for scene in range(scenes) for photo in range(photos))
        list(pool.map(lambda name: container.write(name, os.urandom(100)), names))
    for _ in range(2):
        with _Row("Azurite, this project"):
            assert len(container.blobs("captures/", uncommitted=True)) == scenes * photos
        with _Row("Azurite, the SDK"):
            client = ContainerClient(url, "captures", credential=signature)
            assert sum(1 for _ in client.list_blobs("captures/", include=["metadata"])) == scenes * photos


class _Row:
    def __init__(self, which: str) -> None:
        self._which = which

    def __enter__(self) -> None:
        self._start, self._used = time.perf_counter(), _cpu()

    def __exit__(self, *_: object) -> None:
        seconds, used = time.perf_counter() - self._start, _cpu() - self._used
        print(f"| {self._which} | {seconds:.1f} | {used:.1f} |", flush=True)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
