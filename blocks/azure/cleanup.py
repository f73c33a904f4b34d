"""Find and remove what a workspace no longer needs besides assets: output of failed jobs, and cut transfers.

The code of jobs is stored once for all jobs with the same code, by the service and where only it can remove it.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from blocks.azure.assets import Assets
from blocks.azure.connection import Connection
from blocks.azure.listing import Blob
from blocks.local_cleanup import size_of
from blocks.records import JobState, JobStatus, Leftover
from blocks.supervisor import unlocked

__all__ = ["Leftovers"]

_AT_ONCE = 8  # jobs whose status is read at the same time


class Leftovers:
    """What remains of work that ended.

    Args:
        connection: the connection to the workspace.
        assets: what is registered in it.
        folder: the datastore's folder for what this program writes.
        cache: local folder for what is downloaded.
        find_job: returns the status of a job.
    """

    def __init__(
        self,
        connection: Connection,
        assets: Assets,
        folder: str,
        cache: Path,
        find_job: Callable[[str], JobStatus | None],
    ) -> None:
        self._connection, self._assets, self._folder = connection, assets, folder
        self._cache, self._find_job = cache, find_job

    def find(self, older_than: float) -> Iterator[Leftover]:
        """Yield the leftovers that have not changed for `older_than` seconds."""
        yield from self._outputs(older_than)
        yield from self._uploads(older_than)
        yield from self._downloads(older_than)

    def remove(self, leftover: Leftover) -> None:
        """Remove what `find` has returned."""
        if leftover.place.startswith(f"{self._folder}/"):
            self._connection.store().container.delete(leftover.place)
        elif (place := Path(leftover.place)).is_relative_to(self._cache):
            shutil.rmtree(place, ignore_errors=True)

    def _outputs(self, older_than: float) -> Iterator[Leftover]:
        """Yield the output of jobs that ended without a result. Output of a completed job is or can be registered."""
        jobs = {job: blobs for job, blobs in self._below("jobs", 1).items() if _age(blobs) > older_than}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            statuses = list(pool.map(self._find_job, jobs))
        for (job, blobs), status in zip(jobs.items(), statuses, strict=True):
            if status and status.state.ended and status.state is not JobState.COMPLETED:
                yield Leftover(f"{self._folder}/jobs/{job}/", "output of a job that failed", _size(blobs))

    def _uploads(self, older_than: float) -> Iterator[Leftover]:
        """Yield the photos of captures that were never registered."""
        for place, blobs in self._below("captures", 2).items():
            scene, _, content = place.partition("/")
            if _age(blobs) > older_than and not self._is_registered(scene, content):
                yield Leftover(f"{self._folder}/captures/{place}/", "upload that was cut", _size(blobs))

    def _is_registered(self, scene: str, content: str) -> bool:
        known = (*self._assets.versions(scene), *self._assets.archived(scene))
        return any((asset.provenance.content or "").startswith(content) for asset in known)

    def _downloads(self, older_than: float) -> Iterator[Leftover]:
        """Yield what killed downloads left on this machine."""
        for part in self._cache.glob("assets/*/.*.part"):
            with suppress(FileNotFoundError):  # its process has just finished it
                if time.time() - part.stat().st_mtime > older_than and unlocked(part.with_suffix(".lock")):
                    yield Leftover(str(part), "download that was cut", size_of(part))

    def _below(self, folder: str, depth: int) -> dict[str, list[Blob]]:
        """Return the blobs below a folder, by the first names of their paths."""
        found: defaultdict[str, list[Blob]] = defaultdict(list)
        for blob in self._connection.store().container.blobs(f"{self._folder}/{folder}/"):
            names = blob.path.split("/")
            if len(names) > depth:
                found["/".join(names[:depth])].append(blob)
        return dict(found)


def _age(blobs: Iterable[Blob]) -> float:
    """Return the seconds since the last change."""
    return min(blob.age for blob in blobs)


def _size(blobs: Iterable[Blob]) -> int:
    return sum(blob.size for blob in blobs)
