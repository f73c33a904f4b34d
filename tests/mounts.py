"""Blob storage as a folder: BlobFuse2 on Azurite where it is installed, and a stand-in for it on FUSE.

The stand-in, which this file serves as a program, does what BlobFuse2 2.5 with its file cache was seen to do on
Azurite: a file that is opened for writing is empty in storage at once; what is written is kept on the node, and
stored as a whole when a descriptor of the file is flushed, which fsync and each close do; a rename is a copy and a
delete; there are no hard links (https://github.com/Azure/azure-storage-fuse). After so many requests to storage the
node is lost, and with it what was not stored.
"""

from __future__ import annotations

import ctypes.util
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

__all__ = ["BlobFuse", "Mount", "StandIn"]


class Mount(ABC):
    """A container of blobs as a folder of a node. The node can be lost, and another take its place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mount"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.path.mkdir(parents=True)

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks for it, in words."""
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "FUSE cannot be used here: no access to /dev/fuse"
        return None if shutil.which("fusermount3") else "fusermount3 is not installed (Debian: apt-get install fuse3)"

    def start(self, requests: int | None = None) -> None:
        """Mount it on a new node, whose cache is empty; that is lost after so many requests, if the kind can do so."""
        cache = self._folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(cache, requests),
                cwd=cache,  # BlobFuse2 2.5.6 renames in it what it takes for its cache, if it has none on disk
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not os.path.ismount(self.path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.lose()
                raise RuntimeError(f"it was not mounted: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    @property
    def lost(self) -> bool:
        """Whether the node is gone."""
        return self._process is None or self._process.poll() is not None

    def lose(self) -> None:
        """Lose the node, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        subprocess.run(["fusermount3", "-uzq", self.path], check=False, stderr=subprocess.DEVNULL)

    @abstractmethod
    def _command(self, cache: Path, requests: int | None) -> list[str]: ...


class StandIn(Mount):
    """The stand-in; `storage` is the folder with what is stored."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.storage = folder / "storage"
        self.storage.mkdir()

    @staticmethod
    def missing() -> str | None:
        if importlib.util.find_spec("mfusepy") is None or not ctypes.util.find_library("fuse3"):
            return "mfusepy and libfuse3 are not installed (pip install mfusepy; Debian: apt-get install fuse3)"
        return Mount.missing()

    def _command(self, cache: Path, requests: int | None) -> list[str]:
        left = "-1" if requests is None else str(requests)
        return [sys.executable, __file__, str(self.storage), str(cache), str(self.path), left]


class BlobFuse(Mount):
    """BlobFuse2 on an Azurite, by its address and the account's name and key; the container must be there."""

    def __init__(self, folder: Path, endpoint: str, account: str, key: str, container: str, cache: str) -> None:
        super().__init__(folder)
        components = f"components: [libfuse, {cache}, attr_cache, azstorage]"
        self._settings = f"""
            logging: {{type: base, level: log_err, file-path: {folder / "blobfuse2.log"}}}
            {components}
            file_cache: {{path: {folder / "cache"}, timeout-sec: 120, max-size-mb: 1000}}
            block_cache: {{path: {folder / "cache"}, disk-size-mb: 1000, disk-timeout-sec: 60, block-size-mb: 4,
                          mem-size-mb: 256, prefetch: 12, parallelism: 4}}
            attr_cache: {{timeout-sec: 120}}
            azstorage: {{type: block, account-name: {account}, account-key: {key}, mode: key, container: {container},
                        endpoint: "{endpoint}"}}
            """

    @staticmethod
    def missing() -> str | None:
        return Mount.missing() if shutil.which("blobfuse2") else "blobfuse2 is not installed"

    def _command(self, cache: Path, requests: int | None) -> list[str]:
        assert requests is None, "BlobFuse2 cannot be lost at a request"
        file = self._folder / "config.yaml"
        file.write_text(self._settings)
        file.chmod(0o600)  # the account's key
        program = shutil.which("blobfuse2")
        assert program
        return [program, "mount", str(self.path), f"--config-file={file}", "--foreground", "--disable-version-check"]


def serve(storage: str, cache: str, mount: str, requests: str) -> None:
    """Serve the stand-in until it is unmounted or lost."""
    import mfusepy

    left = int(requests)

    class Node(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self._dirty: set[str] = set()

        def _request(self) -> None:
            """Tell storage something, unless the node is lost."""
            nonlocal left
            if left == 0:
                os._exit(1)
            left -= 1

        def _put(self, path: str, content: Path) -> None:
            # its blocks, which nobody sees, then the list of them, which makes them the blob
            self._request()
            part = Path(storage).with_name("uncommitted")
            shutil.copyfile(content, part)
            self._request()
            part.replace(storage + path)

        def _cached(self, path: str) -> str:
            if not os.path.exists(cache + path):
                os.makedirs(os.path.dirname(cache + path), exist_ok=True)
                shutil.copyfile(storage + path, cache + path)
            return cache + path

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            seen = os.lstat(cache + path if path in self._dirty else storage + path)
            names = ("st_mode", "st_size", "st_nlink", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns", "st_ctime_ns")
            return {name.removesuffix("_ns"): getattr(seen, name) for name in names}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(storage + path)]

        def mkdir(self, path: str, mode: int) -> int:
            self._request()
            os.mkdir(storage + path)
            return 0

        def rmdir(self, path: str) -> int:
            self._request()
            os.rmdir(storage + path)
            return 0

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            self._request()
            Path(storage + path).touch()
            os.makedirs(os.path.dirname(cache + path), exist_ok=True)
            return os.open(cache + path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

        def open(self, path: str, flags: int) -> int:
            return os.open(self._cached(path), os.O_RDWR)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._dirty.add(path)
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            os.truncate(self._cached(path), length)
            self._put(path, Path(cache + path))
            return 0

        def flush(self, path: str, fh: int) -> int:
            if path in self._dirty:
                self._put(path, Path(cache + path))
                self._dirty.discard(path)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            return self.flush(path, fh)

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

        def unlink(self, path: str) -> int:
            self._request()
            os.unlink(storage + path)
            Path(cache + path).unlink(missing_ok=True)
            self._dirty.discard(path)
            return 0

        def rename(self, old: str, new: str) -> int:
            if os.path.isdir(storage + old):
                raise mfusepy.FuseOSError(errno.ENOTSUP)
            self._put(new, Path(storage + old))
            self._request()
            os.unlink(storage + old)
            for path in (old, new):
                Path(cache + path).unlink(missing_ok=True)
            return 0

        def chmod(self, path: str, mode: int) -> int:
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            return 0

        def utimens(self, path: str, times: Any = None) -> int:
            return 0

    mfusepy.FUSE(Node(), mount, foreground=True, nothreads=True, hard_remove=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
