"""Store the checkpoints of a training in a folder that may be blob storage behind a mount.

Such a mount guarantees less than a disk. BlobFuse2 2.5 shows a file as empty as soon as it is opened for writing. It
may store a part of a file whenever a copy of its descriptor is closed, for example by a process that starts meanwhile.
It renames a file by copying and deleting it (https://github.com/Azure/azure-storage-fuse, BlockBlob.RenameFile and
FileCache.FlushFile). When a machine is lost, the data that it had not stored yet is lost, too.

Therefore nothing here is renamed or overwritten. Each checkpoint is a new file, a small file with its checksum follows,
and a reader trusts only that checksum.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs import manifest

__all__ = ["KEPT", "Checkpoints", "content_of", "write_new_file"]

KEPT = 2

_NAME = re.compile(r"step-\d{9}(?:-(?P<training>.{8})-[0-9a-f]{8})?")


class _About(BaseModel):
    """The content of the JSON file beside a checkpoint. The first version did not write `bytes`."""

    model_config = ConfigDict(frozen=True)

    step: int
    fingerprint: str
    sha256: str
    bytes: int | None = None


class Checkpoints:
    """The newest checkpoints of one training.

    Each is a file `step-<step>-<training>-<random>.ckpt`, and a JSON file of the same name, which is written after it.
    The first version named them `step-<step>`; these are read, too. Other files and the checkpoints of other trainings
    are left alone.

    Args:
        folder: the folder of the checkpoints, created if missing.
        fingerprint: of everything that decides the result of the training.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self._whole: list[str] = []
        """The names of the newest checkpoints that this process has read completely, by step."""
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._saving: Future[None] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def save_meanwhile(self, step: int, state: dict[str, Any]) -> None:
        """Copy a state, and save it as a checkpoint in another thread, after the previous checkpoint.

        Raises:
            OSError: the previous checkpoint could not be written.
        """
        self.wait()
        state = _copy(state)
        ready = torch.cuda.Event() if torch.cuda.is_available() else None
        if ready:
            ready.record()
        self._saving = self._writer.submit(self._save_from, ready, step, state)

    def wait(self) -> None:
        """Wait until the checkpoint of `save_meanwhile` is written.

        Raises:
            OSError: it could not be written.
        """
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def _save_from(self, ready: torch.cuda.Event | None, step: int, state: dict[str, Any]) -> None:
        if ready is None:
            self.save(step, state)
            return
        ready.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):  # on the default stream, copies would wait for the steps ahead
            self.save(step, state)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint, unless this step is saved. Then delete all but the newest two that can be read."""
        if self._whole and self._whole[-1].startswith(f"step-{step:09d}"):
            return
        content = content_of(state)
        name = f"step-{step:09d}-{self._fingerprint[:8]}-{secrets.token_hex(4)}"
        write_new_file(content, self._folder / f"{name}.ckpt")
        about = _About(step=step, fingerprint=self._fingerprint, sha256=sha256(content).hexdigest(), bytes=len(content))
        write_new_file(about.model_dump_json().encode(), self._folder / f"{name}.json")
        if not self._is_whole(name):
            return
        self._whole = [*self._whole, name][-KEPT:]
        if len(self._whole) == KEPT:
            for old in (name for name in self._names() if name < self._whole[0]):
                for ending in (".json", ".ckpt"):
                    (self._folder / f"{old}{ending}").unlink(missing_ok=True)

    def newest(self) -> dict[str, Any] | None:
        """Return the state of the newest complete checkpoint, or None."""
        for name in self._names():
            if self._is_whole(name):
                self._whole = [name]
                file = self._folder / f"{name}.ckpt"
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
                return state
        return None

    def _names(self) -> list[str]:
        """Return the names of this training's checkpoints, newest first, including incomplete ones."""
        names = {file.stem for file in self._folder.glob("step-*") if file.suffix in (".ckpt", ".json")}
        return sorted(filter(self._is_own, names), reverse=True)

    def _is_own(self, name: str) -> bool:
        if not (match := _NAME.fullmatch(name)):
            return False
        if match["training"]:
            return match["training"] == self._fingerprint[:8]
        about = self._about(name)
        return about is not None and about.fingerprint == self._fingerprint

    def _is_whole(self, name: str) -> bool:
        """Return whether a checkpoint matches its JSON file, and print a line if it does not."""
        file = self._folder / f"{name}.ckpt"
        about = self._about(name)
        try:
            if (
                about is not None
                and about.fingerprint == self._fingerprint
                and about.bytes in (None, file.stat().st_size)
                and about.sha256 == manifest.checksum(file)
            ):
                return True
        except OSError:
            pass
        print(f"The checkpoint {file} is incomplete and is ignored.", flush=True)
        return False

    def _about(self, name: str) -> _About | None:
        try:
            return _About.model_validate_json((self._folder / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None


def _copy(value: Any) -> Any:
    """Copy a state. NumPy's scalars become Python's, so that `torch.load` needs no unpickling of objects."""
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copy(each) for each in value)
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value.item() if isinstance(value, np.generic) else value


def content_of(state: dict[str, Any]) -> memoryview:
    """Return what `torch.save` would write. If Python writes the file, a full disk is a distinct error."""
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getbuffer()


def write_new_file(content: bytes | memoryview, file: Path) -> None:
    """Write a new file durably. After an error, the file does not exist."""
    try:
        with file.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        file.unlink(missing_ok=True)
        raise
