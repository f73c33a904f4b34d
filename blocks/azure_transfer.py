"""Files to blobs and back: parallel, resumable, MD5-checked, in little memory.

The SDK of Azure ML has transfers of its own; they load whole files into memory, one after another, and never end after
some faults. Here, files and pieces of large files go side by side, what is there already is not sent again, whatever
fails for a moment is tried again, and the signature that opens the container is renewed within its hour.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from mmap import mmap
from pathlib import Path, PurePosixPath
from queue import Queue
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlencode
from xml.etree import ElementTree

from blocks.azure_errors import StorageError, is_passing, is_refused, plain_errors
from jobs.errors import InvalidInput, NotFound, WorkspaceUnavailable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from azure.core.credentials import TokenCredential
    from azure.storage.blob import BlobClient
    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["Blob", "Container", "Moved", "md5s"]

PIECE = 8 << 20
"""Bytes of one request; most photos are less, and travel in one."""

_CHECKED_PIECE = 4 << 20  # the largest range of a blob of which the service tells the MD5:
# https://learn.microsoft.com/rest/api/storageservices/get-blob
_BLOCK = 1 << 18  # bytes that are in memory of a request on the way down
_COPIED_AT_ONCE = 256 << 20
"""Bytes of the largest blob that is copied within one request:
https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url"""

_PAGE = 5000  # blobs of one page of a listing, as many as the service gives
_THREADS = 16
_RENEW_SECONDS = 600.0  # before the end of a signature
_TOKEN_RENEW_SECONDS = 120.0  # before the end of a token: those of `az` and of a machine come from caches, part-used
_TRIES = 6
_TIMEOUT = (20.0, 60.0)  # seconds to connect, and between bytes

Moved = Callable[[int, int], None]
"""Called as bytes move, with how many are done and of how many; what was there already counts as done."""

Buffer = bytes | memoryview

T = TypeVar("T")

_buffers: Queue[mmap] = Queue()
"""What goes up, over all transfers: so much memory and no more, which the system gives once it is used."""
for _ in range(8):
    _buffers.put(mmap(-1, PIECE))


@dataclass(frozen=True)
class Blob:
    """A blob, by its name below the prefix that was listed; `md5` is None where storage was never told it."""

    path: str
    size: int
    md5: bytes | None
    etag: str
    age: float
    """Seconds since it was last written, by the store's clock."""
    committed: bool = True
    """False for one of which only blocks have come yet: its upload is under way, or was given up."""

    @property
    def piece(self) -> int:
        """Bytes of one request of a download: more where the whole blob's MD5 makes up for that of ranges."""
        return PIECE if self.md5 else _CHECKED_PIECE

    @property
    def pieces(self) -> int:
        """How many requests that takes."""
        return -(-self.size // self.piece)


def md5s(files: Mapping[str, Path]) -> dict[str, bytes]:
    """The MD5 of each file, read side by side.

    Raises:
        InvalidInput: a file is gone.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(files, pool.map(_md5, files.values()), strict=True))


class Container:
    """One blob container.

    Args:
        account_url: `https://<account>.blob.core.windows.net`.
        name: the container's.
        credential: a token credential; or a function that gives a new shared access signature, "?sv=…".
    """

    def __init__(self, account_url: str, name: str, credential: TokenCredential | Callable[[], str]) -> None:
        from azure.core.credentials import AzureSasCredential
        from azure.storage.blob import ContainerClient

        self._new_signature = credential if callable(credential) else None
        self._token = None if callable(credential) else credential
        self._renewing = threading.Lock()
        self._renewed = 0
        self._ends = 0.0  # of the signature, or of the token
        self._bears = ""
        self._url = f"{account_url.rstrip('/')}/{name}"
        self._connections = _connections(account_url)
        self._sas = AzureSasCredential("none yet")
        self._client = ContainerClient(
            account_url,
            name,
            credential=self._sas if self._new_signature else self._token,
            retry_total=0,  # every call goes through _persist, which also knows signatures
            connection_timeout=_TIMEOUT[0],
            read_timeout=_TIMEOUT[1],
        )

    # one blob

    def read(self, name: str, offset: int = 0) -> bytes:
        """Bytes of a blob from `offset`; none where it ends before.

        Raises:
            NotFound: there is no such blob.
        """
        with plain_errors(f"reading {name}"):
            try:
                return self._persist(lambda: self._send("GET", name, headers={"x-ms-range": f"bytes={offset}-"}))
            except StorageError as error:
                if error.status_code == 416:
                    return b""
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write a small blob, whether it is there or not."""
        with plain_errors(f"writing {name}"):
            self._persist(lambda: self._put(name, content, hashlib.md5(content).digest()))

    # many

    def blobs(self, prefix: str, most: int | None = None, uncommitted: bool = False) -> list[Blob]:
        """All blobs (or the first `most`) whose names begin with `prefix`, in the order of their names.

        With `uncommitted`, those too of which only blocks have come yet.
        """
        with plain_errors(f"listing {prefix}"):
            return list(itertools.islice(self._listing(prefix, most, uncommitted), most))

    def delete(self, prefix: str) -> None:
        """Delete all blobs whose names begin with `prefix`."""
        from azure.core.exceptions import ResourceNotFoundError

        def remove(blob: Blob) -> None:
            with suppress(ResourceNotFoundError):
                self._persist(lambda: self._client.delete_blob(prefix + blob.path))

        with plain_errors(f"deleting {prefix}"), ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(remove, self.blobs(prefix)))

    def copy(self, source: str, blobs: Iterable[Blob], target: str) -> None:
        """Copy blobs below `source` to the same paths below `target`, within the store; what is there is kept.

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
        """Files to blobs named `prefix` + path. Blobs of the same size and MD5, and blocks of large files, are kept.

        Raises:
            InvalidInput: a file vanishes or changes while it is read.
        """
        stamps = {path: _stamp(file) for path, file in files.items()}
        there = {blob.path: blob for blob in self.blobs(prefix)}
        todo = []
        progress = _Progress(moved, sum(size for size, _ in stamps.values()))
        for path in files:
            blob, size = there.get(path), stamps[path][0]
            if blob and blob.size == size and blob.md5 == sums[path]:
                progress.add(size)
            else:
                todo.append(path)

        def put(path: str) -> None:
            with _content(files[path], 0) as content:
                if hashlib.md5(content).digest() != sums[path]:
                    raise _changed(files[path])
                self._persist(lambda: self._put(prefix + path, content, sums[path]))
                progress.add(len(content))

        with plain_errors(f"uploading to {prefix}"), _pool() as submit:
            small = [submit(put, path) for path in todo if stamps[path][0] <= PIECE]
            large = {
                path: self._stage_all(submit, prefix + path, files[path], stamps[path][0], progress)
                for path in todo
                if stamps[path][0] > PIECE
            }
            _finish(small)
            for path, blocks in large.items():
                staged = _finish(blocks)
                if _stamp(files[path]) != stamps[path]:
                    raise _changed(files[path])
                self._persist(partial(self._commit, prefix + path, staged, sums[path]))

    def download(self, prefix: str, folder: Path, moved: Moved) -> None:
        """All blobs below `prefix` to files below `folder`; what is there already is kept.

        A file has its name only once it is whole and its MD5 is right.

        Raises:
            NotFound: there is nothing below `prefix`, or a blob vanished.
        """
        blobs = self.blobs(prefix)
        if not blobs:
            raise NotFound(f"there is nothing at {prefix} any more.")
        progress = _Progress(moved, sum(blob.size for blob in blobs))
        todo = []
        for blob in blobs:
            target = _below(folder, blob.path)
            if target.is_file() and target.stat().st_size == blob.size:
                progress.add(blob.size)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                todo.append((blob, target))

        with plain_errors(f"downloading {prefix}"), _pool() as submit:
            _finish([piece for blob, target in todo for piece in self._get_all(submit, prefix, blob, target, progress)])

    # pieces of large files

    def _stage_all(self, submit: _Submit, name: str, file: Path, size: int, progress: _Progress) -> list[Future[str]]:
        """A block of each piece; its ID holds the MD5 of its content, so that a block of an earlier try can be kept."""
        staged = self._persist(lambda: _staged(self._client.get_blob_client(name)))

        def stage(index: int) -> str:
            with _content(file, index * PIECE) as content:
                md5 = hashlib.md5(content)
                block = f"{index:08}{md5.hexdigest()}"
                if block not in staged:
                    self._persist(lambda: self._stage(name, block, content, md5.digest()))
                progress.add(len(content))
            return block

        return [submit(stage, index) for index in range(-(-size // PIECE))]

    def _get_all(
        self, submit: _Submit, prefix: str, blob: Blob, target: Path, progress: _Progress
    ) -> list[Future[None]]:
        """Each piece into its place in the unfinished file; a journal beside it tells an interrupted try's pieces.

        The last piece to come checks the file and gives it its name.
        """
        name, part = prefix + blob.path, _part(target)
        done = _read_journal(part, blob)
        left = set(range(blob.pieces)) - done
        with part.open("r+b" if done else "wb") as stream:
            stream.truncate(blob.size)
        lock = threading.Lock()

        def get(index: int) -> None:
            self._persist(lambda: self._receive(name, blob, index, part))
            with lock:
                left.remove(index)
                last = not left
                if not last:
                    with _journal(part).open("a") as journal:
                        journal.write(f"{blob.etag} {index}\n")
            progress.add(min(blob.piece, blob.size - index * blob.piece))
            if last:
                finish()

        def finish() -> None:
            _journal(part).unlink(missing_ok=True)
            if blob.pieces > 1 and blob.md5 and _md5(part) != blob.md5:
                part.unlink()
                raise WorkspaceUnavailable(f"{name} arrived damaged. Try again.")
            part.replace(target)

        progress.add(sum(min(blob.piece, blob.size - index * blob.piece) for index in done))
        return [submit(get, index) for index in sorted(left)] or [submit(finish)]

    # single requests

    def _listing(self, prefix: str, most: int | None, uncommitted: bool) -> Iterator[Blob]:
        """Page by page: https://learn.microsoft.com/rest/api/storageservices/list-blobs"""
        marker: str | None = ""
        while marker is not None:
            asked = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            asked["include"] = "metadata,uncommittedblobs" if uncommitted else "metadata"
            asked["maxresults"] = str(min(most or _PAGE, _PAGE))
            query = "?" + urlencode({name: value for name, value in asked.items() if value})
            headers, page = self._persist(partial(self._request, "GET", "", query=query))
            now = parsedate_to_datetime(headers["Date"])
            parsed = ElementTree.fromstring(page)
            for found in parsed.iterfind("Blobs/Blob"):
                if found.findtext("Metadata/hdi_isfolder") != "true":  # how mounted folders leave traces
                    yield _blob(found, prefix, now)
            marker = parsed.findtext("NextMarker") or None

    def _copy(self, source: str, blob: Blob, target: str) -> None:
        """At once where the service does that, else begun and waited for."""
        url = f"{self._url}/{quote(source)}"
        headers = {"x-ms-source-if-match": blob.etag}
        if self._token is None:
            url += f"?{self._sas.signature}"
        elif blob.size <= _COPIED_AT_ONCE:
            headers["x-ms-copy-source-authorization"] = self._bearer()
        if blob.size <= _COPIED_AT_ONCE:
            headers["x-ms-requires-sync"] = "true"
        state = self._request("PUT", target, headers={**headers, "x-ms-copy-source": url})[0]["x-ms-copy-status"]
        while state == "pending":
            time.sleep(1)
            state = self._request("HEAD", target)[0]["x-ms-copy-status"]
        if state != "success":
            raise StorageError(502, f"copying ended as {state}")

    def _put(self, name: str, content: Buffer, md5: bytes) -> None:
        self._send("PUT", name, content, headers={"x-ms-blob-type": "BlockBlob", "Content-MD5": _base64(md5)})

    def _stage(self, name: str, block: str, content: Buffer, md5: bytes) -> None:
        query = f"?comp=block&blockid={quote(_base64(block.encode()), safe='')}"
        self._send("PUT", name, content, query, {"Content-MD5": _base64(md5)})

    def _commit(self, name: str, blocks: Iterable[str], md5: bytes) -> None:
        from azure.storage.blob import BlobBlock, ContentSettings

        self._client.get_blob_client(name).commit_block_list(
            [BlobBlock(block) for block in blocks], content_settings=ContentSettings(content_md5=bytearray(md5))
        )

    def _receive(self, name: str, blob: Blob, index: int, part: Path) -> None:
        """One piece of a blob into its place, checked by the MD5 of the whole blob if it is that, else of the range."""
        start, end = index * blob.piece, min((index + 1) * blob.piece, blob.size)
        headers = {"x-ms-range": f"bytes={start}-{end - 1}", "If-Match": blob.etag}
        if blob.md5 is None:
            headers["x-ms-range-get-content-md5"] = "true"
        checked = blob.md5 is None or blob.pieces == 1  # else the whole file is, once it has come
        digest = hashlib.md5()
        with self._answer("GET", name, headers=headers) as answer, part.open("r+b") as stream:
            stream.seek(start)
            for block in iter(lambda: answer.read(_BLOCK, decode_content=False), b""):
                if checked:
                    digest.update(block)
                stream.write(block)
            whole = stream.tell() == end
        told = _base64(blob.md5) if blob.md5 else answer.headers.get("Content-MD5")
        if not whole or (checked and told not in (None, _base64(digest.digest()))):
            raise StorageError(502, "it arrived damaged")

    def _send(
        self, method: str, name: str, body: Buffer = b"", query: str = "", headers: Mapping[str, str] = {}
    ) -> bytes:
        """One request for a blob's content, and the whole answer."""
        return self._request(method, name, body, query, headers)[1]

    def _request(
        self, method: str, name: str, body: Buffer = b"", query: str = "", headers: Mapping[str, str] = {}
    ) -> tuple[Mapping[str, str], bytes]:
        """The headers and the body of an answer."""
        with self._answer(method, name, body, query, headers) as answer:
            return answer.headers, answer.read(decode_content=False)

    @contextmanager
    def _answer(
        self, method: str, name: str, body: Buffer = b"", query: str = "", headers: Mapping[str, str] = {}
    ) -> Iterator[BaseHTTPResponse]:
        """One request for a blob, or for the container where `name` is empty; its answer is read inside.

        The storage SDK spends 4 ms of CPU on each request, four times what this takes: with hundreds of photos it,
        and not the network, would set the pace. A listing, too, costs it four times the CPU (`benchmarks/listing.md`).
        """
        sent = {"x-ms-version": "2023-11-03", "x-ms-date": formatdate(usegmt=True), **headers}
        if self._token:
            sent["Authorization"] = self._bearer()
        else:
            query += f"{'&' if query else '?'}{self._sas.signature}"
        url = f"{self._url}{'/' if name else ''}{quote(name)}{query}"
        content: Any = body  # any buffer is taken, unlike what the types say
        answer = self._connections.request(method, url, body=content, headers=sent, preload_content=False)
        try:
            if answer.status >= 300:
                raise StorageError(answer.status, answer.headers.get("x-ms-error-code", ""))
            yield answer
            answer.drain_conn()
        except BaseException:
            answer.close()  # what is left of it would be read as the next answer
            raise
        finally:
            answer.release_conn()

    def _bearer(self) -> str:
        """A token for storage, asked for once in its life: `az` takes a second for each."""
        assert self._token
        with self._renewing:
            if time.time() > self._ends - _TOKEN_RENEW_SECONDS:
                got = self._token.get_token("https://storage.azure.com/.default")
                self._bears, self._ends = f"Bearer {got.token}", float(got.expires_on)
            return self._bears

    def _persist(self, call: Callable[[], T]) -> T:
        """The call's result, tried again after what passes: a busy server, a cut body, a signature that ran out."""
        for attempt in range(1, _TRIES + 1):
            renewed = self._sign()
            try:
                return call()
            except Exception as error:
                refused = is_refused(error) and self._new_signature is not None and attempt <= 2
                if attempt == _TRIES or not (refused or is_passing(error)):
                    raise
                if refused:
                    self._sign(instead_of=renewed)
                else:
                    time.sleep(random.uniform(0.5, 1.0) * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _sign(self, instead_of: int | None = None) -> int:
        """See to a signature that is good for a while; `instead_of` is the number of one that was refused."""
        if self._new_signature is None:
            return 0
        with self._renewing:
            if time.time() > self._ends - _RENEW_SECONDS or instead_of == self._renewed:
                signature = self._new_signature().lstrip("?")
                self._sas.update(signature)
                self._ends = _end(signature)
                self._renewed += 1
            return self._renewed


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
    """Threads for one transfer; what has not begun is dropped when something fails."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="transfer")
    try:
        yield pool.submit
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def _content(file: Path, start: int) -> Iterator[memoryview]:
    """The bytes of one request from a place in a file, once there is memory for them."""
    buffer = _buffers.get()
    try:
        with file.open("rb") as stream:  # buffered: it reads on where a slow disk gives less at once
            stream.seek(start)
            whole = memoryview(buffer)
            yield whole[: stream.readinto(whole)]
    except FileNotFoundError:
        raise _vanished(file) from None
    finally:
        _buffers.put(buffer)


def _finish(futures: list[Future[T]]) -> list[T]:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        if error := future.exception():
            raise error
    return [future.result() for future in futures]


def _blob(found: Element, prefix: str, now: datetime) -> Blob:
    name = found.find("Name")
    assert name is not None
    path = name.text or ""
    if name.get("Encoded") == "true":  # it has characters that XML does not take
        path = unquote(path)
    md5, modified = found.findtext("Properties/Content-MD5"), found.findtext("Properties/Last-Modified")
    return Blob(
        path[len(prefix) :],
        int(found.findtext("Properties/Content-Length") or 0),
        b64decode(md5) if md5 else None,
        found.findtext("Properties/Etag") or "",
        (now - parsedate_to_datetime(modified)).total_seconds() if modified else 0.0,
        found.find("Properties/Content-Type") is not None,  # all committed ones have a type
    )


def _staged(client: BlobClient) -> set[str]:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return {block.id for block in client.get_block_list("uncommitted")[1]}
    except ResourceNotFoundError:
        return set()


def _connections(url: str) -> PoolManager:
    """Connections by way of the proxy and with the certificates that the environment names, looked up only once."""
    from requests import Session
    from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
    from urllib3 import PoolManager, ProxyManager, Timeout, make_headers
    from urllib3.util import parse_url

    settings = Session().merge_environment_settings(url, {}, None, None, None)
    options: dict[str, Any] = {
        "ca_certs": DEFAULT_CA_BUNDLE_PATH if settings["verify"] is True else settings["verify"],
        "maxsize": _THREADS,
        "retries": False,
        "timeout": Timeout(*_TIMEOUT),
    }
    proxy = select_proxy(url, settings["proxies"])
    if not proxy:
        return PoolManager(**options)
    access = parse_url(proxy).auth
    return ProxyManager(proxy, proxy_headers=make_headers(proxy_basic_auth=access) if access else None, **options)


def _base64(content: bytes) -> str:
    return b64encode(content).decode()


def _end(signature: str) -> float:
    """When a shared access signature ends, as seconds since 1970; in an hour where it does not say."""
    try:
        ends = datetime.fromisoformat(parse_qs(signature)["se"][0].replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return time.time() + 3600
    return ends.replace(tzinfo=ends.tzinfo or timezone.utc).timestamp()


def _below(folder: Path, path: str) -> Path:
    """The file for a blob, which never lies outside the folder, whatever the blob's name."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or PurePosixPath(path).is_absolute():
        raise InvalidInput(f"a blob is named {path!r}, which is no place below a folder. Rename or delete it.")
    return folder.joinpath(*parts)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _journal(part: Path) -> Path:
    return part.with_suffix(".done")


def _read_journal(part: Path, blob: Blob) -> set[int]:
    """The pieces of this very blob that an interrupted download has left in place."""
    if not part.exists() or part.stat().st_size != blob.size:
        return set()
    try:
        lines = [line.rpartition(" ") for line in _journal(part).read_text().splitlines(keepends=True)]
    except FileNotFoundError:
        return set()
    return {int(index) for etag, _, index in lines if etag == blob.etag and index.endswith("\n")}


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except FileNotFoundError:
        raise _vanished(file) from None
    return stat.st_size, stat.st_mtime_ns


def _vanished(file: Path) -> InvalidInput:
    return InvalidInput(f"{file} vanished while it was read. Is an upload or a clean-up going on?")


def _changed(file: Path) -> InvalidInput:
    return InvalidInput(f"{file} changed while it was read. Is it still being written? Wait for its end.")


def _md5(file: Path) -> bytes:
    digest = hashlib.md5()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        raise _vanished(file) from None
    return digest.digest()
