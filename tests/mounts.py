"""Blob storage as a folder: BlobFuse2 on Azurite where it is installed, and a stand-in for it on FUSE."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

__all__ = ["BlobFuse", "Mount", "StandIn"]

_STAND_IN = Path(__file__).with_name("mount_stand_in.py")


class Mount(ABC):
    """A container of blobs as a folder of a node. The node can be lost, and another take its place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mount"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.path.mkdir(parents=True)

    @staticmethod
    def missing() -> str | None:
        """Return what this machine lacks for it, in words; None if it lacks nothing."""
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "FUSE cannot be used here: no access to /dev/fuse"
        return None if shutil.which("fusermount3") else "fusermount3 is not installed (Debian: apt-get install fuse3)"

    def start(self, requests: int | None = None) -> None:
        """Mount it on a new node with an empty cache. The stand-in's node is lost after so many requests."""
        cache = self._folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(cache, requests),
                cwd=cache,  # without a cache on disk, BlobFuse2 2.5.6 renames files in its working folder
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
        """Return whether the node is gone."""
        return self._process is None or self._process.poll() is not None

    def lose(self) -> None:
        """Kill the node."""
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
        return [sys.executable, str(_STAND_IN), str(self.storage), str(cache), str(self.path), left]


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
