"""The stand-in for BlobFuse2 of `tests/mounts.py`: `python mount_stand_in.py STORAGE CACHE MOUNT REQUESTS`.

It does what BlobFuse2 2.5 with its file cache was seen to do on Azurite: a file that is opened for writing is empty in
storage at once; what is written is kept on the node, and stored as a whole when a descriptor of the file is flushed,
which fsync and each close do; a rename is a copy and a delete; there are no hard links
(https://github.com/Azure/azure-storage-fuse). After so many requests to storage the node is lost, and with it what was
not stored.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import mfusepy


class _Node(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, storage: str, cache: str, requests: int) -> None:
        self._storage, self._cache, self._left = storage, cache, requests
        self._dirty: set[str] = set()

    def _request(self) -> None:
        """Send a request to the storage, unless the node is lost."""
        if self._left == 0:
            os._exit(1)
        self._left -= 1

    def _put(self, path: str, content: Path) -> None:
        # its blocks, which nobody sees, then the list of them, which makes them the blob
        self._request()
        part = Path(self._storage).with_name("uncommitted")
        shutil.copyfile(content, part)
        self._request()
        part.replace(self._storage + path)

    def _cached(self, path: str) -> str:
        if not os.path.exists(self._cache + path):
            os.makedirs(os.path.dirname(self._cache + path), exist_ok=True)
            shutil.copyfile(self._storage + path, self._cache + path)
        return self._cache + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        seen = os.lstat(self._cache + path if path in self._dirty else self._storage + path)
        names = ("st_mode", "st_size", "st_nlink", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
        return {name.removesuffix("_ns"): getattr(seen, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._storage + path)]

    def mkdir(self, path: str, mode: int) -> int:
        self._request()
        os.mkdir(self._storage + path)
        return 0

    def rmdir(self, path: str) -> int:
        self._request()
        os.rmdir(self._storage + path)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._request()
        Path(self._storage + path).touch()
        os.makedirs(os.path.dirname(self._cache + path), exist_ok=True)
        return os.open(self._cache + path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._cached(path), os.O_RDWR)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._dirty.add(path)
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._cached(path), length)
        self._put(path, Path(self._cache + path))
        return 0

    def flush(self, path: str, fh: int) -> int:
        if path in self._dirty:
            self._put(path, Path(self._cache + path))
            self._dirty.discard(path)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        return self.flush(path, fh)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def unlink(self, path: str) -> int:
        self._request()
        os.unlink(self._storage + path)
        Path(self._cache + path).unlink(missing_ok=True)
        self._dirty.discard(path)
        return 0

    def rename(self, old: str, new: str) -> int:
        if os.path.isdir(self._storage + old):
            raise mfusepy.FuseOSError(errno.ENOTSUP)
        self._put(new, Path(self._storage + old))
        self._request()
        os.unlink(self._storage + old)
        for path in (old, new):
            Path(self._cache + path).unlink(missing_ok=True)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        return 0


if __name__ == "__main__":
    storage, cache, mount, requests = sys.argv[1:]
    mfusepy.FUSE(_Node(storage, cache, int(requests)), mount, foreground=True, nothreads=True, hard_remove=True)
