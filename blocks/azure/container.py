"""Transfer files to blobs and back: parallel, resumable, MD5-checked, in little memory.

The transfers of Azure ML's SDK load whole files into memory, one after another, and never end after some faults. Here,
files and pieces of large files are sent in parallel, existing blobs are not sent again, requests that fail for a moment
are retried, and the container's signature is renewed before it expires.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from blocks.azure.errors import StorageError, plain_errors
from blocks.azure.files import BLOCK, Piece, base64, file_below, journal, md5_of, part_of, read_journal
from blocks.azure.listing import PIECE, Blob, blobs_of_page, next_marker
from blocks.azure.requests import THREADS, ContainerRequests
from blocks.reading import changed, stamp
from jobs.errors import NotFound, WorkspaceUnavailable

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

__all__ = ["Container", "Moved"]

_COPIED_AT_ONCE = 256 << 20
"""Bytes of the largest blob that one request copies:
https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url"""

_PAGE = 5000  # blobs on one page of a listing, the most that the service allows

Moved = Callable[[int, int], None]
"""Called as bytes move, with the bytes done and the total. Bytes that were there already count as done."""

T = TypeVar("T")


class Container(ContainerRequests):
    """The blobs of one container, and transfers of many of them."""

    # one blob

    def read(self, name: str, offset: int = 0) -> bytes:
        """Read a blob from `offset`. Return b"" if the blob is shorter.

        Raises:
            NotFound: there is no such blob.
        """
        with plain_errors(f"reading {name}"):
            try:
                return self._persist(partial(self._request, "GET", name, headers={"x-ms-range": f"bytes={offset}-"}))[1]
            except StorageError as error:
                if error.status_code == 416:
                    return b""
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write a small blob. An existing one is replaced."""
        with plain_errors(f"writing {name}"):
            self._persist(lambda: self._put(name, [content], len(content), hashlib.md5(content).digest()))

    def update(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Replace a small blob's content with what `change` returns for it. A blob that does not exist counts as b"".

        No change is lost: if another process writes at the same time, `change` is called again with the new content.
        """
        with plain_errors(f"writing {name}"):
            while True:
                before, condition = b"", {"If-None-Match": "*"}
                try:
                    headers, before = self._persist(partial(self._request, "GET", name))
                    condition = {"If-Match": headers["ETag"]}
                except StorageError as error:
                    if error.status_code != 404:
                        raise
                if (after := change(before)) == before:
                    return
                put = partial(self._put, name, [after], len(after), hashlib.md5(after).digest(), condition)
                try:
                    return self._persist(put)
                except StorageError as error:
                    if error.status_code not in (409, 412):
                        raise

    # many

    def blobs(self, prefix: str, most: int | None = None, uncommitted: bool = False) -> list[Blob]:
        """List all blobs (or the first `most`) whose names begin with `prefix`, in the order of their names.

        With `uncommitted`, blobs are included of which only blocks have been uploaded.
        """
        with plain_errors(f"listing {prefix}"):
            return list(itertools.islice(self._listing(prefix, most, uncommitted), most))

    def delete(self, prefix: str) -> None:
        """Delete all blobs whose names begin with `prefix`."""
        from azure.core.exceptions import ResourceNotFoundError

        def remove(blob: Blob) -> None:
            with suppress(ResourceNotFoundError):
                self._persist(lambda: self._client.delete_blob(prefix + blob.path))

        with plain_errors(f"deleting {prefix}"), ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(remove, self.blobs(prefix)))

    def copy(self, source: str, blobs: Iterable[Blob], target: str) -> None:
        """Copy blobs below `source` to the same paths below `target`, within the store. Existing copies are kept.

        Raises:
            InvalidInput: a blob has changed since it was listed.
            NotFound: a blob is gone.
        """
        there = {blob.path: blob for blob in self.blobs(target)}

        def copy(blob: Blob) -> None:
            kept = there.get(blob.path)
            if not (kept and blob.md5 and (kept.size, kept.md5) == (blob.size, blob.md5)):
                with plain_errors(f"copying {source}{blob.path}"):
                    self._persist(lambda: self._copy(source + blob.path, blob, target + blob.path))

        with _pool() as submit:
            _finish([submit(copy, blob) for blob in blobs])

    def upload(self, files: Mapping[str, Path], sums: Mapping[str, bytes], prefix: str, moved: Moved) -> None:
        """Upload files to blobs named `prefix` + path. Blobs with the same MD5, and blocks of large files, are kept.

        Raises:
            InvalidInput: a file vanishes or changes while it is read.
        """
        stamps = {path: stamp(file) for path, file in files.items()}
        there = {blob.path: blob for blob in self.blobs(prefix)}
        todo = []
        progress = _Progress(moved, sum(each.size for each in stamps.values()))
        for path in files:
            blob, size = there.get(path), stamps[path].size
            if blob and blob.size == size and blob.md5 == sums[path]:
                progress.add(size)
            else:
                todo.append(path)

        def put(path: str) -> None:
            piece = Piece(files[path], 0, stamps[path].size)
            self._persist(lambda: piece.send(partial(self._put, prefix + path), sums[path]))
            progress.add(piece.size)

        with plain_errors(f"uploading to {prefix}"), _pool() as submit:
            small = [submit(put, path) for path in todo if stamps[path].size <= PIECE]
            large = {
                path: self._stage_all(submit, prefix + path, files[path], stamps[path].size, progress)
                for path in todo
                if stamps[path].size > PIECE
            }
            _finish(small)
            for path, blocks in large.items():
                staged = _finish(blocks)
                if stamp(files[path]) != stamps[path]:
                    raise changed(files[path])
                self._persist(partial(self._commit, prefix + path, staged, sums[path]))

    def download(self, prefix: str, folder: Path, moved: Moved) -> None:
        """Download all blobs below `prefix` to files below `folder`. Existing files are kept.

        A file has its name only once it is whole and its MD5 is right.

        Raises:
            NotFound: there is nothing below `prefix`, or a blob vanished.
        """
        blobs = self.blobs(prefix)
        if not blobs:
            raise NotFound(f"there is no longer anything at {prefix}.")
        progress = _Progress(moved, sum(blob.size for blob in blobs))
        todo = []
        for blob in blobs:
            target = file_below(folder, blob.path)
            if target.is_file() and target.stat().st_size == blob.size:
                progress.add(blob.size)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                todo.append((blob, target))

        with plain_errors(f"downloading {prefix}"), _pool() as submit:
            _finish([piece for blob, target in todo for piece in self._get_all(submit, prefix, blob, target, progress)])

    # pieces of large files

    def _stage_all(self, submit: _Submit, name: str, file: Path, size: int, progress: _Progress) -> list[Future[str]]:
        """Upload each piece as a block. Its ID has the MD5 of its content, so blocks of earlier tries can be kept."""
        staged = self._persist(lambda: _staged(self._client.get_blob_client(name)))

        def stage(index: int) -> str:
            piece = Piece(file, index * PIECE, min(PIECE, size - index * PIECE))
            md5 = piece.md5()
            block = f"{index:08}{md5.hex()}"
            if block not in staged:
                self._persist(lambda: piece.send(partial(self._stage, name, block), md5))
            progress.add(piece.size)
            return block

        return [submit(stage, index) for index in range(-(-size // PIECE))]

    def _get_all(
        self, submit: _Submit, prefix: str, blob: Blob, target: Path, progress: _Progress
    ) -> list[Future[None]]:
        """Download each piece to its place in the unfinished file. A journal lists the pieces of an interrupted try.

        The last piece to come checks the file and gives it its name.
        """
        name, part = prefix + blob.path, part_of(target)
        done = read_journal(part, blob)
        left = set(range(blob.pieces)) - done
        if not done:  # a journal of an earlier file would count for this one
            journal(part).unlink(missing_ok=True)
        with part.open("r+b" if done else "wb") as stream:
            stream.truncate(blob.size)
        lock = threading.Lock()

        def get(index: int) -> None:
            self._persist(lambda: self._receive(name, blob, index, part))
            with lock:
                left.remove(index)
                last = not left
                if not last:
                    with journal(part).open("a") as lines:
                        lines.write(f"{blob.etag} {index}\n")
            progress.add(min(blob.piece, blob.size - index * blob.piece))
            if last:
                finish()

        def finish() -> None:
            journal(part).unlink(missing_ok=True)
            if blob.pieces > 1 and blob.md5 and md5_of(part) != blob.md5:
                part.unlink()
                raise WorkspaceUnavailable(f"{name} arrived damaged. Try again.")
            part.replace(target)

        progress.add(sum(min(blob.piece, blob.size - index * blob.piece) for index in done))
        return [submit(get, index) for index in sorted(left)] or [submit(finish)]

    # single requests

    def _listing(self, prefix: str, most: int | None, uncommitted: bool) -> Iterator[Blob]:
        """List blobs page by page: https://learn.microsoft.com/rest/api/storageservices/list-blobs

        Only the end of a page says where the next one begins, so pages cannot be requested in parallel. But the next
        page is requested while one is parsed.
        """
        asked = {"restype": "container", "comp": "list", "prefix": prefix}
        asked["include"] = "metadata,uncommittedblobs" if uncommitted else "metadata"
        asked["maxresults"] = str(min(most or _PAGE, _PAGE))

        def page(marker: str) -> tuple[datetime, bytes]:
            query = "?" + urlencode({name: value for name, value in {**asked, "marker": marker}.items() if value})
            headers, content = self._persist(partial(self._request, "GET", "", query=query))
            return parsedate_to_datetime(headers["Date"]), content

        marker, ahead = "", most is None  # for a few blobs, the first page may be enough
        with ThreadPoolExecutor(1, thread_name_prefix="listing") as pool:
            coming: Future[tuple[datetime, bytes]] | None = pool.submit(page, marker)
            while coming:
                now, content = coming.result()
                marker = next_marker(content)
                coming = pool.submit(page, marker) if marker and ahead else None
                yield from blobs_of_page(content, prefix, now)
                if marker and not ahead:
                    coming = pool.submit(page, marker)

    def _copy(self, source: str, blob: Blob, target: str) -> None:
        """Copy a blob: in one request if the service can, else by starting a copy and waiting for it."""
        url = f"{self._url}/{quote(source)}"
        headers = {"x-ms-source-if-match": blob.etag}
        if self._token is None:
            url += f"?{self._sas.signature}"
        elif blob.size <= _COPIED_AT_ONCE:
            headers["x-ms-copy-source-authorization"] = self._bearer()
        if blob.size <= _COPIED_AT_ONCE:
            headers["x-ms-requires-sync"] = "true"
        answered, _ = self._request("PUT", target, headers={**headers, "x-ms-copy-source": url})
        state = answered["x-ms-copy-status"]
        while state == "pending":
            time.sleep(1)
            answered, _ = self._request("HEAD", target)
            state = answered["x-ms-copy-status"]
        if state != "success":
            raise StorageError(502, f"copying ended as {state}")

    def _put(
        self, name: str, content: Iterable[bytes], size: int, md5: bytes, condition: Mapping[str, str] = {}
    ) -> None:
        self._send(name, content, size, md5, headers={"x-ms-blob-type": "BlockBlob", **condition})

    def _stage(self, name: str, block: str, content: Iterable[bytes], size: int, md5: bytes) -> None:
        self._send(name, content, size, md5, f"?comp=block&blockid={quote(base64(block.encode()), safe='')}")

    def _commit(self, name: str, blocks: Iterable[str], md5: bytes) -> None:
        from azure.storage.blob import BlobBlock, ContentSettings

        self._client.get_blob_client(name).commit_block_list(
            [BlobBlock(block) for block in blocks], content_settings=ContentSettings(content_md5=bytearray(md5))
        )

    def _receive(self, name: str, blob: Blob, index: int, part: Path) -> None:
        """Download one piece of a blob to its place, and check its MD5: that of the whole blob, or of the range."""
        start, end = index * blob.piece, min((index + 1) * blob.piece, blob.size)
        headers = {"x-ms-range": f"bytes={start}-{end - 1}", "If-Match": blob.etag}
        if blob.md5 is None:
            headers["x-ms-range-get-content-md5"] = "true"
        checked = blob.md5 is None or blob.pieces == 1  # else the whole file is checked in the end
        digest = hashlib.md5()
        with self._answer("GET", name, headers=headers) as answer, part.open("r+b") as stream:
            stream.seek(start)
            for block in iter(lambda: answer.read(BLOCK, decode_content=False), b""):
                if checked:
                    digest.update(block)
                stream.write(block)
            whole = stream.tell() == end
        expected = base64(blob.md5) if blob.md5 else answer.headers.get("Content-MD5")
        if not whole or (checked and expected not in (None, base64(digest.digest()))):
            raise StorageError(502, "it arrived damaged")

    def _send(
        self,
        name: str,
        content: Iterable[bytes],
        size: int,
        md5: bytes,
        query: str = "",
        headers: Mapping[str, str] = {},
    ) -> None:
        """Send content. The service refuses it if its MD5 is wrong."""
        sent = {"Content-Length": str(size), "Content-MD5": base64(md5), **headers}
        self._request("PUT", name, content, query, sent)


class _Progress:
    def __init__(self, moved: Moved, total: int) -> None:
        self._moved, self._total, self._done = moved, total, 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._moved(self._done, self._total)


_Submit = Callable[..., "Future[Any]"]


@contextmanager
def _pool() -> Iterator[_Submit]:
    """Yield a pool for one transfer. When a task fails, the tasks that have not started are dropped."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="transfer")
    try:
        yield pool.submit
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _finish(futures: list[Future[T]]) -> list[T]:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        if error := future.exception():
            raise error
    return [future.result() for future in futures]


def _staged(client: BlobClient) -> set[str]:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return {block.id for block in client.get_block_list("uncommitted")[1]}
    except ResourceNotFoundError:
        return set()
